// Where a function is called: by the API, at its route, and at URLs of its own and of its aliases, which are made, changed and deleted here.
import { useEffect, useRef, useState } from "preact/hooks";
import { type Alias, ApiError, type Cors, type Fn, fnPath, type FunctionUrl, get, write } from "../api";
import { functions } from "../live";
import { guarded, Link } from "../router";
import { Badge, confirm, Copy, Failed, Field, Loading, say } from "../ui";

export const LATEST = "$LATEST";

const quoted = (url: string) => `'${url.replace(/'/g, "%27")}'`;

/** A command to copy that calls the function through the API. */
export const callByApi = (fn: Fn) =>
  `curl -sS -X POST ${quoted(`${location.origin}${fnPath(fn.name, "/execute")}`)} -H "Authorization: Bearer $HEARTH_KEY" -d '{"name": "Ada"}'`;

export const callByRoute = (route: string) => `curl -sS ${quoted(location.origin + route)}`;

/** AWS's variables are those that `hearth env` sets. */
const callByUrl = ({ auth_type, invoke_mode, url }: FunctionUrl) =>
  [
    "curl -sS",
    invoke_mode === "RESPONSE_STREAM" && "-N",
    auth_type === "AWS_IAM" && '--aws-sigv4 "aws:amz:$AWS_REGION:lambda" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"',
    quoted(location.origin + url),
  ]
    .filter(Boolean)
    .join(" ");

export function Command({ text, label }: { text: string; label: string }) {
  return (
    <div class="address">
      <code tabIndex={0} role="group" aria-label={label}>
        {text}
      </code>
      <Copy text={text} />
    </div>
  );
}

export function Urls({ fn }: { fn: Fn }) {
  const [urls, setUrls] = useState<FunctionUrl[]>();
  const [aliases, setAliases] = useState<Alias[]>([]);
  const [error, setError] = useState("");
  const [editing, setEditing] = useState("");
  const [busy, setBusy] = useState(false);

  const load = async () => {
    try {
      const [own, named] = await Promise.all([
        get<{ items: FunctionUrl[] }>(fnPath(fn.id, "/urls")),
        get<{ items: Alias[] }>(fnPath(fn.id, "/aliases?limit=1000")),
      ]);
      setUrls(own.items);
      setAliases(named.items);
      setError("");
    } catch (problem) {
      setError((problem as Error).message);
    }
  };
  // What others change shows as a change of the functions there are.
  useEffect(() => void load(), [functions.value]);

  if (error && !urls) return <Failed text={error} again={load} />;
  if (!urls) return <Loading what="URLs" />;
  const free = [LATEST, ...aliases.map(({ name }) => name)].filter((name) => !urls.some((url) => url.qualifier === name));
  const remove = async (url: FunctionUrl) => {
    const sure = await confirm({
      title: `Delete the URL of ${of(url.qualifier)}?`,
      text: "Nobody is answered at this address any more. A new one gets another address.",
      action: "Delete URL",
      danger: true,
    });
    if (!sure) return;
    setBusy(true);
    try {
      await write("DELETE", fnPath(fn.id, `/urls?qualifier=${encodeURIComponent(url.qualifier)}`));
      say("The URL is deleted.");
      await load();
    } catch (problem) {
      say((problem as Error).message, true);
    }
    setBusy(false);
  };
  const done = async (said: string) => {
    setEditing("");
    say(said);
    await load();
  };
  return (
    <>
      <section class="card" aria-label="How it is called">
        <div class="bar">
          <h2>How it is called</h2>
          <span class="grow" />
          <span class="hint">
            <code>eval "$(hearth env)"</code> sets the variables in these commands
          </span>
        </div>
        <div class="ways">
          <h3>By the API, with a key</h3>
          <Command text={callByApi(fn)} label="Call by the API" />
          <h3>
            By its route, without a key{fn.route ? "" : ": it has none. "}
            {!fn.route && <Link to={`/dashboard${fnPath(fn.name, "/settings")}`}>Give it one</Link>}
          </h3>
          {fn.route && <Command text={callByRoute(fn.route)} label="Call by the route" />}
        </div>
      </section>
      <section class="card" aria-label="Function URLs">
        <div class="bar">
          <h2>Function URLs</h2>
          <span class="grow" />
          <span class="hint">Plain HTTP at an address nobody can guess, as AWS has them</span>
        </div>
        {urls.map((url) => (
          <div key={url.qualifier} class="url">
            <div class="row">
              <b>{of(url.qualifier)}</b>
              <Badge kind={url.auth_type === "NONE" ? "stem" : "good"}>{url.auth_type === "NONE" ? "open to everybody" : "signed calls only"}</Badge>
              <Badge kind="plain">{url.invoke_mode === "BUFFERED" ? "whole answers" : "streams"}</Badge>
              {url.cors && <Badge kind="plain">CORS</Badge>}
              <span class="grow" />
              <Copy text={location.origin + url.url} label="Copy the URL" />
              {editing !== url.qualifier && (
                <button type="button" class="small" onClick={() => setEditing(url.qualifier)} aria-label={`Change the URL of ${of(url.qualifier)}`}>
                  Change
                </button>
              )}
              <button type="button" class="small" disabled={busy} onClick={() => remove(url)} aria-label={`Delete the URL of ${of(url.qualifier)}`}>
                Delete
              </button>
            </div>
            <Command text={callByUrl(url)} label={`Call by the URL of ${of(url.qualifier)}`} />
            {url.cors && <CorsFacts cors={url.cors} />}
            {editing === url.qualifier && <UrlForm key={url.updated_at} fn={fn} there={url} free={[url.qualifier]} done={done} cancel={() => setEditing("")} />}
          </div>
        ))}
        {editing === "new" ? (
          <div class="url">
            <UrlForm fn={fn} free={free} done={done} cancel={() => setEditing("")} />
          </div>
        ) : urls.length === 0 ? (
          <div class="empty">
            <p>None yet. Pages, webhooks and apps made for function URLs call the function there, without Hearth's API.</p>
            <button type="button" class="primary" onClick={() => setEditing("new")}>
              Make a URL
            </button>
          </div>
        ) : (
          free.length > 0 && (
            <p class="pad">
              <button type="button" onClick={() => setEditing("new")}>
                Make another URL
              </button>
            </p>
          )
        )}
      </section>
    </>
  );
}

const of = (qualifier: string) => (qualifier === LATEST ? "the function as it is" : `alias ${qualifier}`);

const LISTS = [
  ["allow_origins", "Origins", "One a line, https://example.org; * is all"],
  ["allow_methods", "Methods", "GET, POST …; * is all"],
  ["allow_headers", "Request headers", "Headers a page may send; * is all"],
  ["expose_headers", "Answer headers", "Headers a page may read"],
] as const;

function CorsFacts({ cors }: { cors: Cors }) {
  return (
    <dl class="facts small-list">
      {LISTS.map(([name, label]) => {
        const list = cors[name];
        return (
          list && (
            <>
              <dt>{label}</dt>
              <dd>
                <code>{list.join(", ") || "none"}</code>
              </dd>
            </>
          )
        );
      })}
      {cors.allow_credentials && (
        <>
          <dt>Cookies</dt>
          <dd>allowed</dd>
        </>
      )}
      {cors.max_age !== undefined && (
        <>
          <dt>Remembered</dt>
          <dd>{cors.max_age} s</dd>
        </>
      )}
    </dl>
  );
}

interface FormProps {
  fn: Fn;
  there?: FunctionUrl;
  free: string[];
  done: (said: string) => void;
  cancel: () => void;
}

const words = (text: string) => text.split(/[\s,]+/).filter(Boolean);

function UrlForm({ fn, there, free, done, cancel }: FormProps) {
  const cors = there?.cors;
  const before = {
    qualifier: free[0] ?? LATEST,
    auth: there?.auth_type ?? "AWS_IAM",
    mode: there?.invoke_mode ?? "BUFFERED",
    cors: !!cors,
    allow_origins: cors?.allow_origins?.join("\n") ?? (cors ? "" : "*"),
    allow_methods: cors?.allow_methods?.join(", ") ?? "",
    allow_headers: cors?.allow_headers?.join(", ") ?? "",
    expose_headers: cors?.expose_headers?.join(", ") ?? "",
    credentials: cors?.allow_credentials ?? false,
    max_age: cors?.max_age?.toString() ?? "",
  };
  const [form, setForm] = useState(before);
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const unsaved = useRef(false);
  unsaved.current = JSON.stringify(form) !== JSON.stringify(before);
  useEffect(() => guarded(() => (unsaved.current ? "The URL has changes that are not saved." : "")), []);
  // Where one goes on who has no mouse: the button that opened it is gone.
  const place = useRef<HTMLFormElement>(null);
  useEffect(() => place.current?.querySelector("select")?.focus(), []);
  const set = (part: Partial<typeof before>) => setForm((now) => ({ ...now, ...part }));

  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    const allowed: Cors = {};
    for (const [name] of LISTS) if (words(form[name]).length) allowed[name] = words(form[name]);
    if (form.credentials) allowed.allow_credentials = true;
    if (form.max_age) allowed.max_age = Number(form.max_age);
    try {
      const wish = { auth_type: form.auth, invoke_mode: form.mode, cors: form.cors ? allowed : null };
      await write("PUT", fnPath(fn.id, `/urls?qualifier=${encodeURIComponent(form.qualifier)}`), wish);
      unsaved.current = false;
      done(there ? "The URL is changed." : "The URL is made.");
    } catch (problem) {
      setBusy(false);
      if (problem instanceof ApiError) setError(problem);
      else say(String(problem), true);
    }
  };
  return (
    <form ref={place} class="form bare" onSubmit={submit} aria-label={there ? `URL of ${of(there.qualifier)}` : "New URL"}>
      <fieldset>
        <legend class="sr">What it is</legend>
        {!there && (
          <Field label="Leads to" hint="An alias keeps its URL when it moves" error={error?.fault("qualifier")}>
            {(attributes) => (
              <select {...attributes} value={form.qualifier} onChange={(event) => set({ qualifier: event.currentTarget.value })}>
                {free.map((name) => (
                  <option key={name} value={name}>
                    {of(name)}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        <Field
          label="Who may call"
          hint={form.auth === "NONE" ? "Everybody who reaches this server, without a key" : "Who signs as AWS's clients do, with a key that may call it"}
          error={error?.fault("auth_type")}
        >
          {(attributes) => (
            <select {...attributes} value={form.auth} onChange={(event) => set({ auth: event.currentTarget.value as FunctionUrl["auth_type"] })}>
              <option value="AWS_IAM">Signed calls (AWS_IAM)</option>
              <option value="NONE">Everybody (NONE)</option>
            </select>
          )}
        </Field>
        <Field
          label="Answers"
          hint={form.mode === "BUFFERED" ? "Read whole, and taken as status, headers and body" : "Passed on as they come, as they are"}
          error={error?.fault("invoke_mode")}
        >
          {(attributes) => (
            <select {...attributes} value={form.mode} onChange={(event) => set({ mode: event.currentTarget.value as FunctionUrl["invoke_mode"] })}>
              <option value="BUFFERED">Whole (BUFFERED)</option>
              <option value="RESPONSE_STREAM">As a stream (RESPONSE_STREAM)</option>
            </select>
          )}
        </Field>
      </fieldset>
      <label class="check">
        <input type="checkbox" checked={form.cors} onChange={(event) => set({ cors: event.currentTarget.checked })} /> Pages from elsewhere may call it (CORS)
      </label>
      {form.cors && (
        <fieldset>
          <legend class="sr">CORS</legend>
          {LISTS.map(([name, label, hint]) => (
            <Field key={name} label={label} hint={hint} error={error?.fault(`cors.${name}`)}>
              {(attributes) =>
                name === "allow_origins" ? (
                  <textarea {...attributes} rows={2} spellcheck={false} value={form[name]} onInput={(event) => set({ [name]: event.currentTarget.value })} />
                ) : (
                  <input {...attributes} spellcheck={false} value={form[name]} onInput={(event) => set({ [name]: event.currentTarget.value })} />
                )
              }
            </Field>
          ))}
          <Field label="Remembered for seconds" hint="How long a browser need not ask again; 0 to 86400" error={error?.fault("cors.max_age")}>
            {(attributes) => (
              <input
                {...attributes}
                type="number"
                inputMode="numeric"
                min={0}
                max={86_400}
                placeholder="not said"
                value={form.max_age}
                onInput={(event) => set({ max_age: event.currentTarget.value })}
              />
            )}
          </Field>
          <label class="check">
            <input type="checkbox" checked={form.credentials} onChange={(event) => set({ credentials: event.currentTarget.checked })} /> With cookies
          </label>
        </fieldset>
      )}
      {error && !error.detail.faults?.length && (
        <p class="error" role="alert">
          {error.message}
        </p>
      )}
      <div class="row end">
        <button type="button" onClick={cancel}>
          Cancel
        </button>
        <button class="primary" disabled={busy}>
          {busy ? "Working…" : there ? "Save" : "Make the URL"}
        </button>
      </div>
    </form>
  );
}
