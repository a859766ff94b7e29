// A call to try a function with: an event to write, and everything there is to know about the answer.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type ErrorDetail, type Fn, fnPath, get, type LogLine, type Phases, problem, send } from "../api";
import { CodeEditor } from "../code-editor";
import type { Editor } from "../editor";
import { ms } from "../format";
import { may } from "../live";
import { Badge, Copy, say, Waterfall } from "../ui";

interface Saved {
  name: string;
  payload: string;
}

interface Outcome {
  status: number;
  body: string;
  type: string;
  error?: ErrorDetail;
  requestId: string;
  start: string;
  reason: string;
  phases?: Phases;
  total: number;
  log: LogLine[];
}

const FIRST = '{\n  "name": "Ada"\n}';
const SHOWN_MAX = 200_000;
const SAVED_MAX = 50;

const place = (fn: Fn) => `hearth.events.${fn.id}`;

function kept(fn: Fn): Saved[] {
  try {
    const all = JSON.parse(localStorage.getItem(place(fn)) ?? "[]") as Saved[];
    return Array.isArray(all) ? all.filter((one) => typeof one?.name === "string" && typeof one?.payload === "string") : [];
  } catch {
    return [];
  }
}

function keep(fn: Fn, all: Saved[]) {
  try {
    localStorage.setItem(place(fn), JSON.stringify(all.slice(0, SAVED_MAX)));
  } catch {
    say("The browser keeps nothing here.", true);
  }
}

/** The phases and the kind of start, out of the header they come in. */
export function timing(header: string): { phases: Phases; start: string; reason: string } {
  const phases: Phases = { queue: 0, start: 0, init: 0, run: 0 };
  let [start, reason] = ["", ""];
  for (const part of header.split(",")) {
    const name = part.trim().split(";")[0] as keyof Phases;
    const took = /dur=([\d.]+)/.exec(part)?.[1];
    if (name in phases && took) phases[name] = Number(took);
    const desc = /desc="([^":]*): ([^"]*)"/.exec(part);
    if (desc) [start, reason] = [desc[1] ?? "", desc[2] ?? ""];
  }
  return { phases, start, reason };
}

const REASONS: Record<string, string> = {
  idle: "a worker was idle",
  first_call: "this version had no worker yet",
  all_busy: "every worker was busy",
  retired: "its workers had been idle too long",
  replaced: "its last worker had to be replaced",
};

export function Test({ fn, handle }: { fn: Fn; handle: (run: () => void) => void }) {
  const [payload, setPayload] = useState(() => kept(fn)[0]?.payload ?? FIRST);
  const [saved, setSaved] = useState(() => kept(fn));
  const [name, setName] = useState("");
  const [outcome, setOutcome] = useState<Outcome>();
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  const editor = useRef<Editor | undefined>(undefined);
  const latest = useRef(payload);
  latest.current = payload;

  let wrong = "";
  try {
    if (payload.trim()) JSON.parse(payload);
  } catch (error) {
    wrong = (error as Error).message;
  }

  const run = async () => {
    if (busy) return;
    setBusy(true);
    setFailed("");
    const begun = performance.now();
    try {
      const response = await send(fnPath(fn.id, "/execute"), {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: latest.current.trim() || "{}",
      });
      const { phases, start, reason } = timing(response.headers.get("server-timing") ?? "");
      const requestId = response.headers.get("x-request-id") ?? "";
      const type = response.headers.get("content-type") ?? "";
      const body = response.ok ? await response.text() : "";
      const error = response.ok ? undefined : (await problem(response)).detail;
      const total = performance.now() - begun;
      const lines = await get<{ items: LogLine[] }>(fnPath(fn.id, `/logs?limit=500&request_id=${encodeURIComponent(requestId)}`)).catch(() => ({
        items: [],
      }));
      setOutcome({ status: response.status, body, type, error, requestId, start, reason, phases, total, log: lines.items });
    } catch (error) {
      setOutcome(undefined);
      setFailed(error instanceof ApiError ? error.message : String(error));
    }
    setBusy(false);
  };
  useEffect(() => {
    handle(() => void run());
  });

  const save = () => {
    const called = name.trim() || `Event ${saved.length + 1}`;
    const next = [{ name: called, payload }, ...saved.filter((one) => one.name !== called)];
    keep(fn, next);
    setSaved(next);
    setName("");
    say(`“${called}” is saved in this browser.`);
  };
  const pick = (called: string) => {
    const one = saved.find((one) => one.name === called);
    if (!one) return;
    setPayload(one.payload);
    editor.current?.set(one.payload);
  };
  const forget = (called: string) => {
    const next = saved.filter((one) => one.name !== called);
    keep(fn, next);
    setSaved(next);
  };

  if (!may("invoke")) {
    return (
      <section class="card" aria-label="Test">
        <div class="empty">
          <p>
            To call functions this key needs the scope <code>invoke</code>.
          </p>
        </div>
      </section>
    );
  }
  return (
    <section class="card" aria-label="Test">
      <div class="bar">
        <h2>Test</h2>
        <span class="grow" />
        <button type="button" class="primary" disabled={busy || !!wrong} onClick={run} aria-keyshortcuts="Control+Enter" title="Ctrl+Enter">
          {busy ? "Running…" : "Run"}
        </button>
      </div>
      <CodeEditor
        small
        document={fn.id}
        name="event.json"
        label="Event"
        text={payload}
        changed={setPayload}
        run={run}
        handle={(made) => (editor.current = made)}
      />
      <p class={wrong ? "hint pad error" : "hint pad"} role={wrong ? "alert" : undefined}>
        {wrong || "The event the handler is given, as JSON."}
      </p>
      <div class="saved">
        <input
          aria-label="Name of the event"
          placeholder="Name to save it under"
          maxLength={60}
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <button type="button" disabled={!!wrong} onClick={save}>
          Save
        </button>
        {saved.map((one) => (
          <span class="chip" key={one.name}>
            <button type="button" class="link" onClick={() => pick(one.name)}>
              {one.name}
            </button>
            <button type="button" class="link" aria-label={`Forget ${one.name}`} onClick={() => forget(one.name)}>
              ×
            </button>
          </span>
        ))}
      </div>
      <div aria-live="polite">
        {failed && <p class="pad error">{failed}</p>}
        {outcome && <Answer outcome={outcome} />}
      </div>
    </section>
  );
}

function pretty(outcome: Outcome): string {
  const text = outcome.body;
  if (!outcome.type.includes("json")) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function Answer({ outcome }: { outcome: Outcome }) {
  const { error } = outcome;
  const text = error ? [error.type ? `${error.type}: ${error.message}` : error.message, ...(error.stack ?? [])].join("\n") : pretty(outcome);
  return (
    <div class="answer">
      <div class="bar">
        <Badge kind={error ? "bad" : "good"}>{error ? `${outcome.status} ${error.code}` : String(outcome.status)}</Badge>
        {outcome.start && (
          <span title={REASONS[outcome.reason] ?? outcome.reason}>
            <Badge kind={outcome.start}>{outcome.start}</Badge>
          </span>
        )}
        <span class="muted num">{ms(outcome.total)}</span>
        <span class="grow" />
        <Copy text={text} />
      </div>
      {error?.blame && (
        <p class="hint pad">
          {error.blame === "function" ? "The function's own error." : error.blame === "client" ? "The request was refused." : "Hearth could not do it."}{" "}
          {error.retry === "safe" ? "Trying again is safe." : error.retry === "unsafe" ? "It may have run." : ""}
        </p>
      )}
      <pre class="output" tabIndex={0} aria-label="Answer">
        {text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}\n… (${text.length - SHOWN_MAX} characters more)` : text || "(empty)"}
      </pre>
      {outcome.phases && outcome.start && <Waterfall phases={outcome.phases} total={outcome.total} />}
      <h3 class="pad">Printed</h3>
      <pre class="output log" tabIndex={0} aria-label="What the call printed">
        {outcome.log.map((line) => line.text).join("\n") || error?.log_tail || "Nothing."}
      </pre>
      <p class="hint pad">
        Request <code class="request">{outcome.requestId}</code>
        {outcome.reason && ` · ${REASONS[outcome.reason] ?? outcome.reason}`}
      </p>
    </div>
  );
}
