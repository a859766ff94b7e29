// A function's code in an editor, and beside it a call to try it with. Saving is deploying.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, bytes, type Fn, fnPath, type Image, write } from "../api";
import { CodeEditor } from "../code-editor";
import type { Editor } from "../editor";
import { size } from "../format";
import { loadRuntimes } from "../live";
import { guarded } from "../router";
import { confirm, Failed, Loading, say } from "../ui";
import type { Files } from "../zip";
import { Test } from "./function-test";

/** Larger packages are shown only when asked for. */
const PACKAGE_MAX = 5 * 1024 * 1024;

interface CodeProps {
  fn: Fn;
  changed: (fn: Fn) => void;
  reload: () => void;
}

export function Code(props: CodeProps) {
  return props.fn.code.image ? <OfImage {...props} image={props.fn.code.image} /> : <OfPackage {...props} />;
}

/** There is no code to see: it is in the image. */
function OfImage({ fn, image, changed }: CodeProps & { image: Image }) {
  const [busy, setBusy] = useState(false);
  const again = async () => {
    setBusy(true);
    try {
      const { id: _, ...wanted } = image;
      const now = await write<Fn>("PUT", fnPath(fn.id), { image: wanted, revision: fn.revision });
      say(now.code.image?.id === image.id ? `${image.uri} is still the same image.` : `${fn.name} is deployed as revision ${now.revision}.`);
      changed(now);
    } catch (problem) {
      say((problem as Error).message, true);
    }
    setBusy(false);
  };
  const words = (words?: string[]) => (words ? <code class="break">{JSON.stringify(words)}</code> : <span class="muted">the image's own</span>);
  return (
    <div class="split">
      <section class="card form" aria-label="Code">
        <p>The code of this function is a container image. It stays the one it was when it was deployed, whatever its name stands for later.</p>
        <dl class="facts">
          <dt>Image</dt>
          <dd>
            <code class="break">{image.uri}</code>
          </dd>
          <dt>Id</dt>
          <dd>
            <code class="break">{image.id}</code>
          </dd>
          <dt>Entry point</dt>
          <dd>{words(image.entrypoint)}</dd>
          <dt>Command</dt>
          <dd>{words(image.command)}</dd>
          <dt>Working directory</dt>
          <dd>{image.working_dir ? <code class="break">{image.working_dir}</code> : <span class="muted">the image's own</span>}</dd>
        </dl>
        <div class="row end">
          <button type="button" disabled={busy} onClick={again}>
            {busy ? "Deploying…" : "Deploy what the name stands for now"}
          </button>
        </div>
      </section>
      <Test fn={fn} handle={() => undefined} />
    </div>
  );
}

function OfPackage({ fn, changed, reload }: CodeProps) {
  const [files, setFiles] = useState<Files>();
  const [wanted, setWanted] = useState(fn.code.size <= PACKAGE_MAX);
  const [error, setError] = useState("");
  const runTest = useRef<(() => void) | undefined>(undefined);

  useEffect(() => {
    if (!wanted) return;
    const stop = new AbortController();
    const load = async () => {
      const [{ unpack }, zip] = await Promise.all([import("../zip"), bytes(fnPath(fn.id, "/code"), stop.signal)]);
      setFiles(await unpack(zip));
    };
    load().catch((problem: Error) => stop.signal.aborted || setError(problem.message));
    return () => stop.abort();
  }, [wanted]);

  return (
    <div class="split">
      <section class="card" aria-label="Code">
        {error ? (
          <Failed text={error} again={reload} />
        ) : files ? (
          <Files fn={fn} files={files} changed={changed} run={() => runTest.current?.()} />
        ) : wanted ? (
          <Loading what="the code" />
        ) : (
          <div class="empty">
            <p>The package is {size(fn.code.size)}.</p>
            <button type="button" onClick={() => setWanted(true)}>
              Open it all the same
            </button>
          </div>
        )}
      </section>
      <Test fn={fn} handle={(run) => (runTest.current = run)} />
    </div>
  );
}

interface FilesProps {
  fn: Fn;
  files: Files;
  changed: (fn: Fn) => void;
  run: () => void;
}

function Files({ fn, files, changed, run }: FilesProps) {
  const names = [...files.keys()].sort();
  const module = fn.handler.split(".").slice(0, -1).join(".") || fn.handler;
  const main = names.find((name) => name === module || name.startsWith(`${module}.`)) ?? names[0] ?? "";
  const [at, setAt] = useState(main);
  const [original, setOriginal] = useState<Map<string, string | undefined>>();
  const [edited, setEdited] = useState<Map<string, string>>(new Map());
  const [comparing, setComparing] = useState(false);
  const [busy, setBusy] = useState(false);
  const editor = useRef<Editor | undefined>(undefined);
  const watched = fn.code.origin === "path";

  useEffect(() => {
    void import("../zip").then(({ asText }) => setOriginal(new Map(names.map((name) => [name, asText(files.get(name) ?? new Uint8Array())]))));
  }, [files]);

  const dirty = [...edited].filter(([name, text]) => original?.get(name) !== text);
  const unsaved = useRef(0);
  unsaved.current = dirty.length;
  useEffect(() => guarded(() => (unsaved.current ? `${fn.name} has changes that are not deployed.` : "")), []);

  if (!original) return <Loading what="the code" />;
  const text = edited.get(at) ?? original.get(at);

  const deploy = async (force = false): Promise<void> => {
    if (busy || !dirty.length) return;
    setBusy(true);
    try {
      const { base64, fromText, pack } = await import("../zip");
      let code: unknown;
      if (fn.code.origin === "inline" && names.length === 1) {
        code = { inline: dirty[0]?.[1] };
      } else {
        const next: Files = new Map(files);
        for (const [name, text] of dirty) next.set(name, fromText(text));
        code = { zip: base64(await pack(next)) };
      }
      const now = await write<Fn>("PUT", fnPath(fn.id), force ? { code } : { code, revision: fn.revision });
      // Deployed is no longer unsaved, whatever the page does next.
      unsaved.current = 0;
      say(`${fn.name} is deployed as revision ${now.revision}.`);
      changed(now);
    } catch (error) {
      setBusy(false);
      if (error instanceof ApiError && error.detail.code === "stale_revision") return overtaken();
      say((error as Error).message, true);
      return;
    }
    setBusy(false);
  };
  const overtaken = async () => {
    const over = await confirm({
      title: "Somebody else deployed meanwhile",
      text: "The function was changed after you opened it. Deploying now replaces what they deployed.",
      action: "Deploy all the same",
      danger: true,
    });
    if (over) await deploy(true);
  };
  const discard = async () => {
    const sure = await confirm({
      title: "Discard your changes?",
      text: "The code goes back to what is deployed.",
      action: "Discard changes",
      danger: true,
    });
    if (!sure) return;
    unsaved.current = 0;
    setEdited(new Map());
    setComparing(false);
    editor.current?.set(original.get(at) ?? "");
  };

  return (
    <>
      <div class="bar">
        {names.length > 1 ? (
          <>
            <label class="sr" for="file">
              File
            </label>
            <select id="file" value={at} onChange={(event) => setAt(event.currentTarget.value)}>
              {names.slice(0, 500).map((name) => (
                <option key={name} value={name}>
                  {dirty.some(([changed]) => changed === name) ? `${name} •` : name}
                </option>
              ))}
            </select>
          </>
        ) : (
          <code class="file">{at}</code>
        )}
        <span class="muted state" role="status">
          {watched ? "Watched on the server" : dirty.length ? "Not deployed" : "Deployed"}
        </span>
        <span class="grow" />
        {dirty.length > 0 && (
          <>
            <label class="check">
              <input type="checkbox" checked={comparing} onChange={(event) => setComparing(event.currentTarget.checked)} /> Show changes
            </label>
            <button type="button" onClick={discard}>
              Discard
            </button>
          </>
        )}
        {!watched && (
          <button type="button" class="primary" disabled={busy || !dirty.length} onClick={() => deploy()} aria-keyshortcuts="Control+S" title="Ctrl+S">
            {busy ? "Deploying…" : "Deploy"}
          </button>
        )}
      </div>
      {watched && (
        <p class="hint pad">
          This code comes from <code>{fn.code.path}</code> on the server: change it there.
        </p>
      )}
      {text === undefined ? (
        <div class="empty">
          <p>{names.length ? `${at} is not text: ${size(files.get(at)?.length ?? 0)}.` : "The package is empty."}</p>
        </div>
      ) : (
        <CodeEditor
          key={at}
          document={at}
          name={at}
          label={`Code of ${at}`}
          text={text}
          readOnly={watched}
          compareWith={comparing ? original.get(at) : undefined}
          changed={(text) => setEdited((before) => new Map(before).set(at, text))}
          save={() => void deploy()}
          run={run}
          handle={(made) => (editor.current = made)}
        />
      )}
      <p class="hint pad">
        Handler <code>{fn.handler}</code> · {size(fn.code.size)} packed · <kbd>Ctrl</kbd> <kbd>S</kbd> deploys, <kbd>Ctrl</kbd> <kbd>Enter</kbd> runs the test,{" "}
        <kbd>Esc</kbd> <kbd>Tab</kbd> leaves the editor
        {!watched && fn.code.origin === "inline" && <Template fn={fn} use={(text) => editor.current?.set(text)} />}
      </p>
    </>
  );
}

/** The runtime's own beginning, for those who got lost. */
function Template({ fn, use }: { fn: Fn; use: (text: string) => void }) {
  const put = async () => {
    const all = await loadRuntimes().catch(() => []);
    const template = all.find((runtime) => runtime.id === fn.language)?.template;
    if (!template) return say("This runtime has no template.", true);
    use(template);
  };
  return (
    <>
      {" · "}
      <button type="button" class="link" onClick={put}>
        Start over from the template
      </button>
    </>
  );
}
