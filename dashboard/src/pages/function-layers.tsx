// Which layers a function has, and in which order: a part of its settings.
import { useEffect, useState } from "preact/hooks";
import { get, type Layer } from "../api";
import { Link } from "../router";

const LAYERS_MAX = 5;

interface Props {
  layers: string[];
  set: (layers: string[]) => void;
  error?: string;
}

const nameOf = (id: string) => id.split(":")[0];

export function Layers({ layers, set, error }: Props) {
  const [all, setAll] = useState<Layer[]>();
  const [failed, setFailed] = useState("");
  useEffect(() => {
    get<{ items: Layer[] }>("/layers/?limit=1000").then(
      ({ items }) => setAll(items),
      (problem: Error) => setFailed(problem.message),
    );
  }, []);
  const free = (all ?? []).filter((layer) => !layers.includes(layer.id));
  const move = (at: number, by: number) => {
    const next = [...layers];
    const [one] = next.splice(at, 1);
    next.splice(at + by, 0, one ?? "");
    set(next);
  };
  // Of each layer one version: another one takes its place.
  const add = (id: string) => {
    const at = layers.findIndex((own) => nameOf(own) === nameOf(id));
    set(at === -1 ? [...layers, id] : layers.map((own, n) => (n === at ? id : own)));
  };
  return (
    <fieldset class="pairs">
      <legend>Layers</legend>
      {layers.length > 0 && (
        <ol class="own-layers" aria-label="Layers of the function">
          {layers.map((id, at) => (
            <li key={id} class="row">
              <code class="grow">{id}</code>
              {all && !all.some((layer) => layer.id === id) && <span class="muted">no longer listed, kept here</span>}
              <button type="button" class="small" disabled={at === 0} aria-label={`Move ${id} up`} onClick={() => move(at, -1)}>
                ↑
              </button>
              <button type="button" class="small" disabled={at === layers.length - 1} aria-label={`Move ${id} down`} onClick={() => move(at, 1)}>
                ↓
              </button>
              <button type="button" class="small" aria-label={`Take ${id} away`} onClick={() => set(layers.filter((own) => own !== id))}>
                ×
              </button>
            </li>
          ))}
        </ol>
      )}
      <div class="row">
        <select aria-label="Layer to add" value="" disabled={!free.length} onChange={(event) => event.currentTarget.value && add(event.currentTarget.value)}>
          <option value="">{!all || free.length ? "add a layer…" : "there is no other layer"}</option>
          {free.map((layer) => (
            <option
              key={layer.id}
              value={layer.id}
              disabled={layers.length >= LAYERS_MAX && !layers.some((own) => nameOf(own) === layer.name)}
            >
              {layer.id} {layer.description && `– ${layer.description.slice(0, 60)}`}
            </option>
          ))}
        </select>
        <span class={error || failed ? "hint error" : "hint"}>
          {error ?? (failed || `Up to ${LAYERS_MAX}, found below /opt; of two with a file of one name the lower one's is there.`)}{" "}
          <Link to="/dashboard/layers">All layers</Link>
        </span>
      </div>
    </fieldset>
  );
}
