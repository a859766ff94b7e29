// A function's latest calls, each of which can be opened.
import { useEffect, useRef, useState } from "preact/hooks";
import { type Call, type Fn, fnPath, get, type LogLine } from "../api";
import { given, type Known, known, printed } from "../call";
import { clock, ms } from "../format";
import { traffic } from "../live";
import { Badge, Empty, Failed, Loading, Waterfall } from "../ui";
import { Again } from "./function-again";

type Filter = "all" | "failed" | "started";

export function Calls({ fn }: { fn: Fn }) {
  const [calls, setCalls] = useState<Call[]>();
  const [error, setError] = useState("");
  const [filter, setFilter] = useState<Filter>("all");
  const [search, setSearch] = useState("");
  const [open, setOpen] = useState("");
  // Read again when the live counts say that there were more, and not otherwise.
  const counted = traffic.value.get(fn.id)?.calls ?? 0;
  const asked = useRef(0);

  const load = async () => {
    const turn = ++asked.current;
    try {
      const { items } = await get<{ items: Call[] }>(fnPath(fn.id, "/invocations?limit=200"));
      if (turn === asked.current) setCalls(items);
      setError("");
    } catch (problem) {
      setError((problem as Error).message);
    }
  };
  useEffect(() => void load(), [counted]);

  if (error && !calls) return <Failed text={error} again={load} />;
  if (!calls) return <Loading what="calls" />;
  if (!calls.length) {
    return (
      <Empty title="Nobody has called it yet">
        <p>Calls show up here as they end: how they were answered, on what kind of worker, and where their time went.</p>
      </Empty>
    );
  }
  const words = search.trim().toLowerCase();
  const shown = calls.filter(
    (call) =>
      (filter === "failed" ? call.error : filter === "started" ? call.start && call.start !== "warm" : true) &&
      (!words || [call.request_id, call.error, call.start].some((text) => text?.toLowerCase().includes(words))),
  );
  return (
    <section class="card" aria-label="Calls">
      <div class="bar">
        <div class="segments" role="group" aria-label="Which calls">
          {(
            [
              ["all", "All"],
              ["failed", "Failed"],
              ["started", "Not warm"],
            ] as [Filter, string][]
          ).map(([id, label]) => (
            <button key={id} type="button" aria-pressed={filter === id} onClick={() => setFilter(id)}>
              {label}
            </button>
          ))}
        </div>
        <input
          type="search"
          placeholder="Request id, error or start"
          aria-label="Search calls"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
        <span class="grow" />
        <span class="muted">
          {shown.length === calls.length ? `the latest ${calls.length}` : `${shown.length} of the latest ${calls.length}`}
        </span>
      </div>
      {shown.length === 0 ? (
        <div class="empty">
          <p>None of the latest {calls.length} calls.</p>
        </div>
      ) : (
        <ul class="calls">
          {shown.map((call) => (
            <li key={call.request_id}>
              <button type="button" class="call" aria-expanded={open === call.request_id} onClick={() => setOpen(open === call.request_id ? "" : call.request_id)}>
                <time dateTime={call.ended_at}>{clock(call.ended_at)}</time>
                <span class="outcome">
                  <Badge kind={call.error ? "bad" : "good"}>{call.error ?? "ok"}</Badge>
                  <Badge kind={call.start ?? "plain"}>{call.start ?? "no worker"}</Badge>
                </span>
                <code class="wide">{call.request_id}</code>
                <span class="num">{ms(call.duration)}</span>
              </button>
              {open === call.request_id && <Opened fn={fn} call={call} />}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Opened({ fn, call }: { fn: Fn; call: Call }) {
  const [lines, setLines] = useState<LogLine[]>();
  const [exchange, setExchange] = useState<Known>();
  const [error, setError] = useState("");
  const load = () => {
    setError("");
    known(call.request_id).then(setExchange, (problem: Error) => setError(problem.message));
  };
  useEffect(() => {
    printed(fn, call.request_id).then(setLines, () => setLines([]));
    load();
  }, [call.request_id]);
  return (
    <div class="opened">
      <Waterfall phases={call.phases} />
      {error ? (
        <Failed text={error} again={load} />
      ) : !exchange ? (
        <Loading what="what it was given" />
      ) : (
        <div class="exchange">
          <Part label="What it was given" text={exchange.payload && given(exchange.payload)} without={exchange.noPayload} />
          <Part label="What it answered" text={exchange.answer} without={exchange.noAnswer} />
        </div>
      )}
      <h2>What it printed</h2>
      <pre class="output log" tabIndex={0} aria-label="What the call printed">
        {lines === undefined ? "…" : lines.map((line) => line.text).join("\n") || "Nothing was printed, or it is no longer remembered."}
      </pre>
      <p class="hint">
        Request <code>{call.request_id}</code>
        {call.blame && ` · blame: ${call.blame}`}
      </p>
      {exchange && <Again key={call.request_id} fn={fn} known={exchange} />}
    </div>
  );
}

function Part({ label, text, without }: { label: string; text: string | undefined; without: string }) {
  return (
    <section aria-label={label}>
      <h2>{label}</h2>
      {text === undefined ? (
        <p class="hint">{without}</p>
      ) : (
        <pre class="output" tabIndex={0} aria-label={`${label}, as text`}>
          {text || "(empty)"}
        </pre>
      )}
    </section>
  );
}
