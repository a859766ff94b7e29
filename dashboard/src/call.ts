// Calling a function from here, and everything there is to know about the answer. Hearth remembers what its latest calls were given and what
// they answered, whoever made them; the page remembers its own, in case those are more than Hearth keeps.
import { type Content, type ErrorDetail, type Exchange, type Fn, fnPath, get, type LogLine, type Phases, problem, send } from "./api";
import { size } from "./format";
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

/** What a function is given: text, or bytes as they were; declared as JSON, or as bytes. */
export interface Payload {
  body: string | Uint8Array<ArrayBuffer>;
  raw: boolean;
}

/** Calls the function, or a version or an alias of it. A function's failure is an outcome; what throws is that nobody answered. */
export async function call(fn: Fn, payload: Payload, qualifier = "$LATEST"): Promise<Outcome> {
  const begun = performance.now();
  const query = qualifier === "$LATEST" ? "" : `?qualifier=${encodeURIComponent(qualifier)}`;
  const response = await send(fnPath(fn.id, `/execute${query}`), {
    method: "POST",
    headers: { "content-type": payload.raw ? "application/octet-stream" : "application/json" },
    body: payload.body,
  });
  const body = response.ok ? readable(new Uint8Array(await response.arrayBuffer())) : "";
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

/** An event that a person wrote: nothing is an empty one. */
export const event = (text: string): Payload => ({ body: text.trim() || "{}", raw: false });

/** Has it called later; gives the id the call is known under. */
export async function later(fn: Fn, payload: string): Promise<string> {
  const response = await send(fnPath(fn.id, "/execute"), {
    method: "POST",
    headers: { "content-type": "application/json", "x-amz-invocation-type": "Event" },
    body: event(payload).body,
  });
  if (!response.ok) throw await problem(response);
  return ((await response.json()) as { request_id: string }).request_id;
}

/** Its answer or its error, as a person reads it. */
export function shown({ error, body, type }: Outcome): string {
  if (error) return raised(error.type, error.message, error.stack);
  return type.includes("json") ? pretty(body) : body;
}

const raised = (type: string | undefined, message: string, stack: string[] = []) => [type ? `${type}: ${message}` : message, ...stack].join("\n");

/** What is no text is shown as what it is in base64. */
function readable(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    let binary = "";
    for (const byte of bytes) binary += String.fromCharCode(byte);
    return noText(bytes.length, btoa(binary));
  }
}

const noText = (length: number, base64: string) => `${size(length)} that are no text, in base64:\n${base64}`;

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
  payload: Payload;
  answer: string;
}

const MADE_MAX = 200;
const TEXT_MAX = 64 * 1024;
const made = new Map<string, Made>();

function remember(outcome: Outcome, payload: Payload) {
  const answer = shown(outcome);
  if (!outcome.requestId || payload.body.length > TEXT_MAX || answer.length > TEXT_MAX) return;
  made.set(outcome.requestId, { payload, answer });
  const oldest = made.keys().next();
  if (made.size > MADE_MAX && !oldest.done) made.delete(oldest.value);
}

/** What a call was given and what it answered, as far as anybody remembers, and why not if nobody does. */
export interface Known {
  payload?: Payload;
  answer?: string;
  /** In words. */
  noPayload: string;
  noAnswer: string;
}

export async function known(requestId: string): Promise<Known> {
  const here = made.get(requestId);
  const call = await get<Exchange>(`/invocations/${encodeURIComponent(requestId)}`);
  const { payload, answer } = call;
  return {
    payload: payload.body === null ? here?.payload : { body: payload.base64 ? bytes(payload.body) : payload.body, raw: payload.raw },
    answer: answered(call) ?? here?.answer,
    noPayload: absent(payload),
    noAnswer: absent(answer),
  };
}

function answered({ answer, error }: Exchange): string | undefined {
  if (answer.body === null) return answer.absent === "failed" ? error?.message : undefined;
  if (answer.base64) return noText(answer.size ?? 0, answer.body);
  if (!error) return answer.raw ? answer.body : pretty(answer.body);
  try {
    const report = JSON.parse(answer.body) as { errorType: string; errorMessage: string; stackTrace?: string[] };
    return raised(report.errorType, report.errorMessage, report.stackTrace);
  } catch {
    return answer.body;
  }
}

const bytes = (base64: string) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

function absent({ absent, size: length }: Content): string {
  switch (absent) {
    case "too_large":
      return `It had ${size(length ?? 0)}, which is more than Hearth keeps (invocations.keep_kb).`;
    case "off":
      return "Hearth keeps none of this function: its configuration says so ([invocations]).";
    case "streamed":
      return "It was sent on piece by piece; of those Hearth keeps nothing.";
    case "failed":
      return "It did not get to answer.";
    case "deploy":
      return "To see it this key needs the scope deploy.";
    case "not_run":
      return "It has not been run yet.";
    default:
      return "Hearth does not remember it any more: newer calls needed the room, or another process ran it.";
  }
}

/** As a person reads it. */
export const given = ({ body, raw }: Payload): string => (typeof body !== "string" ? readable(body) : raw ? body : pretty(body));

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
