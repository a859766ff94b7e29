// A call that is run again: with what it was given, or with another payload, on any version or alias, and what is different in the answers.
import { useEffect, useState } from "preact/hooks";
import { type Alias, type Fn, fnPath, get, type Version } from "../api";
import { call as run, given, type Known, notJson, type Outcome, type Payload, saved, shown } from "../call";
import { CodeEditor } from "../code-editor";
import { ms } from "../format";
import { may } from "../live";
import { Badge } from "../ui";

/** With what the call was given, and compared with what it answered. */
const THEN = "then";

interface Compared {
  id: number;
  one: Outcome;
  before?: { label: string; text: string };
  text: string;
  label: string;
}

export function Again({ fn, known }: { fn: Fn; known: Known }) {
  const events = saved(fn);
  const { payload: original, answer: before } = known;
  const as = original && (typeof original.body === "string" ? original.body : undefined);
  const [from, setFrom] = useState(original ? THEN : "");
  const [text, setText] = useState(as ?? (original ? "" : (events[0]?.payload ?? "{}")));
  const [others, setOthers] = useState<[string, string][]>([]);
  const [on, setOn] = useState("$LATEST");
  const [against, setAgainst] = useState(before === undefined ? "" : THEN);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState("");
  const [compared, setCompared] = useState<Compared>();

  useEffect(() => {
    const load = async () => {
      const [versions, aliases] = await Promise.all([
        get<{ items: Version[] }>(fnPath(fn.id, "/versions?limit=1000")),
        get<{ items: Alias[] }>(fnPath(fn.id, "/aliases?limit=1000")),
      ]);
      setOthers([
        ...aliases.items.map(({ name }): [string, string] => [name, `alias ${name}`]),
        ...versions.items.reverse().map(({ number }): [string, string] => [String(number), `version ${number}`]),
      ]);
    };
    load().catch((problem: Error) => setFailed(problem.message));
  }, [fn.id, fn.revision]);

  if (!may("invoke")) {
    return (
      <p class="hint">
        To run it again this key needs the scope <code>invoke</code>.
      </p>
    );
  }
  const targets: [string, string][] = [["$LATEST", "the function as it is"], ...others];
  const named = (qualifier: string) => targets.find(([id]) => id === qualifier)?.[1] ?? qualifier;
  // What it was given is given again byte for byte, whatever that is.
  const same = from === THEN && original && (as === undefined || text === as);
  const payload: Payload = same ? original : { body: text, raw: from === THEN && !!original?.raw };
  const wrong = payload.raw || same ? "" : notJson(text);

  const again = async () => {
    setBusy(true);
    setFailed("");
    try {
      const two = against && against !== THEN ? run(fn, payload, against) : undefined;
      const [one, other] = await Promise.all([run(fn, payload, on), two]);
      const then = against === THEN && before !== undefined ? { label: "back then", text: before } : undefined;
      setCompared({ id: (compared?.id ?? 0) + 1, one, before: other ? { label: named(against), text: shown(other) } : then, text: shown(one), label: named(on) });
    } catch (problem) {
      setCompared(undefined);
      setFailed((problem as Error).message);
    }
    setBusy(false);
  };
  const pick = (name: string) => {
    setFrom(name);
    const taken = name === THEN ? as : events.find((one) => one.name === name)?.payload;
    if (taken !== undefined) setText(taken);
  };

  return (
    <section class="again" aria-label="Run it again">
      <h2>Run it again</h2>
      <p class="hint">{original ? "With what it was given, or another payload." : "With a payload of yours, as its own is not known."}</p>
      {(events.length > 0 || original) && (
        <select aria-label="Payload to take" value={from} onChange={(event) => pick(event.currentTarget.value)}>
          <option value="">take a payload…</option>
          {original && <option value={THEN}>the one it was called with</option>}
          {events.map(({ name }) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      )}
      {from === THEN && original && as === undefined ? (
        <pre class="output" tabIndex={0} aria-label="Payload to run it with">
          {given(original)}
        </pre>
      ) : (
        <textarea
          aria-label="Payload to run it with"
          aria-invalid={!!wrong}
          spellcheck={false}
          rows={Math.min(12, Math.max(3, text.split("\n").length))}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      )}
      {wrong && (
        <p class="hint error" role="alert">
          {wrong}
        </p>
      )}
      <div class="row">
        <select aria-label="Run it on" value={on} onChange={(event) => setOn(event.currentTarget.value)}>
          {targets.map(([id, label]) => (
            <option key={id} value={id}>
              on {label}
            </option>
          ))}
        </select>
        <select aria-label="Compare with" value={against} onChange={(event) => setAgainst(event.currentTarget.value)}>
          <option value="">and compare with nothing</option>
          {before !== undefined && <option value={THEN}>and compare with what it answered</option>}
          {targets.map(([id, label]) => (
            <option key={id} value={id}>
              and compare with {label}
            </option>
          ))}
        </select>
        <button type="button" class="primary" disabled={busy || !!wrong} onClick={again}>
          {busy ? "Running…" : "Run again"}
        </button>
      </div>
      <div aria-live="polite">
        {failed && <p class="error">{failed}</p>}
        {compared && <Answers {...compared} />}
      </div>
    </section>
  );
}

function Answers({ id, one, before, text, label }: Compared) {
  const same = before?.text === text;
  return (
    <div class="answers" role="group" aria-label="Answers">
      <div class="row">
        <Badge kind={one.error ? "bad" : "good"}>{one.error ? `${one.status} ${one.error.code}` : String(one.status)}</Badge>
        {one.start && <Badge kind={one.start}>{one.start}</Badge>}
        <span class="muted num">{ms(one.total)}</span>
        {before && (
          <b role="status">
            {same ? `The same answer as ${before.label}` : `Another answer than ${before.label}: what is only in ${label} is green, what is only in the other red`}
          </b>
        )}
      </div>
      {before && !same ? (
        <CodeEditor key={id} small readOnly document={String(id)} name="answer.json" label="What is different" text={text} compareWith={before.text} />
      ) : (
        <pre class="output" tabIndex={0} aria-label="Answer">
          {text || "(empty)"}
        </pre>
      )}
    </div>
  );
}
