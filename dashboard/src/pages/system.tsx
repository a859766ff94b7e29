// Who may come in, whether everything works, and which languages there are.
import { useEffect, useState } from "preact/hooks";
import { ApiError, fnPath, get, type Key, type Queue, send, write } from "../api";
import { date, size } from "../format";
import { account, connection, functions, loadRuntimes, may, pool, runtimes } from "../live";
import { Link } from "../router";
import { Badge, confirm, Copy, Dialog, Failed, Field, Loading, say } from "../ui";

export function SystemPage() {
  useEffect(() => {
    document.title = "System · Hearth";
    loadRuntimes().catch((problem: Error) => say(problem.message, true));
  }, []);
  return (
    <>
      <div class="head">
        <div>
          <h1>System</h1>
          <p class="muted">
            Signed in with the key <b>{account.value?.name}</b>
          </p>
        </div>
      </div>
      <Health />
      {may("admin") && <Checks />}
      {may("admin") && <Limits />}
      {may("admin") && <Keys />}
      <section class="card" aria-label="Runtimes">
        <div class="bar">
          <h2>Runtimes</h2>
        </div>
        <ul class="plain-list">
          {runtimes.value?.map((runtime) => (
            <li key={runtime.id}>
              <b>{runtime.id}</b> <span class="muted">{runtime.description}</span>
              <div class="row">
                {runtime.names.map((name) => (
                  <Badge key={name} kind="plain">
                    {name}
                  </Badge>
                ))}
              </div>
            </li>
          ))}
        </ul>
      </section>
    </>
  );
}

interface Check {
  about: string;
  verdict: "ok" | "warning" | "failed" | "skipped";
  found: string;
  mend: string | null;
}

const VERDICTS: Record<Check["verdict"], string> = { ok: "good", warning: "stem", failed: "bad", skipped: "plain" };

/** The doctor, who is asked and does not look by itself: that takes a moment. */
function Checks() {
  const [checks, setChecks] = useState<Check[]>();
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const look = async () => {
    setBusy(true);
    setError("");
    try {
      setChecks((await get<{ checks: Check[] }>("/overview/checks")).checks);
    } catch (problem) {
      setError((problem as Error).message);
    }
    setBusy(false);
  };
  return (
    <section class="card" aria-label="Doctor">
      <div class="bar">
        <h2>Doctor</h2>
        <span class="grow" />
        <button type="button" disabled={busy} onClick={look}>
          {busy ? "Looking…" : checks ? "Check again" : "Check the machine"}
        </button>
      </div>
      <div aria-live="polite">
        {error ? (
          <Failed text={error} />
        ) : checks ? (
          <ul class="plain-list">
            {checks.map((check) => (
              <li key={check.about}>
                <Badge kind={VERDICTS[check.verdict]}>{check.verdict}</Badge>
                <b>{check.about}</b>
                <span class="grow">
                  {check.found}
                  {check.mend && <span class="sub">{check.mend}</span>}
                </span>
              </li>
            ))}
          </ul>
        ) : (
          <p class="hint pad">Looks at everything Hearth needs of this machine: engine, mounts, images, store, disks, limits. It changes nothing.</p>
        )}
      </div>
    </section>
  );
}

function Health() {
  const [text, setText] = useState<string>();
  const look = async () => {
    try {
      const response = await send("/readyz");
      setText(response.ok ? "" : (await response.text()).replace(/^not ready: /, ""));
    } catch (error) {
      setText((error as Error).message);
    }
  };
  useEffect(() => {
    void look();
    const timer = setInterval(look, 5000);
    return () => clearInterval(timer);
  }, [connection.value]);
  return (
    <section class="card" aria-label="Health">
      <div class="bar">
        <h2>Health</h2>
        <span class="grow" />
        {text === undefined ? <span class="muted">Looking…</span> : <Badge kind={text ? "bad" : "good"}>{text ? "not ready" : "ready"}</Badge>}
      </div>
      {text && <p class="pad error">{text}</p>}
      <p class="hint pad">
        Numbers for a monitoring system are at <code>/metrics</code>.
      </p>
    </section>
  );
}

/** What is not set here: they are the server's configuration. */
function Limits() {
  const [queue, setQueue] = useState<Queue>();
  const [error, setError] = useState("");
  const load = () => {
    setError("");
    get<Queue>("/invocations/").then(setQueue, (problem: Error) => setError(problem.message));
  };
  useEffect(load, []);
  const seen = pool.value;
  const own = (functions.value ?? []).filter((fn) => fn.max_concurrency !== null || fn.reserved_concurrency !== null);
  return (
    <section class="card" aria-label="Limits">
      <div class="bar">
        <h2>Limits</h2>
      </div>
      {error ? (
        <Failed text={error} again={load} />
      ) : !seen || !queue ? (
        <Loading what="limits" />
      ) : (
        <dl class="facts pad">
          <dt>Calls at once</dt>
          <dd>
            {seen.concurrency_limit.toLocaleString("en")}, of which {seen.concurrency.toLocaleString("en")} are under way
          </dd>
          <dt>Memory of workers</dt>
          <dd>
            {size(seen.memory_total)}, of which {size(seen.memory_reserved)} are reserved
          </dd>
          <dt>Containers created at once</dt>
          <dd>{seen.lanes.bound}</dd>
          <dt>Stem workers</dt>
          <dd>{seen.stems[0] ? `${seen.stems[0].least} to ${seen.stems[0].most} of a runtime, as demand has it` : "none"}</dd>
          <dt>Events in the queue</dt>
          <dd>
            {queue.room.toLocaleString("en")}, of which {(queue.waiting + queue.running).toLocaleString("en")} are there
          </dd>
          <dt>Functions with their own</dt>
          <dd>
            {own.length === 0
              ? "none"
              : own.map((fn) => (
                  <div key={fn.id}>
                    <Link to={`/dashboard${fnPath(fn.name, "/settings")}`}>{fn.name}</Link>{" "}
                    {[
                      fn.max_concurrency !== null && `at most ${fn.max_concurrency} at once`,
                      fn.reserved_concurrency !== null && `${fn.reserved_concurrency} reserved`,
                    ]
                      .filter(Boolean)
                      .join(", ")}
                  </div>
                ))}
          </dd>
        </dl>
      )}
      <p class="hint pad">
        They are set in the server's configuration file; <code>hearth serve --dump-config</code> shows it.
      </p>
    </section>
  );
}

function Keys() {
  const [keys, setKeys] = useState<Key[]>();
  const [error, setError] = useState("");
  const [making, setMaking] = useState(false);
  const load = async () => {
    try {
      setKeys((await get<{ items: Key[] }>("/keys/")).items);
      setError("");
    } catch (problem) {
      setError((problem as Error).message);
    }
  };
  useEffect(() => void load(), []);

  const revoke = async (key: Key) => {
    const sure = await confirm({
      title: `Revoke ${key.name}?`,
      text: "Whoever uses this key is locked out within a second, also from sessions that were begun with it.",
      action: "Revoke key",
      danger: true,
    });
    if (!sure) return;
    try {
      await write("DELETE", `/keys/${encodeURIComponent(key.id)}`);
      say(`${key.name} is revoked.`);
      await load();
    } catch (problem) {
      say((problem as Error).message, true);
    }
  };

  return (
    <section class="card" aria-label="Keys">
      <div class="bar">
        <h2>Keys</h2>
        <span class="grow" />
        <button type="button" onClick={() => setMaking(true)}>
          New key
        </button>
      </div>
      {error ? (
        <Failed text={error} again={load} />
      ) : !keys ? (
        <Loading what="keys" />
      ) : (
        <div class="scroll-x" tabIndex={0} role="region" aria-label="List of keys">
          <table class="list">
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">May</th>
                <th scope="col">Functions</th>
                <th scope="col">Until</th>
                <th scope="col">
                  <span class="sr">Revoke</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {keys.map((key) => (
                <tr key={key.id}>
                  <th scope="row">
                    {key.name} <span class="sub">made {date(key.created_at)}</span>
                  </th>
                  <td>
                    <span class="row">
                      {key.scopes.map((scope) => (
                        <Badge key={scope} kind={scope === "admin" ? "stem" : "plain"}>
                          {scope}
                        </Badge>
                      ))}
                    </span>
                  </td>
                  <td>{key.functions?.length ? <code>{key.functions.join(", ")}</code> : "all"}</td>
                  <td>{key.expires_at ? date(key.expires_at) : "no end"}</td>
                  <td>
                    <button type="button" class="small" onClick={() => revoke(key)} aria-label={`Revoke ${key.name}`}>
                      Revoke
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {making && (
        <NewKey
          close={() => {
            setMaking(false);
            void load();
          }}
        />
      )}
    </section>
  );
}

const SCOPES: [string, string][] = [
  ["invoke", "call functions"],
  ["deploy", "make, change, delete and read them"],
  ["admin", "everything"],
];

function NewKey({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["invoke"]);
  const [pattern, setPattern] = useState("");
  const [days, setDays] = useState("");
  const [made, setMade] = useState("");
  const [error, setError] = useState<ApiError>();

  const submit = async (event: Event) => {
    event.preventDefault();
    const body: Record<string, unknown> = { name: name.trim(), scopes };
    if (pattern.trim()) body.functions = pattern.split(/[\s,]+/).filter(Boolean);
    if (days) body.expires_in = Number(days) * 86_400;
    try {
      setMade((await write<{ key: string }>("POST", "/keys/", body)).key);
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : new ApiError(0, { code: "unknown", message: String(problem) }));
    }
  };
  if (made) {
    return (
      <Dialog title={`The key ${name}`} close={close}>
        <p class="prose">It is shown this once: keep it now.</p>
        <pre class="output" tabIndex={0}>
          {made}
        </pre>
        <div class="row end">
          <Copy text={made} />
          <button type="button" class="primary" onClick={close}>
            Done
          </button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title="New key" close={close}>
      <form class="form bare" onSubmit={submit}>
        <Field label="Name" hint="For what, or for whom" error={error?.fault("name")}>
          {(attributes) => <input {...attributes} required maxLength={64} value={name} onInput={(event) => setName(event.currentTarget.value)} />}
        </Field>
        <fieldset>
          <legend>May</legend>
          {SCOPES.map(([scope, what]) => (
            <label class="check" key={scope}>
              <input
                type="checkbox"
                checked={scopes.includes(scope)}
                onChange={(event) => setScopes(event.currentTarget.checked ? [...scopes, scope] : scopes.filter((one) => one !== scope))}
              />{" "}
              <b>{scope}</b> {what}
            </label>
          ))}
          {error?.fault("scopes") && <p class="error">{error.fault("scopes")}</p>}
        </fieldset>
        <Field label="Functions" hint="Names or patterns like orders-*. Empty is all." error={error?.fault("functions")}>
          {(attributes) => <input {...attributes} spellcheck={false} placeholder="all" value={pattern} onInput={(event) => setPattern(event.currentTarget.value)} />}
        </Field>
        <Field label="Days it lasts" hint="Empty is without an end." error={error?.fault("expires_in")}>
          {(attributes) => (
            <input {...attributes} type="number" min={1} max={3650} placeholder="no end" value={days} onInput={(event) => setDays(event.currentTarget.value)} />
          )}
        </Field>
        {error && !error.detail.faults?.length && <p class="error">{error.message}</p>}
        <div class="row end">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button class="primary" disabled={!scopes.length}>
            Make key
          </button>
        </div>
      </form>
    </Dialog>
  );
}
