// Calling a function from here, and everything there is to know about the answer. The latest of these calls are remembered by the page, so
// that they can be run again with what they were given: Hearth itself keeps no payload of a call that has ended.
import { type ErrorDetail, type Fn, fnPath, get, type LogLine, type Phases, problem, send } from "./api";
import { pretty } from "./json";
import { say } from "./ui";

export interface Outcome {
  status: number;
  body: string;
  type: string;
  error?: ErrorDetail;
  requestId: string;
  start: string;
  reason: string;
  /** The number of the version that ran, or `$LATEST`. */
  version: string;
  phases?: Phases;
  total: number;
}

/** The phases and the kind of start, out of the header they come in. */
function timing(header: string): { phases: Phases; start: string; reason: string } {
  const phases: Phases = { queue: 0, start: 0, init: 0, run: 0 };
  let [start, reason] = ["", ""];
  for (const part of header.split(",")) {
    const name = part.trim().split(";")[0] as keyof Phases;
    const took = /dur=([\d.]+)/.exec(part)?.[1];
    if (name in phases && took) phases[name] = Number(took);
    const desc = /desc="([^":]*): ([^"]*)"/.exec(part);
    if (desc) [start, reason] = [desc[1] ?? "", desc[2] ?? ""];
  }
  return { phases, start, reason };
}

/** Calls the function, or a version or an alias of it. A function's failure is an outcome; what throws is that nobody answered. */
export async function call(fn: Fn, payload: string, qualifier = "$LATEST"): Promise<Outcome> {
  const begun = performance.now();
  const query = qualifier === "$LATEST" ? "" : `?qualifier=${encodeURIComponent(qualifier)}`;
  const response = await send(fnPath(fn.id, `/execute${query}`), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: payload.trim() || "{}",
  });
  const body = response.ok ? await response.text() : "";
  const error = response.ok ? undefined : (await problem(response)).detail;
  const header = (name: string) => response.headers.get(name) ?? "";
  const outcome: Outcome = {
    status: response.status,
    body,
    type: header("content-type"),
    error,
    requestId: header("x-request-id"),
    version: header("x-amz-executed-version"),
    ...timing(header("server-timing")),
    total: performance.now() - begun,
  };
  remember(outcome, payload);
  return outcome;
}

/** Has it called later; gives the id the call is known under. */
export async function later(fn: Fn, payload: string): Promise<string> {
  const response = await send(fnPath(fn.id, "/execute"), {
    method: "POST",
    headers: { "content-type": "application/json", "x-amz-invocation-type": "Event" },
    body: payload.trim() || "{}",
  });
  if (!response.ok) throw await problem(response);
  return ((await response.json()) as { request_id: string }).request_id;
}

/** Its answer or its error, as a person reads it. */
export function shown({ error, body, type }: Outcome): string {
  if (error) return [error.type ? `${error.type}: ${error.message}` : error.message, ...(error.stack ?? [])].join("\n");
  return type.includes("json") ? pretty(body) : body;
}

export const printed = async (fn: Fn, requestId: string): Promise<LogLine[]> =>
  (await get<{ items: LogLine[] }>(fnPath(fn.id, `/logs?limit=500&request_id=${encodeURIComponent(requestId)}`))).items;

/** What is wrong with a payload, if it is no JSON. */
export function notJson(payload: string): string {
  try {
    if (payload.trim()) JSON.parse(payload);
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

// ---- calls that were made from here

interface Made {
  payload: string;
  answer: string;
}

const MADE_MAX = 200;
const TEXT_MAX = 64 * 1024;
const made = new Map<string, Made>();

function remember(outcome: Outcome, payload: string) {
  const answer = shown(outcome);
  if (!outcome.requestId || payload.length > TEXT_MAX || answer.length > TEXT_MAX) return;
  made.set(outcome.requestId, { payload, answer });
  const oldest = made.keys().next();
  if (made.size > MADE_MAX && !oldest.done) made.delete(oldest.value);
}

/** What a call was given and what it answered, if it was made from this page since it was loaded. */
export const madeHere = (requestId: string) => made.get(requestId);

export const forgetMade = () => made.clear();

// ---- events that are saved in this browser

export interface Saved {
  name: string;
  payload: string;
}

const SAVED_MAX = 50;

const place = (fn: Fn) => `hearth.events.${fn.id}`;

export function saved(fn: Fn): Saved[] {
  try {
    const all = JSON.parse(localStorage.getItem(place(fn)) ?? "[]") as Saved[];
    return Array.isArray(all) ? all.filter((one) => typeof one?.name === "string" && typeof one?.payload === "string") : [];
  } catch {
    return [];
  }
}

/** The newest first; one of the same name is replaced. */
export function save(fn: Fn, one: Saved): Saved[] {
  return keep(fn, [one, ...saved(fn).filter(({ name }) => name !== one.name)]);
}

export const forget = (fn: Fn, name: string): Saved[] => keep(fn, saved(fn).filter((one) => one.name !== name));

function keep(fn: Fn, all: Saved[]): Saved[] {
  const some = all.slice(0, SAVED_MAX);
  try {
    localStorage.setItem(place(fn), JSON.stringify(some));
  } catch {
    say("The browser keeps nothing here.", true);
  }
  return some;
}
