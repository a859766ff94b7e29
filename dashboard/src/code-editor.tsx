// The editor as a part of a page: loaded with it, and a plain field should that fail.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Editor, Options } from "./editor";

interface Props extends Options {
  /** Another one is another document. */
  document: string;
  compareWith?: string;
  handle?: (editor: Editor | undefined) => void;
}

export function CodeEditor(props: Props) {
  const parent = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | undefined>(undefined);
  // What the editor calls is always the newest.
  const latest = useRef(props);
  latest.current = props;
  const [failed, setFailed] = useState(false);

  useEffect(() => {
    let gone = false;
    const made = async () => {
      try {
        const { open } = await import("./editor");
        if (gone || !parent.current) return;
        const now = latest.current;
        editor.current = open(parent.current, {
          ...now,
          changed: (text) => latest.current.changed?.(text),
          save: props.save && (() => latest.current.save?.()),
          run: props.run && (() => latest.current.run?.()),
        });
        if (now.compareWith !== undefined) editor.current.compare(now.compareWith);
        now.handle?.(editor.current);
      } catch {
        setFailed(true);
      }
    };
    void made();
    return () => {
      gone = true;
      editor.current?.destroy();
      editor.current = undefined;
      latest.current.handle?.(undefined);
    };
  }, [props.document, props.readOnly]);

  useEffect(() => editor.current?.compare(props.compareWith), [props.compareWith]);

  return failed ? (
    <textarea
      class="editor plain"
      aria-label={props.label}
      readOnly={props.readOnly}
      onInput={(event) => props.changed?.(event.currentTarget.value)}
    >
      {props.text}
    </textarea>
  ) : (
    <div class={props.small ? "editor small" : "editor"} ref={parent} />
  );
}
