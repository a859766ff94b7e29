// Server-sent events over fetch, which can carry the mark that an EventSource cannot, and says why it failed. Comes back by itself, later and
// later, and goes on where it was.
import { send } from "./api";

export type State = "connecting" | "open" | "waiting";

export interface Happening {
  event: string;
  data: string;
  id: string;
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 3000;
/** The server says every two seconds that it is there: who hears nothing for so long is not connected, whatever the network believes. */
const SILENCE_MAX = 6000;
/** An event larger than this is none of ours. */
const EVENT_MAX = 8 * 1024 * 1024;

/** Follows until the signal; `path` is asked for before each attempt. */
export async function follow(path: () => string, signal: AbortSignal, on: (happening: Happening) => void, state: (state: State) => void) {
  let wait = FIRST_WAIT;
  let last = "";
  while (!signal.aborted) {
    state("connecting");
    const attempt = listening(signal);
    try {
      const headers: Record<string, string> = { accept: "text/event-stream" };
      if (last) headers["last-event-id"] = last;
      const response = await send(path(), { headers, signal: attempt.signal });
      if (response.status === 403 || response.status === 404) return state("waiting");
      if (response.status === 401) {
        // Nothing to try until somebody signs in again.
        attempt.end();
        state("waiting");
        await pause(Infinity, signal);
        continue;
      }
      if (!response.ok || !response.body) throw new Error(String(response.status));
      state("open");
      wait = FIRST_WAIT;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        attempt.heard();
        const { done, value } = await reader.read();
        if (done) break;
        rest += value;
        const parts = rest.split(/\r?\n\r?\n/);
        rest = parts.pop() ?? "";
        if (rest.length > EVENT_MAX) throw new Error("too long");
        for (const part of parts) {
          const happening = parse(part);
          if (!happening) continue;
          if (happening.id) last = happening.id;
          on(happening);
        }
      }
    } catch {
      if (signal.aborted) return;
    } finally {
      attempt.end();
    }
    state("waiting");
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

/** Ends with the signal, or when nothing was heard for too long. */
function listening(signal: AbortSignal) {
  const own = new AbortController();
  let timer = 0;
  const stop = () => own.abort();
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(stop, SILENCE_MAX);
  };
  const end = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  };
  signal.addEventListener("abort", stop);
  heard();
  return { signal: own.signal, heard, end };
}

export function parse(part: string): Happening | undefined {
  const found: Happening = { event: "message", data: "", id: "" };
  const data: string[] = [];
  for (const line of part.split(/\r?\n/)) {
    const at = line.indexOf(":");
    if (at < 1) continue;
    const value = line.slice(at + 1).replace(/^ /, "");
    const field = line.slice(0, at);
    if (field === "data") data.push(value);
    else if (field === "event") found.event = value;
    else if (field === "id") found.id = value;
  }
  if (!data.length) return undefined;
  found.data = data.join("\n");
  return found;
}

const sleepers = new Set<() => void>();

addEventListener("online", wake);

/** Has everybody who waits try again now. */
export function wake() {
  for (const go of [...sleepers]) go();
}

function pause(time: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const go = () => {
      clearTimeout(timer);
      sleepers.delete(go);
      signal.removeEventListener("abort", go);
      done();
    };
    const timer = Number.isFinite(time) ? setTimeout(go, time) : undefined;
    sleepers.add(go);
    signal.addEventListener("abort", go);
  });
}
