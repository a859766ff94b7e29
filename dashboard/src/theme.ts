// Light, dark, or as the system has it.
import { signal } from "@preact/signals";

const KEY = "hearth.theme";

function kept(): string {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto";
  }
}

export const theme = signal(kept());

export function choose(value: string) {
  theme.value = value;
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // Then it holds until the page is left.
  }
  show();
}

function show() {
  document.documentElement.dataset.theme = theme.value;
}

show();
