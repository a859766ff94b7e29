// Numbers and times as people read them.

export function ms(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${value.toFixed(2)} ms`;
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(value / 60_000)} min ${Math.round((value % 60_000) / 1000)} s`;
}

export function count(value: number): string {
  if (value < 10_000) return value.toLocaleString("en");
  return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let value = bytes;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at++;
  }
  return `${value < 10 && at ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d`;
}

export const ago = (at: string, now: number) => {
  const seconds = (now - Date.parse(at)) / 1000;
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
};

/** The time of day, and of which day if that is not today. */
export function clock(at: string): string {
  const [then, now] = [new Date(at), new Date()];
  const time = then.toLocaleTimeString("en-GB", { hour12: false });
  return then.toDateString() === now.toDateString() ? time : `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}
export const date = (at: string) => new Date(at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export const percent = (part: number, whole: number) =>
  whole ? `${((100 * part) / whole).toFixed(part && part * 20 < whole ? 1 : 0)} %` : "–";
