// A function's log as it comes: follow, stop, search.
import { useEffect, useRef, useState } from "preact/hooks";
import { type Fn, fnPath, type LogLine } from "../api";
import { clock } from "../format";
import { follow, type State } from "../stream";
import { Badge } from "../ui";

/** Lines on the page; older ones are in `hearth logs`. */
const LINES_MAX = 2000;

interface Shown extends LogLine {
  /** Lines that were lost before this one. */
  missed?: number;
}

export function Log({ fn }: { fn: Fn }) {
  const [lines, setLines] = useState<Shown[]>([]);
  const [state, setState] = useState<State>("connecting");
  const [following, setFollowing] = useState(true);
  const [search, setSearch] = useState("");
  const [call, setCall] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const held = useRef<Shown[]>([]);
  const paused = useRef(false);
  paused.current = !following;

  useEffect(() => {
    const stop = new AbortController();
    let waiting: Shown[] = [];
    let missed = 0;
    let frame = 0;
    const show = () => {
      frame = 0;
      const come = waiting;
      waiting = [];
      if (paused.current) held.current = [...held.current, ...come].slice(-LINES_MAX);
      else setLines((before) => [...before, ...come].slice(-LINES_MAX));
    };
    const on = ({ event, data }: { event: string; data: string }) => {
      if (event === "lagged") missed += (JSON.parse(data) as { missed: number }).missed;
      if (event !== "message") return;
      waiting.push({ ...(JSON.parse(data) as LogLine), missed });
      missed = 0;
      if (waiting.length > LINES_MAX) waiting = waiting.slice(-LINES_MAX);
      // However many come, they are shown once a frame.
      frame ||= requestAnimationFrame(show);
    };
    void follow(() => fnPath(fn.id, "/logs?follow=true&limit=500"), stop.signal, on, setState);
    return () => {
      stop.abort();
      cancelAnimationFrame(frame);
    };
  }, [fn.id]);

  useEffect(() => {
    if (following && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, following]);

  const goOn = () => {
    const come = held.current;
    held.current = [];
    setLines((before) => [...before, ...come].slice(-LINES_MAX));
    setFollowing(true);
  };
  // Who looks back wants to read, and not to be taken to the end again.
  const lookBack = () => {
    const seen = box.current;
    if (following && seen && seen.scrollHeight > seen.clientHeight) setFollowing(false);
  };
  const words = search.toLowerCase();
  const shown = lines.filter((line) => (!words || line.text.toLowerCase().includes(words)) && (!call || line.request_id === call));

  return (
    <section class="card" aria-label="Log">
      <div class="bar">
        <input type="search" placeholder="Search the log" aria-label="Search the log" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        {call && (
          <button type="button" onClick={() => setCall("")}>
            Only {call.slice(0, 8)} ×
          </button>
        )}
        <span class={`live ${state}`} role="status">
          <i aria-hidden="true" /> {state === "open" ? (following ? "Following" : "Paused") : state === "connecting" ? "Connecting" : "Not connected"}
        </span>
        <span class="grow" />
        <button type="button" onClick={() => setLines([])}>
          Clear
        </button>
        <button type="button" aria-pressed={!following} onClick={() => (following ? setFollowing(false) : goOn())}>
          {following ? "Pause" : "Follow"}
        </button>
      </div>
      <div
        class="log-lines"
        ref={box}
        onWheel={(event) => event.deltaY < 0 && lookBack()}
        onTouchMove={lookBack}
        onKeyDown={(event) => ["ArrowUp", "PageUp", "Home"].includes(event.key) && lookBack()}
        tabIndex={0}
        role="log"
        aria-label={`Log of ${fn.name}`}
        aria-live="off"
      >
        {shown.length === 0 ? (
          <div class="empty">
            <p>{lines.length ? "No line is like that." : "Nothing was printed yet. What the function prints shows up here at once."}</p>
          </div>
        ) : (
          shown.map((line) => (
            <div key={line.sequence} class="log-line">
              {!!line.missed && <div class="lost">{line.missed} lines were lost here</div>}
              <time dateTime={line.at}>{clock(line.at)}</time>
              {line.request_id ? (
                <button type="button" class="link id" title={`Only lines of call ${line.request_id}`} onClick={() => setCall(line.request_id ?? "")}>
                  {line.request_id.slice(0, 8)}
                </button>
              ) : (
                <span class="id">
                  <Badge kind="plain">init</Badge>
                </span>
              )}
              <span class="text">{line.text}</span>
            </div>
          ))
        )}
      </div>
    </section>
  );
}
