// What was published of a function, and the names that point at it: an alias is moved, or shares its calls between two versions.
import { useEffect, useState } from "preact/hooks";
import { type Alias, ApiError, bytes, type Fn, fnPath, get, type Version, write } from "../api";
import { ago, size } from "../format";
import { skew } from "../live";
import { Badge, confirm, Failed, Field, Loading, say } from "../ui";
import { OwnEvents } from "./function-events";
import { Provisioned } from "./function-provisioned";

export function Versions({ fn, changed }: { fn: Fn; changed: (fn: Fn) => void }) {
  const [versions, setVersions] = useState<Version[]>();
  const [aliases, setAliases] = useState<Alias[]>();
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  const load = async () => {
    try {
      const [published, named] = await Promise.all([
        get<{ items: Version[] }>(fnPath(fn.id, "/versions?limit=1000")),
        get<{ items: Alias[] }>(fnPath(fn.id, "/aliases?limit=1000")),
      ]);
      setVersions(published.items.reverse());
      setAliases(named.items);
      setError("");
    } catch (problem) {
      setError((problem as Error).message);
    }
  };
  useEffect(() => void load(), [fn.revision]);

  const act = async (done: string, work: () => Promise<unknown>) => {
    setBusy(true);
    try {
      await work();
      say(done);
      await load();
    } catch (problem) {
      say((problem as Error).message, true);
    }
    setBusy(false);
  };
  const publish = () => act("Published.", () => write("POST", fnPath(fn.id, "/versions"), { revision: fn.revision }));
  const remove = async (version: Version) => {
    const sure = await confirm({
      title: `Delete version ${version.number}?`,
      text: "Calls under way finish. Its number is never used again.",
      action: "Delete version",
      danger: true,
    });
    if (sure) await act(`Version ${version.number} is deleted.`, () => write("DELETE", fnPath(fn.id, `/versions/${version.number}`)));
  };

  const rollBack = async (version: Version) => {
    const sure = await confirm({
      title: `Roll back to version ${version.number}?`,
      text: `Its code and its handler are deployed as the function's next revision. Other settings, and what was published, stay as they are.`,
      action: "Roll back",
    });
    if (!sure) return;
    await act(`${fn.name} has the code of version ${version.number} again.`, async () => {
      if (version.code.image) {
        changed(await write<Fn>("PUT", fnPath(fn.id), { image: version.code.image, revision: fn.revision }));
        return;
      }
      const [zip, { asText, base64, unpack }] = await Promise.all([bytes(fnPath(fn.id, `/code?version=${version.number}`)), import("../zip")]);
      const files = [...(await unpack(zip)).values()];
      const only = files.length === 1 ? asText(files[0] ?? new Uint8Array()) : undefined;
      // What was written here stays something to write in.
      const code = fn.code.origin === "inline" && only !== undefined && version.handler === fn.handler ? { inline: only } : { zip: base64(zip) };
      changed(await write<Fn>("PUT", fnPath(fn.id), { code, handler: version.handler, revision: fn.revision }));
    });
  };

  if (error) return <Failed text={error} again={load} />;
  if (!versions || !aliases) return <Loading what="versions" />;
  return (
    <>
      <section class="card" aria-label="Aliases">
        <div class="bar">
          <h2>Aliases</h2>
          <span class="grow" />
          <span class="hint">Names for callers that move between versions</span>
        </div>
        {aliases.map((alias) => (
          <AliasRow key={`${alias.name}-${alias.revision}`} fn={fn} alias={alias} versions={versions} busy={busy} act={act} />
        ))}
        <NewAlias fn={fn} versions={versions} busy={busy} act={act} />
      </section>
      <Provisioned fn={fn} versions={versions} aliases={aliases} />
      <OwnEvents fn={fn} versions={versions} aliases={aliases} />
      <section class="card" aria-label="Versions">
        <div class="bar">
          <h2>Versions</h2>
          <span class="grow" />
          <button type="button" class="primary" disabled={busy} onClick={publish}>
            Publish revision {fn.revision}
          </button>
        </div>
        {versions.length === 0 ? (
          <div class="empty">
            <p>Nothing is published. A version is a copy of code and settings that never changes; this function goes on as it is.</p>
          </div>
        ) : (
          <ul class="plain-list">
            {versions.map((version) => (
              <li key={version.number}>
                <b class="num">Version {version.number}</b>
                {aliases
                  .filter((alias) => alias.version === String(version.number) || alias.second?.version === String(version.number))
                  .map((alias) => (
                    <Badge key={alias.name} kind="route">
                      {alias.name}
                    </Badge>
                  ))}
                <span class="muted grow">
                  {version.description && `${version.description} · `}from revision {version.function_revision}, {version.code.image?.uri ?? size(version.code.size)}, {ago(version.created_at, Date.now() + skew.value)}
                </span>
                {fn.code.origin === "path" ? null : version.code.sha256 === fn.code.sha256 && version.handler === fn.handler ? (
                  <span class="muted">is deployed</span>
                ) : (
                  <button
                    type="button"
                    class="small"
                    disabled={busy}
                    onClick={() => rollBack(version)}
                    aria-label={`Roll back to version ${version.number}`}
                  >
                    Roll back
                  </button>
                )}
                <button type="button" class="small" disabled={busy} onClick={() => remove(version)} aria-label={`Delete version ${version.number}`}>
                  Delete
                </button>
              </li>
            ))}
          </ul>
        )}
      </section>
    </>
  );
}

interface RowProps {
  fn: Fn;
  versions: Version[];
  busy: boolean;
  act: (done: string, work: () => Promise<unknown>) => Promise<void>;
}

function AliasRow({ fn, alias, versions, busy, act }: RowProps & { alias: Alias }) {
  const [version, setVersion] = useState(alias.version);
  const [second, setSecond] = useState(alias.second?.version ?? "");
  const [weight, setWeight] = useState(Math.round((alias.second?.weight ?? 0.1) * 100));
  const path = fnPath(fn.id, `/aliases/${encodeURIComponent(alias.name)}`);
  const before = JSON.stringify([alias.version, alias.second?.version ?? "", alias.second ? Math.round(alias.second.weight * 100) : 0]);
  const changed = JSON.stringify([version, second, second ? weight : 0]) !== before;
  const numbers = versions.map(({ number }) => String(number));

  const save = () =>
    act(`${alias.name} is moved.`, () =>
      write("PUT", path, { version, second: second ? { version: second, weight: weight / 100 } : null, revision: alias.revision }),
    );
  const remove = async () => {
    const sure = await confirm({
      title: `Delete the alias ${alias.name}?`,
      text: "Calls that use this name are answered with 404 from then on.",
      action: "Delete alias",
      danger: true,
    });
    if (sure) await act(`${alias.name} is deleted.`, () => write("DELETE", path));
  };
  return (
    <div class="alias">
      <b>{alias.name}</b>
      <select aria-label={`Version of ${alias.name}`} value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
        {["$LATEST", ...numbers].map((number) => (
          <option key={number} value={number}>
            {number === "$LATEST" ? "as it is now" : `version ${number}`}
          </option>
        ))}
      </select>
      <select aria-label={`Second version of ${alias.name}`} value={second} onChange={(event) => setSecond(event.currentTarget.value)}>
        <option value="">alone</option>
        {numbers
          .filter((number) => number !== version)
          .map((number) => (
            <option key={number} value={number}>
              with version {number}
            </option>
          ))}
      </select>
      {second && (
        <label class="weight">
          <input
            type="range"
            min={0}
            max={100}
            aria-label={`Share of version ${second} in ${alias.name}`}
            value={weight}
            onInput={(event) => setWeight(Number(event.currentTarget.value))}
          />
          <span class="num">{weight} %</span>
        </label>
      )}
      <span class="grow" />
      <button type="button" class="small primary" disabled={busy || !changed} onClick={save} aria-label={`Move ${alias.name}`}>
        Move
      </button>
      <button type="button" class="small" disabled={busy} onClick={remove} aria-label={`Delete alias ${alias.name}`}>
        Delete
      </button>
    </div>
  );
}

function NewAlias({ fn, versions, busy, act }: RowProps) {
  const [name, setName] = useState("");
  const [error, setError] = useState<ApiError>();
  const submit = async (event: Event) => {
    event.preventDefault();
    setError(undefined);
    const version = versions[0] ? String(versions[0].number) : "$LATEST";
    await act(`${name} points at ${version === "$LATEST" ? "the function as it is" : `version ${version}`}.`, async () => {
      try {
        await write("POST", fnPath(fn.id, "/aliases"), { name, version });
        setName("");
      } catch (problem) {
        if (problem instanceof ApiError) setError(problem);
        throw problem;
      }
    });
  };
  return (
    <form class="new-alias" onSubmit={submit} aria-label="New alias">
      <Field label="New alias" hint="Points at the newest version; letters, digits, - and _" error={error?.fault("name")}>
        {(attributes) => (
          <input {...attributes} spellcheck={false} required maxLength={128} placeholder="live" value={name} onInput={(event) => setName(event.currentTarget.value)} />
        )}
      </Field>
      <button disabled={busy || !name}>Add alias</button>
    </form>
  );
}
