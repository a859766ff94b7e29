// All functions: what there is, how it is called, and how long that takes.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { fnPath, type Fn, type Pool, type Traffic, type Worker } from "../api";
import { ago, count, ms, percent } from "../format";
import { functions, functionsError, may, pool, refreshFunctions, skew, traffic } from "../live";
import { go, Link } from "../router";
import { Badge, Empty, Failed, Loading, Sparkline } from "../ui";

type Column = "name" | "state" | "calls" | "failed" | "p50" | "p99" | "cold" | "updated";

const NONE: Traffic = { id: "", name: "", calls: 0, failed: 0, warm: 0, stem: 0, cold: 0, p50: null, p99: null, spans: [] };

/** What it is doing, the most urgent first. */
const STATES = ["failing", "busy", "starting", "warm", "cold"] as const;
type State = (typeof STATES)[number];

const SAYS: Record<State, string> = {
  failing: "of its calls in the last 5 minutes, at least half failed",
  busy: "a worker runs a call",
  starting: "a worker is being started",
  warm: "a worker is there and idle",
  cold: "no worker is there: the next call starts one",
};
const KINDS: Record<State, string> = { failing: "bad", busy: "route", starting: "stem", warm: "good", cold: "plain" };

/** By the workers it has, which only some keys see. */
function stateOf(fn: Fn, seen: Traffic, workers: ReadonlyMap<string, Set<Worker["state"]>> | undefined): State | undefined {
  const [calls, failed] = seen.spans.reduce(([calls, failed], [more, bad]) => [calls + more, failed + bad], [0, 0]);
  if (failed && failed * 2 >= calls) return "failing";
  if (!workers) return undefined;
  const own = workers.get(fn.name);
  return own?.has("busy") ? "busy" : own?.has("idle") ? "warm" : own?.has("starting") ? "starting" : "cold";
}

function workersOf(pool: Pool): ReadonlyMap<string, Set<Worker["state"]>> {
  const all = new Map<string, Set<Worker["state"]>>();
  for (const worker of pool.workers) {
    if (worker.function) all.set(worker.function, (all.get(worker.function) ?? new Set()).add(worker.state));
  }
  return all;
}

const value = (column: Column, fn: Fn, seen: Traffic, state: State | undefined): number | string => {
  switch (column) {
    case "name":
      return fn.name;
    case "state":
      return state ? STATES.length - STATES.indexOf(state) : 0;
    case "updated":
      return fn.updated_at;
    case "failed":
      return seen.calls ? seen.failed / seen.calls : -1;
    case "cold":
      return seen.calls ? (seen.cold + seen.stem) / seen.calls : -1;
    default:
      return seen[column] ?? -1;
  }
};

const COLUMNS: [Column, string, string][] = [
  ["name", "Function", ""],
  ["state", "State", "whether a worker is there, and whether its calls succeed"],
  ["calls", "Calls", "since Hearth was started"],
  ["failed", "Errors", "part of the calls without an answer of the function"],
  ["p50", "p50", "half of the latest 200 calls took no longer"],
  ["p99", "p99", "99 of 100 of the latest 200 calls took no longer"],
  ["cold", "Not warm", "part of the calls that had to wait for a worker to be started"],
];

/** Rows at first, and with every wish for more: what is drawn anew every second has a bound. */
const ROWS = 200;

export function FunctionsPage() {
  const rows = useSignal(ROWS);
  const search = useSignal("");
  const sort = useSignal<{ by: Column; down: boolean }>({ by: "name", down: false });
  const field = useRef<HTMLInputElement>(null);

  useEffect(() => {
    document.title = "Functions · Hearth";
    const keys = (event: KeyboardEvent) => {
      const typing = (event.target as HTMLElement).closest("input, textarea, select, [contenteditable]");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        field.current?.focus();
      }
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);

  if (!may("deploy")) {
    return (
      <Empty title="This key only calls functions">
        <p>
          To see them it needs the scope <code>deploy</code>.
        </p>
      </Empty>
    );
  }
  const all = functions.value;
  if (!all) return functionsError.value ? <Failed text={functionsError.value} again={refreshFunctions} /> : <Loading what="functions" />;

  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (fn: Fn) => `${fn.name} ${fn.language} ${fn.description} ${fn.route ?? ""} ${Object.entries(fn.tags).flat().join(" ")}`.toLowerCase();
  const { by, down } = sort.value;
  const seen = (fn: Fn) => traffic.value.get(fn.id) ?? NONE;
  const workers = pool.value ? workersOf(pool.value) : undefined;
  const state = (fn: Fn) => stateOf(fn, seen(fn), workers);
  const shown = all
    .filter((fn) => words.every((word) => text(fn).includes(word)))
    .sort((a, b) => {
      const [x, y] = [value(by, a, seen(a), state(a)), value(by, b, seen(b), state(b))];
      const order = typeof x === "string" ? x.localeCompare(y as string) : x - (y as number);
      return (down ? -order : order) || a.name.localeCompare(b.name);
    });
  const sortBy = (column: Column) => (sort.value = by === column ? { by, down: !down } : { by: column, down: column !== "name" });
  const sum = all.reduce((sum, fn) => sum + seen(fn).calls, 0);

  return (
    <>
      <div class="head">
        <div>
          <h1>Functions</h1>
          <p class="muted">
            {count(all.length)} deployed, {count(sum)} calls since the start
          </p>
        </div>
        <div class="row">
          <input
            ref={field}
            type="search"
            placeholder="Search"
            aria-label="Search functions"
            aria-keyshortcuts="/"
            value={search.value}
            onInput={(event) => (search.value = event.currentTarget.value)}
          />
          <Link to="/dashboard/create" class="button primary">
            New function
          </Link>
        </div>
      </div>
      {all.length === 0 ? (
        <Empty title="Nothing is deployed yet">
          <p>A function is a piece of code that runs when it is called, in a container that is warm already.</p>
          <p>
            <Link to="/dashboard/create" class="button primary">
              Make the first one
            </Link>
          </p>
        </Empty>
      ) : shown.length === 0 ? (
        <Empty title="No function is like that">
          <button type="button" onClick={() => (search.value = "")}>
            Show all
          </button>
        </Empty>
      ) : (
        <div class="card scroll-x" tabIndex={0} role="region" aria-label="Functions">
          <table class="list functions">
            <thead>
              <tr>
                {COLUMNS.map(([column, label, hint]) => (
                  <th
                    key={column}
                    scope="col"
                    class={column === "name" ? "" : `${column === "state" ? "" : "num "}c-${column}`}
                    aria-sort={by === column ? (down ? "descending" : "ascending") : "none"}
                    title={hint}
                  >
                    <button type="button" class="sort" onClick={() => sortBy(column)}>
                      {label}
                      <span aria-hidden="true">{by === column ? (down ? " ↓" : " ↑") : ""}</span>
                    </button>
                  </th>
                ))}
                <th scope="col" class="c-spark">
                  Last 5 minutes
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.slice(0, rows.value).map((fn) => (
                <Row key={fn.id} fn={fn} seen={seen(fn)} state={state(fn)} />
              ))}
            </tbody>
          </table>
          {shown.length > rows.value && (
            <p class="pad">
              <button type="button" onClick={() => (rows.value += ROWS)}>
                Show more
              </button>{" "}
              <span class="muted">
                {count(rows.value)} of {count(shown.length)}: the search finds all
              </span>
            </p>
          )}
        </div>
      )}
    </>
  );
}

function Row({ fn, seen, state }: { fn: Fn; seen: Traffic; state: State | undefined }) {
  const to = `/dashboard${fnPath(fn.name)}`;
  const recent = seen.spans.reduce((sum, [calls]) => sum + calls, 0);
  return (
    <tr onClick={(event) => !(event.target as HTMLElement).closest("a") && go(to)}>
      <th scope="row">
        <Link to={to}>{fn.name}</Link>
        <span class="sub">
          <Badge kind="plain">{fn.language}</Badge>
          {fn.route && <code>{fn.route}</code>}
          <span class="wide">changed {ago(fn.updated_at, Date.now() + skew.value)}</span>
        </span>
      </th>
      <td class="c-state">
        {state ? (
          <span title={SAYS[state]}>
            <Badge kind={KINDS[state]}>{state}</Badge>
          </span>
        ) : (
          "–"
        )}
      </td>
      <td class="num c-calls">{count(seen.calls)}</td>
      <td class={seen.failed ? "num bad c-failed" : "num c-failed"}>{percent(seen.failed, seen.calls)}</td>
      <td class="num c-p50">{ms(seen.p50)}</td>
      <td class="num c-p99">{ms(seen.p99)}</td>
      <td class="num c-cold">{percent(seen.cold + seen.stem, seen.calls)}</td>
      <td class="c-spark">
        <Sparkline spans={seen.spans} label={`${recent} calls in the last 5 minutes`} />
      </td>
    </tr>
  );
}
