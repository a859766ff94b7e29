// A new function: from a runtime's template, or from a zip that is dropped here.
import { useEffect, useState } from "preact/hooks";
import { ApiError, type Fn, fnPath, type Runtime, write } from "../api";
import { Drop, named } from "../drop";
import { functions, loadRuntimes, may, refreshFunctions, runtimes } from "../live";
import { go } from "../router";
import { Empty, Failed, Field, Loading, say } from "../ui";

const short = (runtime: Runtime) => runtime.names[0] ?? runtime.id;

/** A name that is free. */
function free(base: string): string {
  const taken = new Set(functions.value?.map((fn) => fn.name));
  if (!taken.has(base)) return base;
  for (let n = 2; ; n++) if (!taken.has(`${base}-${n}`)) return `${base}-${n}`;
}

export function CreatePage() {
  const [runtime, setRuntime] = useState("");
  const [name, setName] = useState("");
  const [handler, setHandler] = useState("");
  const [zip, setZip] = useState<File>();
  const [error, setError] = useState<ApiError>();
  const [failed, setFailed] = useState("");
  const [progress, setProgress] = useState("");

  const load = () => {
    setFailed("");
    loadRuntimes().then(
      (all) => setRuntime((now) => now || all[0]?.id || ""),
      (problem: Error) => setFailed(problem.message),
    );
  };
  useEffect(() => {
    document.title = "New function · Hearth";
    load();
  }, []);

  const take = (file: File | undefined) => {
    setZip(file);
    if (file) setName((now) => now || named(file, 64));
  };

  if (!may("deploy")) {
    return (
      <Empty title="This key deploys nothing">
        <p>
          It needs the scope <code>deploy</code>.
        </p>
      </Empty>
    );
  }
  const all = runtimes.value;
  if (failed) return <Failed text={failed} again={load} />;
  if (!all) return <Loading what="runtimes" />;
  const chosen = all.find((one) => one.id === runtime) ?? all[0];
  if (!chosen) return <Failed text="No runtime is installed." />;
  const suggested = free(`my-${short(chosen)}`);

  const submit = async (event: Event) => {
    event.preventDefault();
    setError(undefined);
    const called = name.trim() || suggested;
    const body: Record<string, unknown> = { name: called, language: chosen.id };
    try {
      if (zip) {
        setProgress("Reading the package…");
        const { base64 } = await import("../zip");
        body.code = { zip: base64(new Uint8Array(await zip.arrayBuffer())) };
        body.handler = handler.trim() || chosen.default_handler;
      } else {
        body.code = { inline: chosen.template ?? "" };
      }
      setProgress("Deploying…");
      const made = await write<Fn>("POST", "/functions/", body);
      say(`${made.name} is deployed.`);
      await refreshFunctions();
      await go(`/dashboard${fnPath(made.name)}`);
    } catch (problem) {
      setProgress("");
      if (problem instanceof ApiError) setError(problem);
      else say(String(problem), true);
    }
  };

  return (
    <>
      <div class="head">
        <div>
          <h1>New function</h1>
          <p class="muted">It is deployed at once, from a template or from a zip. Change it afterwards.</p>
        </div>
      </div>
      <form class="card form create" onSubmit={submit} aria-label="New function">
        <fieldset>
          <legend>Runtime</legend>
          <div class="choices">
            {all.map((one) => (
              <label key={one.id} class="choice">
                <input type="radio" name="runtime" value={one.id} checked={one.id === chosen.id} onChange={() => setRuntime(one.id)} />
                <span>
                  <b>{one.id}</b>
                  <small>{one.description}</small>
                </span>
              </label>
            ))}
          </div>
        </fieldset>
        <Field label="Name" hint="Letters, digits, - and _" error={error?.fault("name")}>
          {(attributes) => (
            <input
              {...attributes}
              spellcheck={false}
              maxLength={64}
              pattern="[A-Za-z0-9_\-]+"
              placeholder={suggested}
              value={name}
              onInput={(event) => setName(event.currentTarget.value)}
            />
          )}
        </Field>
        <Drop zip={zip} take={take} without="Use the template instead">
          Starts from the template of <b>{chosen.id}</b>. To deploy your own code, drop a zip anywhere on this page
        </Drop>
        {zip && (
          <Field label="Handler" hint="Where in the package it begins: module.function" error={error?.fault("handler")}>
            {(attributes) => (
              <input
                {...attributes}
                spellcheck={false}
                maxLength={128}
                placeholder={chosen.default_handler}
                value={handler}
                onInput={(event) => setHandler(event.currentTarget.value)}
              />
            )}
          </Field>
        )}
        {!zip && chosen.template && (
          <details>
            <summary>What the template does</summary>
            <pre class="output" tabIndex={0} aria-label="Template">
              {chosen.template}
            </pre>
          </details>
        )}
        {error && (
          <p class="error" role="alert">
            {error.message}
          </p>
        )}
        <div class="row end">
          <span class="muted" role="status">
            {progress}
          </span>
          <button class="primary" disabled={!!progress}>
            {progress ? "Deploying…" : "Create function"}
          </button>
        </div>
      </form>
    </>
  );
}
