// Settings for asynchronous calls that a version or an alias has of its own, instead of all those the function has.
import { useEffect, useState } from "preact/hooks";
import { type Alias, ApiError, type Fn, fnPath, get, type Version, write } from "../api";
import { confirm, Failed, Field, Loading, say } from "../ui";

interface Own {
  qualifier: string;
  max_retries: number | null;
  max_event_age: number | null;
  on_success: string | null;
  on_failure: string | null;
}

const NONE = { max_retries: null, max_event_age: null, on_success: null, on_failure: null };

const named = (qualifier: string) => (/^\d+$/.test(qualifier) ? `version ${qualifier}` : qualifier);

export function OwnEvents({ fn, versions, aliases }: { fn: Fn; versions: Version[]; aliases: Alias[] }) {
  const [all, setAll] = useState<Own[]>();
  const [error, setError] = useState("");
  /** The qualifier that is given settings now. */
  const [opened, setOpened] = useState("");
  const [chosen, setChosen] = useState("");
  const path = (qualifier: string) => fnPath(fn.id, `/asynchronous?qualifier=${encodeURIComponent(qualifier)}`);

  const load = async () => {
    try {
      setAll((await get<{ items: Own[] }>(fnPath(fn.id, "/asynchronous"))).items);
      setError("");
    } catch (problem) {
      setError((problem as Error).message);
    }
  };
  // A version or an alias that is deleted takes its settings with it.
  useEffect(() => void load(), [fn.id, versions, aliases]);

  const remove = async (qualifier: string) => {
    const sure = await confirm({
      title: `Take the own event settings of ${named(qualifier)} away?`,
      text: "Its asynchronous calls are run by the function's settings from then on.",
      action: "Take them away",
      danger: true,
    });
    if (!sure) return;
    try {
      await write("DELETE", path(qualifier));
      say(`${named(qualifier)} has the function's event settings.`);
    } catch (problem) {
      say((problem as Error).message, true);
    }
    void load();
  };
  const saved = () => {
    setOpened("");
    void load();
  };
  const free = [...aliases.map(({ name }) => name), ...versions.map(({ number }) => String(number))].filter(
    (name) => !all?.some((own) => own.qualifier === name),
  );
  const first = free.includes(chosen) ? chosen : free[0];
  return (
    <section class="card" aria-label="Event settings">
      <div class="bar">
        <h2>Event settings</h2>
        <span class="grow" />
        <span class="hint">For asynchronous calls of a version or an alias, instead of the function's</span>
      </div>
      {error && !all ? (
        <Failed text={error} again={load} />
      ) : !all ? (
        <Loading what="event settings" />
      ) : (
        <>
          {all.map((own) => (
            <div key={own.qualifier} class="alias">
              <b>{named(own.qualifier)}</b>
              <span class="muted">{summed(own)}</span>
              <span class="grow" />
              <button type="button" class="small" onClick={() => setOpened(own.qualifier)} aria-label={`Change the event settings of ${own.qualifier}`}>
                Change
              </button>
              <button type="button" class="small" onClick={() => remove(own.qualifier)} aria-label={`Remove the event settings of ${own.qualifier}`}>
                Remove
              </button>
            </div>
          ))}
          {opened ? (
            <Form
              key={opened}
              of={opened}
              path={path(opened)}
              now={all.find((own) => own.qualifier === opened) ?? NONE}
              saved={saved}
              close={() => setOpened("")}
            />
          ) : first ? (
            <div class="new-alias">
              <Field label="Own settings for" hint="All of them: what is left empty is the server's, not the function's">
                {(attributes) => (
                  <select {...attributes} value={first} onChange={(event) => setChosen(event.currentTarget.value)}>
                    {free.map((name) => (
                      <option key={name} value={name}>
                        {named(name)}
                      </option>
                    ))}
                  </select>
                )}
              </Field>
              <button type="button" onClick={() => setOpened(first)}>
                Give it its own
              </button>
            </div>
          ) : (
            !all.length && (
              <div class="empty">
                <p>Publish a version or make an alias first.</p>
              </div>
            )
          )}
        </>
      )}
    </section>
  );
}

function summed(own: Own): string {
  const parts = [
    own.max_retries === null ? "retries as the server's" : `${own.max_retries} ${own.max_retries === 1 ? "retry" : "retries"}`,
    own.max_event_age === null ? "age as the server's" : `for ${own.max_event_age} s`,
    own.on_success && `success to ${own.on_success}`,
    own.on_failure && `failure to ${own.on_failure}`,
  ];
  return parts.filter(Boolean).join(", ");
}

interface FormProps {
  of: string;
  path: string;
  now: Omit<Own, "qualifier">;
  saved: () => void;
  close: () => void;
}

function Form({ of, path, now, saved, close }: FormProps) {
  const [form, setForm] = useState({
    max_retries: now.max_retries?.toString() ?? "",
    max_event_age: now.max_event_age?.toString() ?? "",
    on_success: now.on_success ?? "",
    on_failure: now.on_failure ?? "",
  });
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const input = (name: keyof typeof form, label: string, hint: string, more: Record<string, unknown>) => (
    <Field label={label} hint={hint} error={error?.fault(name)}>
      {(attributes) => (
        <input {...attributes} {...more} spellcheck={false} value={form[name]} onInput={(event) => setForm({ ...form, [name]: event.currentTarget.value })} />
      )}
    </Field>
  );
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    const number = (text: string) => (text === "" ? null : Number(text));
    try {
      await write("PUT", path, {
        max_retries: number(form.max_retries),
        max_event_age: number(form.max_event_age),
        on_success: form.on_success || null,
        on_failure: form.on_failure || null,
      });
      say(`${named(of)} has event settings of its own.`);
      saved();
    } catch (problem) {
      if (problem instanceof ApiError) setError(problem);
      else say(String(problem), true);
    }
    setBusy(false);
  };
  return (
    <form class="form" onSubmit={submit} aria-label={`Event settings of ${of}`}>
      <fieldset>
        <legend>Of {named(of)}</legend>
        {input("max_retries", "Retries", "0 to 2. Empty is as the server is configured.", { type: "number", inputMode: "numeric", min: 0, max: 2 })}
        {input("max_event_age", "Longest age in seconds", "60 to 21600. Empty is as the server is configured.", { type: "number", inputMode: "numeric", min: 60 })}
        {input("on_success", "Told of success", "function:NAME, a URL, a queue's ARN, or with Redis stream:KEY", { placeholder: "nobody", maxLength: 1024 })}
        {input("on_failure", "Told of failure", "Nobody: then it is a dead letter", { placeholder: "nobody", maxLength: 1024 })}
      </fieldset>
      {error && !error.detail.faults?.length && (
        <p class="error" role="alert">
          {error.message}
        </p>
      )}
      <div class="row end">
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button class="primary" disabled={busy}>
          Save
        </button>
      </div>
    </form>
  );
}
