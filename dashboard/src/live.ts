// What goes on, followed once for all pages: one connection, closed while nobody looks.
import { signal } from "@preact/signals";
import { type Account, allFunctions, ApiError, type Fn, get, type Overview, type Pool, type Runtime, type Traffic } from "./api";
import { follow, type State, wake } from "./stream";

export const account = signal<Account | null | undefined>(undefined);
export const functions = signal<Fn[] | undefined>(undefined);
export const functionsError = signal<string>("");
export const traffic = signal<ReadonlyMap<string, Traffic>>(new Map());
export const pool = signal<Pool | null>(null);
/** Whoever is on the page is not signed in any more: the key was revoked, the session is over, or Hearth was started again. */
export const lost = signal(false);
/** This browser's other pages: they have the same session. */
export const pages = new BroadcastChannel("hearth");
export const connection = signal<State>("connecting");
/** Since when nothing is heard of Hearth: what the pages show is as it was then. */
export const away = signal<Date | undefined>(undefined);
export const runtimes = signal<Runtime[] | undefined>(undefined);
/** Server time minus ours, in milliseconds: ages are told by the server's clock. */
export const skew = signal(0);

export const may = (scope: string) => !!account.value?.scopes.some((own) => own === scope || own === "admin");

/** Somebody signed in, here or on another of this browser's pages. Another's page is not taken over. */
export function signedIn(now: Account) {
  if (lost.value && now.name !== account.value?.name) return location.reload();
  account.value = now;
  lost.value = false;
}

let changes = -1;
let running: AbortController | undefined;

export async function refreshFunctions(): Promise<void> {
  try {
    functions.value = await allFunctions();
    functionsError.value = "";
  } catch (error) {
    functionsError.value = error instanceof ApiError ? error.message : String(error);
  }
}

export async function loadRuntimes(): Promise<Runtime[]> {
  runtimes.value ??= (await get<{ items: Runtime[] }>("/runtimes/")).items;
  return runtimes.value;
}

function seen(overview: Overview) {
  skew.value = Date.parse(overview.at) - Date.now();
  if (overview.functions.length) {
    const next = new Map(traffic.value);
    for (const one of overview.functions) next.set(one.id, one);
    traffic.value = next;
  }
  if (overview.pool) pool.value = overview.pool;
  if (overview.changes !== changes) {
    changes = overview.changes;
    void refreshFunctions();
  }
}

function begin() {
  if (running || !account.value || !may("deploy")) return;
  running = new AbortController();
  const on = ({ event, data }: { event: string; data: string }) => {
    if (event === "message") seen(JSON.parse(data) as Overview);
  };
  void follow(() => "/dashboard/events", running.signal, on, (state) => {
    if (state === "open") {
      away.value = undefined;
      // Whatever was missed, and by whatever other process it is counted now.
      changes = -1;
    } else if (state === "waiting") away.value ??= new Date();
    // An attempt to come back is no news.
    connection.value = away.value ? "waiting" : state;
  });
}

function end() {
  running?.abort();
  running = undefined;
  away.value = undefined;
}

export function start() {
  begin();
  wake();
}

export function stop() {
  end();
  functions.value = undefined;
  traffic.value = new Map();
  pool.value = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) end();
  else begin();
});
