// A zip that is dropped anywhere on the page, or chosen.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { size } from "./format";
import { say } from "./ui";

const ZIP_MAX = 50 * 1024 * 1024;

interface Props {
  zip: File | undefined;
  take: (zip: File | undefined) => void;
  /** What there is to do with it, and what without. */
  children: ComponentChildren;
  without: string;
}

/** A name for what is in a zip. */
export const named = (zip: File, most: number) => zip.name.replace(/\.zip$/i, "").replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, most);

export function Drop({ zip, take, children, without }: Props) {
  const [over, setOver] = useState(false);
  const taken = (file: File | undefined) => {
    if (!file) return;
    if (file.size > ZIP_MAX) return say(`${file.name} is ${size(file.size)}: at most ${size(ZIP_MAX)}.`, true);
    take(file);
  };
  const latest = useRef(taken);
  latest.current = taken;
  useEffect(() => {
    const drag = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(event.type !== "dragleave" || event.relatedTarget !== null);
    };
    const drop = (event: DragEvent) => {
      event.preventDefault();
      setOver(false);
      latest.current(event.dataTransfer?.files[0]);
    };
    addEventListener("dragover", drag);
    addEventListener("dragleave", drag);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", drag);
      removeEventListener("dragleave", drag);
      removeEventListener("drop", drop);
    };
  }, []);
  return (
    <div class={over ? "drop over" : "drop"}>
      {zip ? (
        <div class="row">
          <span class="grow">
            <b>{zip.name}</b> <span class="muted">{size(zip.size)}</span>
          </span>
          <button type="button" onClick={() => take(undefined)}>
            {without}
          </button>
        </div>
      ) : (
        <>
          <p>{children}</p>
          <label class="button">
            or choose one
            <input class="sr" type="file" accept=".zip,application/zip" onChange={(event) => taken(event.currentTarget.files?.[0])} />
          </label>
        </>
      )}
    </div>
  );
}
