// The pieces pages are made of.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ms } from "./format";
import { lost } from "./live";

// ---- asking before something is done

interface Question {
  title: string;
  text: string;
  action: string;
  danger?: boolean;
}

const question = signal<(Question & { answer: (yes: boolean) => void }) | undefined>(undefined);

export function confirm(asked: Question): Promise<boolean> {
  question.value?.answer(false);
  return new Promise((done) => {
    question.value = {
      ...asked,
      answer: (yes) => {
        question.value = undefined;
        done(yes);
      },
    };
  });
}

export function Confirmation() {
  const asked = question.value;
  return asked ? (
    <Dialog title={asked.title} close={() => asked.answer(false)}>
      <p class="prose">{asked.text}</p>
      <div class="row end">
        <button type="button" onClick={() => asked.answer(false)}>
          Cancel
        </button>
        <button type="button" class={asked.danger ? "danger" : "primary"} onClick={() => asked.answer(true)}>
          {asked.action}
        </button>
      </div>
    </Dialog>
  ) : null;
}

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  // It would stand in the way of whoever has to sign in again.
  const shown = !lost.value;
  useEffect(() => {
    if (!shown) return;
    const [own, before] = [dialog.current, document.activeElement as HTMLElement | null];
    own?.showModal();
    return () => {
      own?.close();
      before?.focus?.();
    };
  }, [shown]);
  return (
    <dialog
      ref={dialog}
      aria-labelledby="dialog-title"
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onClick={(event) => event.target === dialog.current && close()}
    >
      <div class="dialog">
        <h2 id="dialog-title">{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

// ---- saying what happened

interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

const toasts = signal<Toast[]>([]);
let nextToast = 0;

export function say(text: string, bad = false) {
  const id = nextToast++;
  toasts.value = [...toasts.value.slice(-3), { id, text, bad }];
  setTimeout(() => (toasts.value = toasts.value.filter((toast) => toast.id !== id)), bad ? 9000 : 4000);
}

export const Toasts = () => (
  <div class="toasts" role="status" aria-live="polite">
    {toasts.value.map((toast) => (
      <div key={toast.id} class={toast.bad ? "toast bad" : "toast"}>
        {toast.text}
      </div>
    ))}
  </div>
);

// ---- states of a page

export const Loading = ({ what }: { what: string }) => (
  <div class="empty" role="status">
    <span class="spinner" aria-hidden="true" />
    <p>Loading {what}…</p>
  </div>
);

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }) => (
  <div class="empty">
    <h2>{title}</h2>
    {children}
  </div>
);

export const Failed = ({ text, again }: { text: string; again?: () => void }) => (
  <div class="empty failed" role="alert">
    <h2>That did not work</h2>
    <p>{text}</p>
    {again && (
      <button type="button" onClick={again}>
        Try again
      </button>
    )}
  </div>
);

// ---- small things

export const Badge = ({ kind, children }: { kind: string; children: ComponentChildren }) => <span class={`badge ${kind}`}>{children}</span>;

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    } catch {
      say("The browser does not allow copying here: select the text instead.", true);
    }
  };
  return (
    <button type="button" class="small" onClick={copy}>
      {done ? "Copied" : label}
    </button>
  );
}

/** How much there is of what there may be. */
export function Gauge({ label, value, most, text }: { label: string; value: number; most: number; text: string }) {
  const part = most ? Math.min(1, value / most) : 0;
  return (
    <div class="card gauge">
      <span class="muted">{label}</span>
      <b class="num">{text}</b>
      <div class="meter" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={most} aria-valuenow={value} aria-valuetext={text}>
        <span class={part > 0.9 ? "full" : ""} style={{ width: `${100 * part}%` }} />
      </div>
    </div>
  );
}

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  error?: string;
  children: (attributes: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => ComponentChildren;
}

let nextField = 0;

export function Field({ label, hint, error, children }: FieldProps) {
  const [id] = useState(() => `f${nextField++}`);
  return (
    <div class={error ? "field wrong" : "field"}>
      <label for={id}>{label}</label>
      {children({ id, "aria-describedby": `${id}-hint`, "aria-invalid": !!error })}
      <div id={`${id}-hint`} class={error ? "hint error" : "hint"}>
        {error ?? hint}
      </div>
    </div>
  );
}

export function Tabs({ tabs, at, go }: { tabs: [string, string][]; at: string; go: (tab: string) => void }) {
  // On a phone it may be beyond the edge.
  useEffect(() => {
    const show = () => {
      const tab = document.getElementById(`tab-${at}`);
      const bar = tab?.parentElement;
      // Not `scrollIntoView`: that would move the page too, also when a keyboard opens.
      if (tab && bar) bar.scrollLeft = tab.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
    };
    show();
    addEventListener("resize", show);
    return () => removeEventListener("resize", show);
  }, [at]);
  const keys = (event: KeyboardEvent) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const now = tabs.findIndex(([id]) => id === at);
    const next = tabs[(now + step + tabs.length) % tabs.length];
    if (next) {
      go(next[0]);
      document.getElementById(`tab-${next[0]}`)?.focus();
    }
  };
  return (
    <div class="tabs" role="tablist" onKeyDown={keys}>
      {tabs.map(([id, label]) => (
        <button
          key={id}
          id={`tab-${id}`}
          type="button"
          role="tab"
          aria-selected={id === at}
          aria-controls="tab-panel"
          tabIndex={id === at ? 0 : -1}
          onClick={() => go(id)}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

/** Calls over time as bars, the failed ones marked. By hand: a library for charts sets styles that the policy for content refuses. */
export function Sparkline({ spans, label }: { spans: [number, number][]; label: string }) {
  const most = Math.max(1, ...spans.map(([calls]) => calls));
  const [width, height] = [120, 28];
  const step = width / Math.max(1, spans.length);
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <line x1="0" x2={width} y1={height - 0.5} y2={height - 0.5} class="axis" />
      {spans.map(([calls, failed], at) => {
        if (!calls) return null;
        const tall = Math.max(2, (height - 2) * Math.sqrt(calls / most));
        const bad = failed ? Math.max(2, (tall * failed) / calls) : 0;
        return (
          <g key={at}>
            <rect x={at * step + 0.4} width={step - 0.8} y={height - tall} height={tall} class="ok" />
            {bad > 0 && <rect x={at * step + 0.4} width={step - 0.8} y={height - bad} height={bad} class="bad" />}
          </g>
        );
      })}
    </svg>
  );
}

const PHASES: [keyof Waterfalled, string][] = [
  ["queue", "Waited in line"],
  ["start", "Created a container"],
  ["init", "Loaded the code"],
  ["run", "Ran the handler"],
];

type Waterfalled = { queue: number; start: number; init: number; run: number };

/** Where the time of a call went. */
export function Waterfall({ phases, total }: { phases: Waterfalled; total?: number }) {
  const sum = PHASES.reduce((sum, [name]) => sum + phases[name], 0);
  const whole = Math.max(total ?? sum, sum, 0.001);
  let before = 0;
  const rows = PHASES.map(([name, label]) => {
    const from = before;
    before += phases[name];
    return { name, label, from, took: phases[name] };
  });
  return (
    <dl class="waterfall">
      {rows.map(({ name, label, from, took }) => (
        <div key={name} class={took ? "" : "none"}>
          <dt>{label}</dt>
          <dd class="track">
            <span class={`bar ${name}`} style={{ left: `${(100 * from) / whole}%`, width: `max(${took ? 2 : 0}px, ${(100 * took) / whole}%)` }} />
          </dd>
          <dd class="num">{ms(took)}</dd>
        </div>
      ))}
      {total !== undefined && (
        <div class="sum">
          <dt>Seen from this browser</dt>
          <dd class="track" />
          <dd class="num">{ms(total)}</dd>
        </div>
      )}
    </dl>
  );
}
