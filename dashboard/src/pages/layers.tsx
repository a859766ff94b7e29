// Layers: content that functions share. Their versions, who uses them, and a new one from a zip that is dropped here.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, fnPath, get, type Layer, write } from "../api";
import { Drop, named } from "../drop";
import { ago, count, size } from "../format";
import { functions, may, skew } from "../live";
import { Link } from "../router";
import { Badge, confirm, Empty, Failed, Field, Loading, say } from "../ui";

interface Page {
  items: Layer[];
  next: string | null;
}

const PAGE = 200;
/** What others publish and delete is seen this much later. */
const LOOK = 3000;

export function LayersPage() {
  const [layers, setLayers] = useState<Layer[]>();
  const [next, setNext] = useState<string | null>(null);
  const [error, setError] = useState("");
  const [search, setSearch] = useState("");
  const [busy, setBusy] = useState(false);

  const held = useRef(-1);
  held.current = layers?.length ?? -1;
  // What was asked for before something else was is out of date when it comes.
  const asked = useRef(0);

  const load = async () => {
    const turn = ++asked.current;
    try {
      // As many as are shown already.
      const page = await get<Page>(`/layers/?limit=${Math.min(1000, Math.max(PAGE, held.current))}`);
      if (turn !== asked.current) return;
      setLayers(page.items);
      setNext(page.next);
      setError("");
    } catch (problem) {
      setError((problem as Error).message);
    }
  };
  useEffect(() => {
    document.title = "Layers · Hearth";
    if (!may("deploy")) return;
    void load();
    // What could not be had is asked for by hand, and very many are not read again and again.
    const timer = setInterval(() => !document.hidden && held.current >= 0 && held.current <= 1000 && void load(), LOOK);
    return () => clearInterval(timer);
  }, []);

  if (!may("deploy")) {
    return (
      <Empty title="This key only calls functions">
        <p>
          To see layers it needs the scope <code>deploy</code>.
        </p>
      </Empty>
    );
  }
  const more = async () => {
    setBusy(true);
    const turn = ++asked.current;
    try {
      const page = await get<Page>(`/layers/?limit=${PAGE}&cursor=${encodeURIComponent(next ?? "")}`);
      if (turn !== asked.current) return setBusy(false);
      setLayers((before) => [...(before ?? []), ...page.items]);
      setNext(page.next);
    } catch (problem) {
      say((problem as Error).message, true);
    }
    setBusy(false);
  };
  const users = (id: string) => (functions.value ?? []).filter((fn) => fn.layers.includes(id)).map((fn) => fn.name);
  const remove = async (layer: Layer) => {
    const has = users(layer.id);
    const sure = await confirm({
      title: `Delete ${layer.id}?`,
      text: `${has.length ? `${has.slice(0, 5).join(", ")}${has.length > 5 ? ` and ${has.length - 5} more` : ""} keep it.` : "No function has it now; versions that do keep it."} Nobody else can take it any more, and its number is never used again.`,
      action: "Delete version",
      danger: true,
    });
    if (!sure) return;
    setBusy(true);
    try {
      await write("DELETE", `/layers/${encodeURIComponent(layer.id)}`);
      asked.current++;
      say(`${layer.id} is deleted.`);
      setLayers((before) => before?.filter(({ id }) => id !== layer.id));
    } catch (problem) {
      say((problem as Error).message, true);
    }
    setBusy(false);
  };

  const words = search.trim().toLowerCase();
  const shown = (layers ?? []).filter((layer) => `${layer.id} ${layer.description} ${layer.runtimes?.join(" ") ?? ""}`.toLowerCase().includes(words));
  const names = [...new Set(shown.map((layer) => layer.name))];
  return (
    <>
      <div class="head">
        <div>
          <h1>Layers</h1>
          <p class="muted">Files that functions share: a function finds those of its layers below /opt</p>
        </div>
        <div class="row">
          <input type="search" placeholder="Search" aria-label="Search layers" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        </div>
      </div>
      <Publish
        taken={(name) => (layers ?? []).some((layer) => layer.name === name)}
        published={(layer) => {
          say(`${layer.id} is published.`);
          void load();
        }}
      />
      {error && !layers ? (
        <Failed text={error} again={load} />
      ) : !layers ? (
        <Loading what="layers" />
      ) : !layers.length ? (
        <Empty title="There is no layer yet">
          <p>Put what several functions need, libraries for instance, into a zip and drop it here. A function takes it in its settings.</p>
        </Empty>
      ) : !names.length ? (
        <Empty title="No layer is like that">
          <button type="button" onClick={() => setSearch("")}>
            Show all
          </button>
        </Empty>
      ) : (
        names.map((name) => (
          <section key={name} class="card" aria-label={`Layer ${name}`}>
            <div class="bar">
              <h2>{name}</h2>
            </div>
            <ul class="plain-list">
              {shown
                .filter((layer) => layer.name === name)
                .map((layer) => (
                  <li key={layer.id}>
                    <b class="num">Version {layer.number}</b>
                    {layer.runtimes?.map((runtime) => (
                      <Badge key={runtime} kind="plain">
                        {runtime}
                      </Badge>
                    ))}
                    <span class="muted grow">
                      {layer.description && `${layer.description} · `}
                      {size(layer.unpacked_size)} unpacked, {ago(layer.created_at, Date.now() + skew.value)}
                      {layer.license && `, licence ${layer.license}`}
                    </span>
                    <Users names={users(layer.id)} />
                    <button type="button" class="small" disabled={busy} onClick={() => remove(layer)} aria-label={`Delete ${layer.id}`}>
                      Delete
                    </button>
                  </li>
                ))}
            </ul>
          </section>
        ))
      )}
      {next && (
        <p>
          <button type="button" disabled={busy} onClick={more}>
            Show more
          </button>
        </p>
      )}
    </>
  );
}

const USERS_MAX = 3;

function Users({ names }: { names: string[] }) {
  if (!names.length) return null;
  return (
    <span class="muted">
      used by{" "}
      {names.slice(0, USERS_MAX).map((name, at) => (
        <>
          {at > 0 && ", "}
          <Link key={name} to={`/dashboard${fnPath(name, "/settings")}`}>
            {name}
          </Link>
        </>
      ))}
      {names.length > USERS_MAX && ` and ${count(names.length - USERS_MAX)} more`}
    </span>
  );
}

function Publish({ taken, published }: { taken: (name: string) => boolean; published: (layer: Layer) => void }) {
  const [zip, setZip] = useState<File>();
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [error, setError] = useState<ApiError>();
  const [progress, setProgress] = useState("");

  const take = (file: File | undefined) => {
    setZip(file);
    setError(undefined);
    if (file) setName((now) => now || named(file, 140));
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    if (!zip) return;
    setError(undefined);
    try {
      setProgress("Reading the package…");
      const { base64 } = await import("../zip");
      const content = base64(new Uint8Array(await zip.arrayBuffer()));
      setProgress("Publishing…");
      const layer = await write<Layer>("POST", "/layers/", { name: name.trim(), zip: content, description });
      setZip(undefined);
      setName("");
      setDescription("");
      published(layer);
    } catch (problem) {
      if (problem instanceof ApiError) setError(problem);
      else say(String(problem), true);
    }
    setProgress("");
  };
  return (
    <form class="card form" onSubmit={submit} aria-label="New layer version">
      <Drop zip={zip} take={take} without="Take another">
        To publish a version of a layer, <b>drop a zip</b> anywhere on this page
      </Drop>
      {error?.fault("zip") && (
        <p class="error" role="alert">
          The zip {error.fault("zip")}
        </p>
      )}
      {zip && (
        <>
          <fieldset>
            <legend class="sr">What it is</legend>
            <Field
              label="Layer"
              hint={taken(name.trim()) ? "It is there: this becomes its next version" : "Letters, digits, - and _; of a layer that is there it becomes the next version"}
              error={error?.fault("name")}
            >
              {(attributes) => (
                <input {...attributes} spellcheck={false} required maxLength={140} value={name} onInput={(event) => setName(event.currentTarget.value)} />
              )}
            </Field>
            <Field label="Description" hint="For people" error={error?.fault("description")}>
              {(attributes) => <input {...attributes} maxLength={256} value={description} onInput={(event) => setDescription(event.currentTarget.value)} />}
            </Field>
          </fieldset>
          {error && !error.detail.faults?.length && (
            <p class="error" role="alert">
              {error.message}
            </p>
          )}
          <div class="row end">
            <span class="muted" role="status">
              {progress}
            </span>
            <button class="primary" disabled={!!progress || !name.trim()}>
              {progress ? "Publishing…" : "Publish"}
            </button>
          </div>
        </>
      )}
    </form>
  );
}
