// Addresses and how one gets to another. A page with unsaved work sets a guard, which is asked before it is left.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { confirm } from "./ui";

export const path = signal(location.pathname);

type Guard = { text: () => string };
let guard: Guard | undefined;

/** Asked before the page is left, for as long as it gives a text. Gives back what takes it away. */
export function guarded(text: () => string): () => void {
  const own = { text };
  guard = own;
  return () => {
    if (guard === own) guard = undefined;
  };
}

async function mayLeave(): Promise<boolean> {
  const text = guard?.text();
  return !text || confirm({ title: "Leave without saving?", text, action: "Discard changes", danger: true });
}

export async function go(to: string, replace = false) {
  if (to === path.value) return;
  if (!(await mayLeave())) return;
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  path.value = location.pathname;
  scrollTo(0, 0);
}

addEventListener("popstate", async () => {
  const to = location.pathname;
  if (to === path.value) return;
  if (guard?.text()) {
    // The browser has left already: back, and on again once it is agreed to.
    history.pushState(null, "", path.value);
    if (!(await mayLeave())) return;
    history.replaceState(null, "", to);
  }
  path.value = location.pathname;
});

addEventListener("beforeunload", (event) => {
  if (guard?.text()) event.preventDefault();
});

export function Link({ to, children, ...rest }: { to: string; children: ComponentChildren; [name: string]: unknown }) {
  const click = (event: MouseEvent) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    void go(to);
  };
  return (
    <a href={to} onClick={click} {...rest}>
      {children}
    </a>
  );
}
