// The code editor, loaded when a page needs it. It lives in a shadow root: there its styles are sheets made by script, which the content
// security policy has nothing against, and not style elements, which it refuses.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { javascript } from "@codemirror/lang-javascript";
import { json, jsonParseLinter } from "@codemirror/lang-json";
import { python } from "@codemirror/lang-python";
import { bracketMatching, HighlightStyle, indentOnInput, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { ruby } from "@codemirror/legacy-modes/mode/ruby";
import { shell } from "@codemirror/legacy-modes/mode/shell";
import { linter } from "@codemirror/lint";
import { unifiedMergeView } from "@codemirror/merge";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import {
  crosshairCursor,
  drawSelection,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags as t } from "@lezer/highlight";

export interface Options {
  text: string;
  /** A file's name: what it ends in says the language. */
  name: string;
  label: string;
  readOnly?: boolean;
  /** A payload: no line numbers, checked as JSON. */
  small?: boolean;
  changed?: (text: string) => void;
  save?: () => void;
  run?: () => void;
}

export interface Editor {
  text(): string;
  set(text: string): void;
  /** Shows what is different from this text, or nothing. */
  compare(original: string | undefined): void;
  focus(): void;
  destroy(): void;
}

const theme = EditorView.theme({
  "&": { height: "100%", fontSize: "0.87rem", color: "var(--text)", backgroundColor: "var(--code)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6" },
  ".cm-content": { caretColor: "var(--accent)", padding: "10px 0" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  ".cm-gutters": { backgroundColor: "var(--code)", color: "var(--muted)", border: "none", paddingLeft: "4px" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--line)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--selection)" },
  ".cm-matchingBracket": { backgroundColor: "var(--selection)", outline: "1px solid var(--border-strong)" },
  ".cm-panels": { backgroundColor: "var(--surface)", color: "var(--text)" },
  ".cm-panels input, .cm-panels button": { font: "inherit" },
  ".cm-tooltip": { backgroundColor: "var(--surface)", border: "1px solid var(--border)", borderRadius: "6px" },
  ".cm-changedLine": { backgroundColor: "var(--added) !important" },
  ".cm-deletedChunk": { backgroundColor: "var(--removed)" },
  ".cm-changedText": { background: "none !important", fontWeight: "600" },
  ".cm-deletedChunk .cm-deletedText": { background: "none !important" },
});

const colours = HighlightStyle.define([
  { tag: [t.keyword, t.moduleKeyword, t.controlKeyword], color: "var(--syn-keyword)" },
  { tag: [t.string, t.special(t.string), t.regexp], color: "var(--syn-string)" },
  { tag: [t.number, t.bool, t.null, t.atom], color: "var(--syn-number)" },
  { tag: [t.comment, t.meta], color: "var(--syn-comment)", fontStyle: "italic" },
  { tag: [t.function(t.variableName), t.function(t.propertyName), t.definition(t.function(t.variableName))], color: "var(--syn-function)" },
  { tag: [t.propertyName, t.definition(t.propertyName)], color: "var(--syn-property)" },
  { tag: [t.className, t.typeName, t.standard(t.variableName)], color: "var(--syn-type)" },
  { tag: t.invalid, color: "var(--bad)" },
]);

function language(name: string, text: string): Extension {
  const suffix = name.includes(".") ? name.split(".").pop() : "";
  switch (suffix) {
    case "py":
      return python();
    case "js":
    case "mjs":
    case "cjs":
    case "jsx":
      return javascript();
    case "ts":
    case "tsx":
      return javascript({ typescript: true });
    case "json":
      return json();
    case "rb":
      return StreamLanguage.define(ruby);
    case "sh":
      return StreamLanguage.define(shell);
    default:
      return /^#!.*sh\b/.test(text) ? StreamLanguage.define(shell) : [];
  }
}

export function open(parent: HTMLElement, options: Options): Editor {
  const root = parent.shadowRoot ?? parent.attachShadow({ mode: "open" });
  root.replaceChildren();
  const host = document.createElement("div");
  host.style.height = "100%";
  root.append(host);
  const comparing = new Compartment();
  const key = (run?: () => void) => () => {
    run?.();
    return !!run;
  };
  const view = new EditorView({
    parent: host,
    root,
    state: EditorState.create({
      doc: options.text,
      extensions: [
        keymap.of([
          { key: "Mod-s", run: key(options.save), preventDefault: true },
          { key: "Mod-Enter", run: key(options.run), preventDefault: true },
          ...closeBracketsKeymap,
          ...defaultKeymap,
          ...searchKeymap,
          ...historyKeymap,
          ...completionKeymap,
          indentWithTab,
        ]),
        options.small ? [] : [lineNumbers(), highlightActiveLineGutter(), highlightActiveLine(), highlightSelectionMatches(), autocompletion()],
        options.small && !options.readOnly ? linter(jsonParseLinter(), { delay: 300 }) : [],
        highlightSpecialChars(),
        history(),
        drawSelection(),
        crosshairCursor(),
        EditorState.tabSize.of(4),
        EditorState.readOnly.of(!!options.readOnly),
        indentOnInput(),
        bracketMatching(),
        closeBrackets(),
        language(options.name, options.text),
        theme,
        syntaxHighlighting(colours),
        comparing.of([]),
        EditorView.contentAttributes.of({ "aria-label": options.label, tabindex: "0" }),
        EditorView.updateListener.of((update) => update.docChanged && options.changed?.(update.state.doc.toString())),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    set: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    compare: (original) =>
      view.dispatch({
        effects: comparing.reconfigure(original === undefined ? [] : unifiedMergeView({ original, mergeControls: false })),
      }),
    focus: () => view.focus(),
    destroy: () => view.destroy(),
  };
}
