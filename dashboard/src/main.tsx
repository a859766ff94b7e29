// The dashboard's frame: who is signed in, where one is, and the page that belongs there.
import { effect } from "@preact/signals";
import { render } from "preact";
import { lazy, Suspense } from "preact/compat";
import { useEffect, useRef } from "preact/hooks";
import { type Account, ApiError, get, whenSignedOut, write } from "./api";
import { forgetMade } from "./call";
import { clock } from "./format";
import { account, away, connection, lost, may, pages, signedIn, start, stop } from "./live";
import { CreatePage } from "./pages/create";
import { EventsPage } from "./pages/events";
import { FunctionPage } from "./pages/function";
import { FunctionsPage } from "./pages/functions";
import { LayersPage } from "./pages/layers";
import { PoolPage } from "./pages/pool";
import { SignIn } from "./pages/signin";
import { SystemPage } from "./pages/system";
import { Link, path } from "./router";
import { wake } from "./stream";
import { choose, theme } from "./theme";
import { Confirmation, Empty, Loading, say, Toasts } from "./ui";

const DocsPage = lazy(() => import("./pages/docs").then((page) => page.DocsPage));

const HOME = "/dashboard/";

async function whoAmI() {
  try {
    const now = await get<Account | null>("/dashboard/session");
    if (now) signedIn(now);
    else if (!lost.value) account.value = null;
  } catch (error) {
    if (lost.value) return;
    account.value = null;
    if (!(error instanceof ApiError && error.status === 401)) say((error as Error).message, true);
  }
}

async function signOut() {
  await write("DELETE", "/dashboard/session").catch(() => {});
  forgetMade();
  account.value = null;
}

// What is on the page may be worth something: it stays, out of sight, for whoever signs in again.
whenSignedOut(() => {
  if (!account.value || lost.value) return;
  lost.value = true;
  // Unless another page has a new session meanwhile.
  void whoAmI();
});
pages.onmessage = () => lost.value && void whoAmI();

effect(() => {
  if (!account.value) stop();
  else if (!lost.value) start();
});

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function page(at: string) {
  const parts = at.replace(/^\/dashboard\/?/, "").split("/").filter(Boolean).map(decoded);
  const [first, second, third] = parts;
  if (at === "/docs" || at.startsWith("/docs/")) return <DocsPage />;
  if (!first || first === "functions") {
    return second ? <FunctionPage key={second} name={second} tab={third ?? "code"} /> : <FunctionsPage />;
  }
  if (first === "create") return <CreatePage />;
  if (first === "layers") return <LayersPage />;
  if (first === "queue") return <EventsPage />;
  if (first === "pool") return <PoolPage />;
  if (first === "system") return <SystemPage />;
  return (
    <Empty title="There is nothing here">
      <p>
        <Link to={HOME}>All functions</Link>
      </p>
    </Empty>
  );
}

function Header() {
  const at = path.value;
  const items: [string, string, boolean][] = [
    [HOME, "Functions", at === HOME || at.startsWith("/dashboard/functions") || at === "/dashboard/create"],
    ["/dashboard/layers", "Layers", at === "/dashboard/layers"],
    ["/dashboard/queue", "Events", at === "/dashboard/queue"],
    ["/dashboard/pool", "Pool", at === "/dashboard/pool"],
    ["/dashboard/system", "System", at === "/dashboard/system"],
    ["/docs", "API", at.startsWith("/docs")],
  ];
  const live = { open: "Live", connecting: "Connecting", waiting: "Not connected" }[connection.value];
  return (
    <header class="top">
      <Link to={HOME} class="brand" aria-label="Hearth, all functions">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <path d="M16.500 3c.8 5.200-2.300 7.300-4.900 10.700C9.700 16.300 8 18.700 8 22a8 8 0 0 0 8 8 8 8 0 0 0 8-8.200c0-3.600-1.700-6-3.500-8.200-.3 2-1 3.300-2.400 4C18.600 12.200 17.900 6.800 16.500 3Z" />
        </svg>
        <span>Hearth</span>
      </Link>
      <nav aria-label="Main">
        {items.map(([to, label, current]) => (
          <Link key={to} to={to} aria-current={current ? "page" : undefined}>
            {label}
          </Link>
        ))}
      </nav>
      <div class="who">
        {may("deploy") && (
          <span class={`live ${connection.value}`} role="status">
            <i aria-hidden="true" />
            <span class="wide">{live}</span>
            <span class="sr narrow">{live}</span>
          </span>
        )}
        <label class="sr" for="theme">
          Colours
        </label>
        <select id="theme" class="quiet" value={theme.value} onChange={(event) => choose(event.currentTarget.value)}>
          <option value="auto">Auto</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
        <button type="button" class="quiet" onClick={signOut} title={`Signed in with the key ${account.value?.name ?? ""}`}>
          Sign out
        </button>
      </div>
    </header>
  );
}

/** Tabs of a function are one page. */
const place = (at: string) => at.split("/").slice(0, at.startsWith("/dashboard/functions/") ? 4 : 3).join("/");

/** Another page begins at its heading, for who hears it and for who goes on by keyboard; until that is there, at its beginning. */
function useBeginning(at: string) {
  const before = useRef(at);
  useEffect(() => {
    const main = document.getElementById("main");
    if (!main || before.current === at) return;
    before.current = at;
    const within = document.activeElement;
    // The page has put it somewhere itself.
    if (within && within !== main && main.contains(within)) return;
    const begin = () => {
      const heading = main.querySelector("h1");
      if (heading) heading.tabIndex = -1;
      (heading ?? main).focus({ preventScroll: true });
      return !!heading;
    };
    if (begin()) return;
    const loaded = new MutationObserver(() => (document.activeElement !== main || begin()) && loaded.disconnect());
    loaded.observe(main, { childList: true, subtree: true });
    return () => loaded.disconnect();
  }, [at]);
}

/** Said on every page, so that nobody takes what is old for what is. */
function Away() {
  const since = away.value;
  return since ? (
    <div class="notice away" role="alert">
      <span>
        <b>Hearth does not answer.</b> What is shown is as it was at {clock(since.toISOString())}. The page goes on by itself when Hearth is back.
      </span>
      <button type="button" class="small" onClick={wake}>
        Try now
      </button>
    </div>
  ) : null;
}

function App() {
  useEffect(() => void whoAmI(), []);
  useBeginning(place(path.value));
  if (account.value === undefined) return <Loading what="the dashboard" />;
  if (account.value === null) {
    return (
      <>
        <SignIn />
        <Toasts />
      </>
    );
  }
  return (
    <>
      {lost.value && <SignIn />}
      <div hidden={lost.value}>
        <a class="skip" href="#main">
          Skip to the page
        </a>
        <Header />
        <main id="main" tabIndex={-1}>
          <Away />
          <Suspense fallback={<Loading what="the page" />}>{page(path.value)}</Suspense>
        </main>
        <Confirmation />
      </div>
      <Toasts />
    </>
  );
}

const app = document.getElementById("app");
if (app) {
  app.replaceChildren();
  render(<App />, app);
}
