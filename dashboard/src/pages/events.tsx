// Calls that are run later: how many wait, one that is asked for, and those that failed for good, which are looked into, queued again or
// deleted.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type DeadLetter, fnPath, get, type Invocation, type Queue, text, write } from "../api";
import { save } from "../call";
import { ago, count, date, size, span } from "../format";
import { member, pretty } from "../json";
import { functions, may, skew } from "../live";
import { go } from "../router";
import { Badge, confirm, Empty, Failed, Field, Gauge, Loading, say } from "../ui";

interface Page {
  items: Invocation[];
  next: string | null;
}

const LOOK = 2000;
const PAGE = 50;
/** Requests, of up to 1000 letters each, in which those of a function are redriven. */
const TURNS_MAX = 50;

export function EventsPage() {
  const [queue, setQueue] = useState<Queue>();
  const [failed, setFailed] = useState("");
  // Grows whenever the dead letters have to be read again.
  const [turn, setTurn] = useState(0);

  useEffect(() => {
    document.title = "Events · Hearth";
    if (!may("deploy")) return;
    const stop = new AbortController();
    let timer = 0;
    let dead = -1;
    const look = async () => {
      if (!document.hidden) {
        try {
          if (may("admin")) {
            const now = await get<Queue>("/invocations/", stop.signal);
            setQueue(now);
            if (dead !== -1 && now.dead_letters !== dead) setTurn((turn) => turn + 1);
            dead = now.dead_letters;
          } else setTurn((turn) => turn + 1);
          setFailed("");
        } catch (error) {
          if (stop.signal.aborted) return;
          setFailed((error as Error).message);
        }
      }
      timer = setTimeout(look, LOOK);
    };
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, []);

  if (!may("deploy")) {
    return (
      <Empty title="This key only calls functions">
        <p>
          To see what became of others' events it needs the scope <code>deploy</code>.
        </p>
      </Empty>
    );
  }
  return (
    <>
      <div class="head">
        <div>
          <h1>Events</h1>
          <p class="muted">
            Calls that are accepted at once and run later: each at least once, again when it fails, and kept here when it fails for good
          </p>
        </div>
      </div>
      {failed && (
        <div class="notice" role="alert">
          <span>What is shown is not up to date: {failed}</span>
        </div>
      )}
      {may("admin") && <Gauges queue={queue} />}
      <Letters turn={turn} />
      <LookUp />
    </>
  );
}

function Gauges({ queue }: { queue?: Queue }) {
  if (!queue) return <Loading what="the queue" />;
  const held = queue.waiting + queue.running;
  const late = queue.due_since ? (Date.now() + skew.value - Date.parse(queue.due_since)) / 1000 : 0;
  return (
    <div class="gauges">
      <Gauge label="In the queue" value={held} most={queue.room} text={`${count(held)} of ${count(queue.room)}`} />
      <div class="card gauge">
        <dl class="facts small-facts" aria-label="Queue">
          <dt>Waiting</dt>
          <dd class="num">{count(queue.waiting)}</dd>
          <dt>Running</dt>
          <dd class="num">{count(queue.running)}</dd>
          <dt>First in line waits</dt>
          <dd class="num">{queue.due_since ? `${span(late)}` : "not at all"}</dd>
          <dt>Dead letters</dt>
          <dd class={queue.dead_letters ? "num bad" : "num"}>{count(queue.dead_letters)}</dd>
        </dl>
      </div>
    </div>
  );
}

function Letters({ turn }: { turn: number }) {
  const [letters, setLetters] = useState<Invocation[]>();
  const [next, setNext] = useState<string | null>(null);
  const [error, setError] = useState("");
  const [of, setOf] = useState("");
  const [open, setOpen] = useState("");
  const [busy, setBusy] = useState("");
  const asked = useRef(0);

  const page = (cursor?: string | null, most = PAGE) =>
    get<Page>(`/dead-letters/?limit=${most}${of && `&function=${encodeURIComponent(of)}`}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  const load = async () => {
    const turn = ++asked.current;
    try {
      // As many as are shown already.
      const { items, next } = await page(null, Math.min(1000, Math.max(PAGE, letters?.length ?? 0)));
      if (turn !== asked.current) return;
      setLetters(items);
      setNext(next);
      setError("");
    } catch (problem) {
      if (turn === asked.current) setError((problem as Error).message);
    }
  };
  useEffect(() => void load(), [turn, of]);

  const more = async () => {
    setBusy("Loading…");
    try {
      const come = await page(next);
      setLetters((before) => [...(before ?? []), ...come.items]);
      setNext(come.next);
    } catch (problem) {
      say((problem as Error).message, true);
    }
    setBusy("");
  };
  const gone = (id: string) => {
    setLetters((before) => before?.filter((letter) => letter.request_id !== id));
    setOpen("");
  };
  const redriveAll = async () => {
    const names = of ? [of] : [...new Set(letters?.map((letter) => letter.function))];
    const whose = of ? `of ${of}` : next ? `of ${names.length} functions` : "there are";
    const sure = await confirm({
      title: "Queue them all again?",
      text: `All dead letters ${whose} are run once more, as if they had never been tried. Their functions get all of these calls soon.`,
      action: "Redrive all",
    });
    if (!sure) return;
    let done = 0;
    try {
      for (const name of names) {
        // What fails again at once comes back meanwhile: this ends all the same.
        for (let [again, turn] = [true, 0]; again && turn < TURNS_MAX; turn++) {
          setBusy(`Redriving ${name}… ${done}`);
          const { redriven, more } = await write<{ redriven: number; more: boolean }>("POST", "/dead-letters/redrive", { function: name });
          done += redriven;
          again = more && redriven > 0;
        }
      }
      say(`${count(done)} ${done === 1 ? "event is" : "events are"} queued again.`);
    } catch (problem) {
      say(`${done ? `${count(done)} are queued again, and then: ` : ""}${(problem as Error).message}`, true);
    }
    setBusy("");
    setOpen("");
    await load();
  };

  const names = [...new Set([...(functions.value ?? []).map((fn) => fn.name), ...(letters ?? []).map((letter) => letter.function), ...(of ? [of] : [])])].sort();
  return (
    <section class="card" aria-label="Dead letters">
      <div class="bar">
        <h2>Dead letters</h2>
        <label class="sr" for="letters-of">
          Of which function
        </label>
        <select id="letters-of" value={of} onChange={(event) => setOf(event.currentTarget.value)}>
          <option value="">of all functions</option>
          {names.map((name) => (
            <option key={name} value={name}>
              of {name}
            </option>
          ))}
        </select>
        <span class="muted" role="status">
          {busy}
        </span>
        <span class="grow" />
        <button type="button" disabled={!!busy || !letters?.length || !may("invoke")} onClick={redriveAll}>
          Redrive all
        </button>
      </div>
      {error && !letters ? (
        <Failed text={error} again={load} />
      ) : !letters ? (
        <Loading what="dead letters" />
      ) : letters.length === 0 ? (
        <div class="empty">
          <p>{of ? `None of ${of}.` : "None. An event that failed for good, after all its attempts, is kept here with its payload."}</p>
        </div>
      ) : (
        <>
          <ul class="calls">
            {letters.map((letter) => (
              <li key={letter.request_id}>
                <button
                  type="button"
                  class="call letter"
                  aria-expanded={open === letter.request_id}
                  onClick={() => setOpen(open === letter.request_id ? "" : letter.request_id)}
                >
                  <time dateTime={letter.finished_at ?? ""}>{letter.finished_at ? ago(letter.finished_at, Date.now() + skew.value) : "–"}</time>
                  <span class="outcome">
                    <b>{letter.function}</b>
                    <Badge kind="bad">{letter.error?.code ?? "failed"}</Badge>
                    <span class="muted">{letter.error?.message}</span>
                  </span>
                  <code class="wide">{letter.request_id}</code>
                  <span class="num">
                    {letter.attempts} {letter.attempts === 1 ? "attempt" : "attempts"}
                  </span>
                </button>
                {open === letter.request_id && <Opened id={letter.request_id} gone={gone} />}
              </li>
            ))}
          </ul>
          {next && (
            <p class="pad">
              <button type="button" disabled={!!busy} onClick={more}>
                Show older ones
              </button>
            </p>
          )}
        </>
      )}
    </section>
  );
}

/** What was to be run, as a person reads it. `whole` is the letter as it came. */
function payloadOf(letter: DeadLetter, whole: string): { text: string; json: boolean } {
  if (letter.payload_base64 === undefined) return { text: pretty(member(whole, "payload") ?? ""), json: true };
  const bytes = Uint8Array.from(atob(letter.payload_base64), (char) => char.charCodeAt(0));
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), json: false };
  } catch {
    return { text: `${size(bytes.length)} that are no text`, json: false };
  }
}

function Opened({ id, gone }: { id: string; gone: (id: string) => void }) {
  const [whole, setWhole] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const path = `/dead-letters/${encodeURIComponent(id)}`;
  const load = () => {
    setError("");
    text(path).then(setWhole, (problem: Error) => setError(problem.message));
  };
  useEffect(load, [id]);

  const act = async (done: string, work: () => Promise<unknown>) => {
    setBusy(true);
    try {
      await work();
      say(done);
      gone(id);
    } catch (problem) {
      setBusy(false);
      say((problem as Error).message, true);
    }
  };
  if (error) return <Failed text={error} again={load} />;
  if (!whole) return <Loading what="the dead letter" />;
  const letter = JSON.parse(whole) as DeadLetter;
  const { text: payload, json } = payloadOf(letter, whole);
  const fn = functions.value?.find((one) => one.name === letter.function);
  const redrive = () => act("It is queued again.", () => write("POST", `${path}/redrive`));
  const remove = async () => {
    const sure = await confirm({
      title: "Delete this dead letter?",
      text: "Its payload is gone for good, and it is never run again.",
      action: "Delete dead letter",
      danger: true,
    });
    if (sure) await act("The dead letter is deleted.", () => write("DELETE", path));
  };
  const tryIt = () => {
    if (!fn) return;
    save(fn, { name: `Dead letter ${id.slice(0, 8)}`, payload });
    void go(`/dashboard${fnPath(fn.name)}`);
  };
  return (
    <div class="opened" role="group" aria-label="Dead letter">
      <dl class="facts">
        <dt>Error</dt>
        <dd>
          <span class="error">{letter.error ? `${letter.error.code}: ${letter.error.message}` : "not known"}</span>
        </dd>
        <dt>Attempts</dt>
        <dd class="num">{letter.attempts}</dd>
        <dt>Accepted</dt>
        <dd>{date(letter.accepted_at)}</dd>
        <dt>Given up</dt>
        <dd>{letter.finished_at ? date(letter.finished_at) : "–"}</dd>
        <dt>Of</dt>
        <dd>
          {letter.function}, {letter.version === "$LATEST" ? "as it is" : `version ${letter.version}`}
          {letter.destination && `, to be told to ${letter.destination}`}
        </dd>
      </dl>
      <pre class="output" tabIndex={0} aria-label="Payload">
        {payload}
      </pre>
      <p class="hint">
        Request <code>{letter.request_id}</code>
        {!json && " · the payload is not JSON"}
      </p>
      <div class="row">
        <button type="button" class="primary" disabled={busy || !may("invoke")} onClick={redrive}>
          {busy ? "Working…" : "Redrive"}
        </button>
        {fn && json && !letter.destination && (
          <button type="button" disabled={busy} onClick={tryIt}>
            Try it in the test panel
          </button>
        )}
        <span class="grow" />
        <button type="button" class="danger outline" disabled={busy} onClick={remove}>
          Delete
        </button>
      </div>
    </div>
  );
}

const STATES: Record<Invocation["state"], string> = { queued: "plain", running: "stem", succeeded: "good", failed: "bad" };

/** How it stands with one event. */
function LookUp() {
  const [id, setId] = useState("");
  const [found, setFound] = useState<Invocation>();
  const [error, setError] = useState("");
  const submit = async (event: Event) => {
    event.preventDefault();
    setError("");
    setFound(undefined);
    try {
      setFound(await get<Invocation>(`/invocations/${encodeURIComponent(id.trim())}`));
    } catch (problem) {
      const unknown = problem instanceof ApiError && problem.status === 404;
      setError(unknown ? "No event with this id is known: it never was, or its end was too long ago." : (problem as Error).message);
    }
  };
  return (
    <section class="card form" aria-label="Find an event">
      <form class="row" onSubmit={submit}>
        <Field label="Find an event" hint="By the request id of the answer that accepted it" error={error || undefined}>
          {(attributes) => (
            <input {...attributes} class="request-id" spellcheck={false} required maxLength={64} value={id} onInput={(event) => setId(event.currentTarget.value)} />
          )}
        </Field>
        <button disabled={!id.trim()}>Find</button>
      </form>
      {found && (
        <dl class="facts" aria-label="How it stands">
          <dt>State</dt>
          <dd>
            <Badge kind={STATES[found.state]}>{found.state}</Badge>
          </dd>
          <dt>Function</dt>
          <dd>{found.function}</dd>
          <dt>Attempts</dt>
          <dd class="num">{found.attempts}</dd>
          <dt>Accepted</dt>
          <dd>{date(found.accepted_at)}</dd>
          {found.error && (
            <>
              <dt>Error</dt>
              <dd class="error">
                {found.error.code}: {found.error.message}
              </dd>
            </>
          )}
        </dl>
      )}
    </section>
  );
}
