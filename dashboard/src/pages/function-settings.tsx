// A function's settings as a form: only what was changed is sent, and what is wrong is said beside its field.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type Fn, fnPath, write } from "../api";
import { date, size } from "../format";
import { guarded } from "../router";
import { Copy, Field, say } from "../ui";
import { Layers } from "./function-layers";

interface Pair {
  key: string;
  value: string;
}

interface Form {
  name: string;
  handler: string;
  description: string;
  timeout: string;
  memory: string;
  route: string;
  max_concurrency: string;
  reserved_concurrency: string;
  max_retries: string;
  max_event_age: string;
  on_success: string;
  on_failure: string;
  network: string;
  layers: string[];
  environment: Pair[];
  tags: Pair[];
}

const pairs = (map: Record<string, string>): Pair[] => Object.entries(map).map(([key, value]) => ({ key, value }));

const formOf = (fn: Fn): Form => ({
  name: fn.name,
  handler: fn.handler,
  description: fn.description,
  timeout: String(fn.timeout),
  memory: String(fn.memory),
  route: fn.route ?? "",
  max_concurrency: fn.max_concurrency?.toString() ?? "",
  reserved_concurrency: fn.reserved_concurrency?.toString() ?? "",
  max_retries: fn.max_retries?.toString() ?? "",
  max_event_age: fn.max_event_age?.toString() ?? "",
  on_success: fn.on_success ?? "",
  on_failure: fn.on_failure ?? "",
  network: fn.network,
  layers: fn.layers,
  environment: pairs(fn.environment),
  tags: pairs(fn.tags),
});

function changeOf(fn: Fn, form: Form): Record<string, unknown> {
  const before = formOf(fn);
  const change: Record<string, unknown> = {};
  for (const name of ["name", "handler", "description", "network"] as const) if (form[name] !== before[name]) change[name] = form[name];
  for (const name of ["timeout", "memory"] as const) if (form[name] !== before[name]) change[name] = Number(form[name]);
  for (const name of ["max_concurrency", "reserved_concurrency", "max_retries", "max_event_age"] as const) {
    if (form[name] !== before[name]) change[name] = form[name] === "" ? null : Number(form[name]);
  }
  for (const name of ["route", "on_success", "on_failure"] as const) if (form[name] !== before[name]) change[name] = form[name] || null;
  if (form.layers.join() !== before.layers.join()) change.layers = form.layers;
  for (const name of ["environment", "tags"] as const) {
    const now = form[name].filter(({ key }) => key);
    if (JSON.stringify(now) !== JSON.stringify(before[name])) change[name] = Object.fromEntries(now.map(({ key, value }) => [key, value]));
  }
  return change;
}

export function Settings({ fn, changed, remove }: { fn: Fn; changed: (fn: Fn) => void; remove: () => void }) {
  const [form, setForm] = useState(() => formOf(fn));
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const change = changeOf(fn, form);
  const dirty = useRef(0);
  dirty.current = Object.keys(change).length;
  useEffect(() => guarded(() => (dirty.current ? `The settings of ${fn.name} have changes that are not saved.` : "")), []);

  const set = <K extends keyof Form>(name: K, value: Form[K]) => setForm((before) => ({ ...before, [name]: value }));
  const wrong = (name: string) => error?.detail.faults?.find((fault) => fault.field === name || fault.field.startsWith(`${name}.`))?.message;

  const save = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      const now = await write<Fn>("PUT", fnPath(fn.id), { ...change, revision: fn.revision });
      dirty.current = 0;
      say(`The settings of ${now.name} are saved.`);
      changed(now);
    } catch (problem) {
      if (problem instanceof ApiError) setError(problem);
      say((problem as Error).message, true);
    }
    setBusy(false);
  };
  const text = (name: "name" | "handler" | "description" | "route" | "on_success" | "on_failure", label: string, hint: string, more = {}) => (
    <Field label={label} hint={hint} error={wrong(name)}>
      {(attributes) => (
        <input {...attributes} {...more} spellcheck={false} value={form[name]} onInput={(event) => set(name, event.currentTarget.value)} />
      )}
    </Field>
  );
  const number = (name: "timeout" | "memory" | "max_concurrency" | "reserved_concurrency" | "max_retries" | "max_event_age", label: string, hint: string, more = {}) => (
    <Field label={label} hint={hint} error={wrong(name)}>
      {(attributes) => (
        <input {...attributes} {...more} type="number" inputMode="numeric" value={form[name]} onInput={(event) => set(name, event.currentTarget.value)} />
      )}
    </Field>
  );

  return (
    <>
      <form class="card form" onSubmit={save} aria-label="Settings">
        <fieldset>
          <legend>General</legend>
          {text("name", "Name", "Letters, digits, - and _", { maxLength: 64, required: true })}
          {fn.code.origin !== "image" && text("handler", "Handler", "module.function", { maxLength: 128, required: true })}
          {text("description", "Description", "For people", { maxLength: 256 })}
          {text("route", "Route", "Plain HTTP without a key, for example /orders/{id}. Empty is none.", { placeholder: "none", maxLength: 512 })}
        </fieldset>
        <fieldset>
          <legend>Resources</legend>
          {number("memory", "Memory in MiB", "128 to 10240; processor time is in proportion", { min: 128, max: 10240, required: true })}
          {number("timeout", "Timeout in seconds", "1 to 900", { min: 1, max: 900, required: true })}
          {number("max_concurrency", "Most calls at once", "Over it calls get 429. Empty is the account's limit.", { min: 0, placeholder: "no own limit" })}
          {number("reserved_concurrency", "Reserved concurrency", "A part of the limit for this function alone. Empty is none.", { min: 0, placeholder: "none" })}
          <Field label="Network" hint="Connections from inside the function" error={wrong("network")}>
            {(attributes) => (
              <select {...attributes} value={form.network} onChange={(event) => set("network", event.currentTarget.value)}>
                <option value="none">None</option>
                <option value="egress">To the outside</option>
              </select>
            )}
          </Field>
        </fieldset>
        <fieldset>
          <legend>Asynchronous calls</legend>
          {number("max_retries", "Retries", "0 to 2. Empty is as the server is configured.", { min: 0, max: 2, placeholder: "the server's" })}
          {number("max_event_age", "Longest age in seconds", "An older event is given up. Empty is as the server is configured.", {
            min: 60,
            placeholder: "the server's",
          })}
          {text("on_success", "Told of success", "function:NAME, a URL, a queue's ARN, or with Redis stream:KEY", { placeholder: "nobody", maxLength: 2048 })}
          {text("on_failure", "Told of failure", "Nobody: then it is a dead letter", { placeholder: "nobody", maxLength: 2048 })}
        </fieldset>
        <Layers layers={form.layers} set={(layers) => set("layers", layers)} error={wrong("layers")} />
        <Pairs
          legend="Environment"
          what="variable"
          hint="Kept encrypted and never shown: **** keeps the value there is."
          error={wrong("environment")}
          pairs={form.environment}
          set={(pairs) => set("environment", pairs)}
        />
        <Pairs legend="Tags" what="tag" hint="For finding functions again." error={wrong("tags")} pairs={form.tags} set={(pairs) => set("tags", pairs)} />
        {error && !error.detail.faults?.length && (
          <p class="error" role="alert">
            {error.message}
          </p>
        )}
        <div class="row end sticky">
          <button type="button" disabled={!dirty.current} onClick={() => setForm(formOf(fn))}>
            Undo
          </button>
          <button class="primary" disabled={busy || !dirty.current}>
            {busy ? "Saving…" : "Save"}
          </button>
        </div>
      </form>
      <section class="card form" aria-label="About">
        <dl class="facts">
          <dt>Id</dt>
          <dd>
            <code>{fn.id}</code> <Copy text={fn.id} />
          </dd>
          <dt>Code</dt>
          <dd>
            {fn.code.image ? "" : `${size(fn.code.size)}, `}
            {fn.code.origin}
            {fn.code.path && `, ${fn.code.path}`}
            {fn.code.image && `, ${fn.code.image.uri}`}
          </dd>
          <dt>SHA-256</dt>
          <dd>
            <code class="break">{fn.code.sha256}</code>
          </dd>
          <dt>Created</dt>
          <dd>{date(fn.created_at)}</dd>
          <dt>Changed</dt>
          <dd>{date(fn.updated_at)}</dd>
        </dl>
        <div class="row end">
          <button type="button" class="danger outline" onClick={remove}>
            Delete function
          </button>
        </div>
      </section>
    </>
  );
}

interface PairsProps {
  legend: string;
  what: string;
  hint: string;
  error?: string;
  pairs: Pair[];
  set: (pairs: Pair[]) => void;
}

function Pairs({ legend, what, hint, error, pairs, set }: PairsProps) {
  const change = (at: number, part: Partial<Pair>) => set(pairs.map((pair, n) => (n === at ? { ...pair, ...part } : pair)));
  return (
    <fieldset class="pairs">
      <legend>{legend}</legend>
      {pairs.map((pair, at) => (
        <div class="pair" key={at}>
          <input
            aria-label={`Name of ${what} ${at + 1}`}
            placeholder="NAME"
            spellcheck={false}
            value={pair.key}
            onInput={(event) => change(at, { key: event.currentTarget.value })}
          />
          <input
            aria-label={`Value of ${what} ${at + 1}`}
            placeholder="value"
            spellcheck={false}
            autocomplete="off"
            value={pair.value}
            onInput={(event) => change(at, { value: event.currentTarget.value })}
          />
          <button type="button" aria-label={`Remove ${what} ${at + 1}`} onClick={() => set(pairs.filter((_, n) => n !== at))}>
            ×
          </button>
        </div>
      ))}
      <div class="row">
        <button type="button" onClick={() => set([...pairs, { key: "", value: "" }])}>
          Add {what}
        </button>
        <span class={error ? "hint error" : "hint"}>{error ?? hint}</span>
      </div>
    </fieldset>
  );
}
