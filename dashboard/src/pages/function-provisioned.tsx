// Workers that are kept ready for a version or an alias: how many, and how many are there.
import { useEffect, useState } from "preact/hooks";
import { type Alias, ApiError, type Fn, fnPath, get, type Provisioned as Kept, type Version, write } from "../api";
import { Badge, confirm, Failed, Field, Loading, say } from "../ui";

const LOOK = 1000;
const SLOW_LOOK = 5000;

const STATUS: Record<Kept["status"], [string, string]> = {
  IN_PROGRESS: ["starting", "Pending"],
  READY: ["good", "Ready"],
  FAILED: ["bad", "Failed, tried again"],
};

export function Provisioned({ fn, versions, aliases }: { fn: Fn; versions: Version[]; aliases: Alias[] }) {
  const [kept, setKept] = useState<Kept[]>();
  const [error, setError] = useState("");
  const [turn, setTurn] = useState(0);
  const path = (qualifier: string) => fnPath(fn.id, `/provisioned-concurrency?qualifier=${encodeURIComponent(qualifier)}`);

  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const look = async () => {
      let wait = SLOW_LOOK;
      try {
        if (!document.hidden) {
          const { items } = await get<{ items: Kept[] }>(fnPath(fn.id, "/provisioned-concurrency"), stop.signal);
          setKept(items);
          setError("");
          if (items.some((one) => one.status !== "READY")) wait = LOOK;
        }
      } catch (problem) {
        if (stop.signal.aborted) return;
        setError((problem as Error).message);
      }
      timer = setTimeout(look, wait);
    };
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [fn.id, turn, aliases]);
  const again = () => setTurn((turn) => turn + 1);

  const remove = async (one: Kept) => {
    const sure = await confirm({
      title: `Keep no workers ready for ${one.qualifier}?`,
      text: "The workers that are there stay as long as any other. After that its calls may be cold again.",
      action: "Stop keeping them",
      danger: true,
    });
    if (!sure) return;
    try {
      await write("DELETE", path(one.qualifier));
      say(`No workers are kept ready for ${one.qualifier} any more.`);
    } catch (problem) {
      say((problem as Error).message, true);
    }
    again();
  };
  const free = [...aliases.filter((alias) => alias.version !== "$LATEST").map(({ name }) => name), ...versions.map(({ number }) => String(number))].filter(
    (name) => !kept?.some((one) => one.qualifier === name),
  );
  return (
    <section class="card" aria-label="Provisioned concurrency">
      <div class="bar">
        <h2>Provisioned concurrency</h2>
        <span class="grow" />
        <span class="hint">Workers kept ready: so many calls at once are never cold</span>
      </div>
      {error && !kept ? (
        <Failed text={error} again={again} />
      ) : !kept ? (
        <Loading what="what is provisioned" />
      ) : (
        <>
          {kept.map((one) => (
            <div key={one.qualifier} class="alias">
              <b>{named(one.qualifier)}</b>
              <span role="status">
                <Badge kind={STATUS[one.status][0]}>{STATUS[one.status][1]}</Badge>{" "}
                <span class="num">
                  {one.available} of {one.requested} ready
                </span>
              </span>
              {one.reason && <span class="error">{one.reason}</span>}
              <span class="grow" />
              <Wish key={one.requested} path={path(one.qualifier)} of={one.qualifier} now={one.requested} done={again} />
              <button type="button" class="small" onClick={() => remove(one)} aria-label={`Remove the workers of ${one.qualifier}`}>
                Remove
              </button>
            </div>
          ))}
          {free.length > 0 ? (
            <NewWish key={kept.length} free={free} path={path} done={again} />
          ) : (
            !kept.length && (
              <div class="empty">
                <p>Publish a version first: workers are kept ready for a version, or for an alias that points at one.</p>
              </div>
            )
          )}
        </>
      )}
    </section>
  );
}

const named = (qualifier: string) => (/^\d+$/.test(qualifier) ? `version ${qualifier}` : qualifier);

interface WishProps {
  path: string;
  of: string;
  now: number;
  done: () => void;
}

/** Another number for what is there. */
function Wish({ path, of, now, done }: WishProps) {
  const [wanted, setWanted] = useState(String(now));
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await write("PUT", path, { requested: Number(wanted) });
      say(`${wanted} of ${named(of)} ${wanted === "1" ? "is" : "are"} kept ready.`);
      done();
    } catch (problem) {
      setError((problem as Error).message);
    }
    setBusy(false);
  };
  return (
    <form class="row" onSubmit={submit} aria-label={`Workers of ${of}`}>
      <input
        class="short"
        type="number"
        inputMode="numeric"
        min={1}
        required
        aria-label={`Workers kept ready for ${of}`}
        aria-invalid={!!error}
        value={wanted}
        onInput={(event) => setWanted(event.currentTarget.value)}
      />
      <button class="small primary" disabled={busy || wanted === String(now)} aria-label={`Set the workers of ${of}`}>
        Set
      </button>
      {error && (
        <span class="error" role="alert">
          {error}
        </span>
      )}
    </form>
  );
}

function NewWish({ free, path, done }: { free: string[]; path: (qualifier: string) => string; done: () => void }) {
  const [of, setOf] = useState(free[0] ?? "");
  const [wanted, setWanted] = useState("1");
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await write("PUT", path(of), { requested: Number(wanted) });
      done();
    } catch (problem) {
      if (problem instanceof ApiError) setError(problem);
      else say(String(problem), true);
    }
    setBusy(false);
  };
  return (
    <form class="new-alias" onSubmit={submit} aria-label="Keep workers ready">
      <Field label="Keep ready for" hint="A version, or what an alias points at">
        {(attributes) => (
          <select {...attributes} value={of} onChange={(event) => setOf(event.currentTarget.value)}>
            {free.map((name) => (
              <option key={name} value={name}>
                {named(name)}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label="Workers" hint="They take a part of the limit of calls for themselves" error={error && (error.fault("requested") ?? error.message)}>
        {(attributes) => (
          <input {...attributes} type="number" inputMode="numeric" min={1} required value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />
        )}
      </Field>
      <button disabled={busy}>Keep ready</button>
    </form>
  );
}
