// A call to try a function with: an event to write, and everything there is to know about the answer.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type Fn, type LogLine } from "../api";
import { call, event, forget, later, notJson, type Outcome, printed, save, saved as kept, shown } from "../call";
import { CodeEditor } from "../code-editor";
import type { Editor } from "../editor";
import { ms } from "../format";
import { may } from "../live";
import { Link } from "../router";
import { Badge, confirm, Copy, say, Waterfall } from "../ui";

const FIRST = '{\n  "name": "Ada"\n}';
const SHOWN_MAX = 200_000;

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
  const [outcome, setOutcome] = useState<Outcome & { log: LogLine[] }>();
  const [queued, setQueued] = useState("");
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  const editor = useRef<Editor | undefined>(undefined);
  const latest = useRef(payload);
  latest.current = payload;

  const wrong = notJson(payload);

  const run = async () => {
    if (busy) return;
    setBusy(true);
    setFailed("");
    setQueued("");
    try {
      const outcome = await call(fn, event(latest.current));
      setOutcome({ ...outcome, log: await printed(fn, outcome.requestId).catch(() => []) });
    } catch (error) {
      setOutcome(undefined);
      setFailed(error instanceof ApiError ? error.message : String(error));
    }
    setBusy(false);
  };
  useEffect(() => {
    handle(() => void run());
  });

  const queue = async () => {
    setBusy(true);
    setFailed("");
    try {
      const id = await later(fn, latest.current);
      setOutcome(undefined);
      setQueued(id);
    } catch (error) {
      setFailed((error as Error).message);
    }
    setBusy(false);
  };
  const saveIt = () => {
    const called = name.trim() || `Event ${saved.length + 1}`;
    setSaved(save(fn, { name: called, payload }));
    setName("");
    say(`“${called}” is saved in this browser.`);
  };
  const drop = async (name: string) => {
    const sure = await confirm({ title: `Forget “${name}”?`, text: "It is saved in this browser only.", action: "Forget event", danger: true });
    if (sure) setSaved(forget(fn, name));
  };
  const pick = (one: { payload: string }) => {
    setPayload(one.payload);
    editor.current?.set(one.payload);
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
        <button type="button" disabled={busy || !!wrong} onClick={queue} title="Asynchronous: accepted at once, run later">
          Queue
        </button>
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
        <button type="button" disabled={!!wrong} onClick={saveIt}>
          Save
        </button>
        {saved.map((one) => (
          <span class="chip" key={one.name}>
            <button type="button" class="link" onClick={() => pick(one)}>
              {one.name}
            </button>
            <button type="button" class="link" aria-label={`Forget ${one.name}`} onClick={() => drop(one.name)}>
              ×
            </button>
          </span>
        ))}
      </div>
      <div aria-live="polite">
        {failed && <p class="pad error">{failed}</p>}
        {queued && (
          <p class="pad">
            It is queued as <code class="request">{queued}</code>. <Copy text={queued} /> What becomes of it is on the page{" "}
            <Link to="/dashboard/queue">Events</Link>.
          </p>
        )}
        {outcome && <Answer outcome={outcome} />}
      </div>
    </section>
  );
}

function Answer({ outcome }: { outcome: Outcome & { log: LogLine[] } }) {
  const { error } = outcome;
  const text = shown(outcome);
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
