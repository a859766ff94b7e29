// The pool as it is now: every worker as a tile, and what bounds how many there are.
import { useEffect, useState } from "preact/hooks";
import { fnPath, type Pool, type Worker } from "../api";
import { clock, count, size, span } from "../format";
import { may, pool, skew } from "../live";
import { go } from "../router";
import { Empty, Gauge, Loading } from "../ui";

const STATES: [Worker["state"], string][] = [
  ["busy", "busy"],
  ["idle", "idle"],
  ["starting", "starting"],
  ["stem", "stem, belong to no function yet"],
];

export function PoolPage() {
  const [now, setNow] = useState(Date.now());
  const [only, setOnly] = useState("");
  useEffect(() => {
    document.title = "Pool · Hearth";
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);

  if (!may("admin")) {
    return (
      <Empty title="The pool is everybody's">
        <p>
          To see it a key needs the scope <code>admin</code>.
        </p>
      </Empty>
    );
  }
  const seen = pool.value;
  if (!seen) return <Loading what="the pool" />;
  const of = (state: string) => seen.workers.filter((worker) => worker.state === state).length;
  const runtimes = [...new Set([...seen.stems.map((stem) => stem.runtime), ...seen.workers.map((worker) => worker.runtime)])].sort();

  return (
    <>
      <div class="head">
        <div>
          <h1>Pool</h1>
          <p class="muted">{count(seen.total)} containers, each for one function for life</p>
        </div>
      </div>
      <div class="gauges">
        <Gauge label="Calls under way" value={seen.concurrency} most={seen.concurrency_limit} text={`${seen.concurrency} of ${count(seen.concurrency_limit)}`} />
        <Gauge
          label="Memory reserved"
          value={seen.memory_reserved}
          most={seen.memory_total}
          text={`${size(seen.memory_reserved)} of ${size(seen.memory_total)}`}
        />
        <Gauge
          label="Creation lanes"
          value={seen.lanes.active}
          most={seen.lanes.bound}
          text={`${seen.lanes.active} of ${seen.lanes.bound} in use${seen.lanes.waiting ? `, ${seen.lanes.waiting} waiting` : ""}`}
        />
        <div class="card gauge">
          <dl class="facts small-facts">
            <dt>Calls in line</dt>
            <dd class="num">{count(seen.waiting)}</dd>
            <dt>Being removed</dt>
            <dd class="num">{count(seen.clearing)}</dd>
            <dt>Evicted so far</dt>
            <dd class="num">{count(seen.evicted)}</dd>
          </dl>
        </div>
      </div>
      <div class="legend" role="group" aria-label="Show workers">
        {STATES.map(([state, label]) => (
          <button key={state} type="button" class="legend-item" aria-pressed={only === state} onClick={() => setOnly(only === state ? "" : state)}>
            <i class={`dot ${state}`} aria-hidden="true" />
            {of(state)} {label}
          </button>
        ))}
      </div>
      {runtimes.map((runtime) => (
        <Runtime key={runtime} runtime={runtime} seen={seen} only={only} now={now + skew.value} />
      ))}
      <Evictions seen={seen} />
      {seen.total > seen.workers.length && <p class="muted">{seen.total - seen.workers.length} more are not shown.</p>}
    </>
  );
}

/** Which idle workers had to go, when, by what rule and for whom. */
function Evictions({ seen }: { seen: Pool }) {
  return (
    <section class="card" aria-label="Evictions">
      <div class="bar">
        <h2>Evictions</h2>
        <span class="grow" />
        <span class="hint">Idle workers that made room for others, the latest first</span>
      </div>
      {seen.evictions.length === 0 ? (
        <p class="pad muted">None so far.</p>
      ) : (
        <ul class="plain-list">
          {seen.evictions.map((one, at) => (
            <li key={`${one.at}-${at}`}>
              <time class="num" dateTime={one.at}>
                {clock(one.at)}
              </time>
              <b>{one.function ?? "stem"}</b>
              <span class="muted grow">
                {one.runtime}, {one.memory} MiB, in favour of {one.in_favour_of} by <code>{one.rule}</code>
              </span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Runtime({ runtime, seen, only, now }: { runtime: string; seen: Pool; only: string; now: number }) {
  const workers = seen.workers.filter((worker) => worker.runtime === runtime && (!only || worker.state === only));
  const stem = seen.stems.find((stem) => stem.runtime === runtime);
  const order = (worker: Worker) => STATES.findIndex(([state]) => state === worker.state);
  const sorted = workers.sort((a, b) => order(a) - order(b) || (a.function ?? "").localeCompare(b.function ?? "") || a.id.localeCompare(b.id));
  return (
    <section class="card" aria-label={runtime}>
      <div class="bar">
        <h2>{runtime}</h2>
        <span class="grow" />
        {stem && (
          <span class="muted" title={`There are at least ${stem.least} and at most ${stem.most} stem workers, as demand has it`}>
            {stem.ready} stem {stem.ready === 1 ? "worker" : "workers"} ready ({stem.least} to {stem.most})
          </span>
        )}
      </div>
      {sorted.length === 0 ? (
        <p class="pad muted">No workers.</p>
      ) : (
        <ul class="tiles">
          {sorted.map((worker) => (
            <li key={worker.id} class={`tile ${worker.state}`}>
              {worker.function ? (
                <button type="button" class="link name" onClick={() => go(`/dashboard${fnPath(worker.function ?? "")}`)}>
                  {worker.function}
                </button>
              ) : (
                <span class="name muted">stem</span>
              )}
              <span class="what">
                <i class={`dot ${worker.state}`} aria-hidden="true" />
                {worker.state}
              </span>
              <span class="muted">
                {worker.memory} MiB · {span((now - Date.parse(worker.created_at)) / 1000)}
              </span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
