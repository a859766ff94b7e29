// Who may come in, whether everything works, and which languages there are.
import { useEffect, useState } from "preact/hooks";
import { ApiError, get, type Key, send, write } from "../api";
import { date } from "../format";
import { account, loadRuntimes, may, runtimes } from "../live";
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
    const timer = setInterval(look, 10_000);
    return () => clearInterval(timer);
  }, []);
  return (
    <section class="card" aria-label="Health">
      <div class="bar">
        <h2>Health</h2>
        <span class="grow" />
        {text === undefined ? <span class="muted">Looking…</span> : <Badge kind={text ? "bad" : "good"}>{text ? "not ready" : "ready"}</Badge>}
      </div>
      {text && <p class="pad error">{text}</p>}
      <p class="hint pad">
        Numbers for a monitoring system are at <code>/metrics</code>; <code>hearth doctor</code> checks the machine.
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
