// The native REST API, as the dashboard uses it: every request carries the mark that lets its session count, and every refusal is an
// ApiError with what the server said.

export interface FieldFault {
  field: string;
  message: string;
}

export interface ErrorDetail {
  code: string;
  message: string;
  blame?: string;
  retry?: string;
  reason?: string;
  type?: string;
  stack?: string[];
  log_tail?: string;
  faults?: FieldFault[];
  request_id?: string;
}

export interface Fn {
  id: string;
  name: string;
  language: string;
  handler: string;
  timeout: number;
  memory: number;
  environment: Record<string, string>;
  description: string;
  tags: Record<string, string>;
  route: string | null;
  max_concurrency: number | null;
  reserved_concurrency: number | null;
  max_retries?: number | null;
  max_event_age?: number | null;
  on_success?: string | null;
  on_failure?: string | null;
  network: "none" | "egress";
  layers: string[];
  code: { sha256: string; size: number; origin: "inline" | "zip" | "path" | "image"; path?: string; image?: Image };
  version: string;
  revision: number;
  created_at: string;
  updated_at: string;
  url: string;
}

export interface Cors {
  allow_credentials?: boolean;
  allow_origins?: string[];
  allow_methods?: string[];
  allow_headers?: string[];
  expose_headers?: string[];
  max_age?: number;
}

export interface FunctionUrl {
  qualifier: string;
  auth_type: "NONE" | "AWS_IAM";
  invoke_mode: "BUFFERED" | "RESPONSE_STREAM";
  cors: Cors | null;
  url: string;
  created_at: string;
  updated_at: string;
}

/** A version of a layer. */
export interface Layer {
  id: string;
  name: string;
  number: number;
  description: string;
  runtimes: string[] | null;
  architectures: string[] | null;
  license: string | null;
  sha256: string;
  size: number;
  unpacked_size: number;
  created_at: string;
}

export interface Provisioned {
  qualifier: string;
  requested: number;
  allocated: number;
  available: number;
  status: "IN_PROGRESS" | "READY" | "FAILED";
  reason: string | null;
  updated_at: string;
}

/** The image that a function is made of; sent as it is, it is the same one again. */
export interface Image {
  uri: string;
  id: string;
  entrypoint?: string[];
  command?: string[];
  working_dir?: string;
}

export interface Runtime {
  id: string;
  names: string[];
  description: string;
  default_handler: string;
  source_extension: string | null;
  source_file: string | null;
  template: string | null;
}

export interface Traffic {
  id: string;
  name: string;
  calls: number;
  failed: number;
  warm: number;
  stem: number;
  cold: number;
  p50: number | null;
  p99: number | null;
  spans: [number, number][];
}

export interface Worker {
  id: string;
  runtime: string;
  memory: number;
  created_at: string;
  function: string | null;
  state: "stem" | "starting" | "idle" | "busy";
}

export interface Pool {
  workers: Worker[];
  total: number;
  stems: { runtime: string; ready: number; least: number; most: number }[];
  lanes: { bound: number; active: number; waiting: number };
  clearing: number;
  evicted: number;
  evictions: { at: string; runtime: string; memory: number; function: string | null; rule: string; in_favour_of: string }[];
  waiting: number;
  memory_total: number;
  memory_reserved: number;
  concurrency: number;
  concurrency_limit: number;
}

export interface Overview {
  at: string;
  changes: number;
  span: number;
  functions: Traffic[];
  pool: Pool | null;
}

export interface Phases {
  queue: number;
  start: number;
  init: number;
  run: number;
}

export interface Call {
  request_id: string;
  ended_at: string;
  start: string | null;
  start_reason: string | null;
  duration: number;
  phases: Phases;
  error: string | null;
  blame: string | null;
}

/** An asynchronous call. */
export interface Invocation {
  request_id: string;
  function: string;
  version: string;
  destination?: string;
  state: "queued" | "running" | "succeeded" | "failed";
  attempts: number;
  accepted_at: string;
  finished_at: string | null;
  error: { code: string; message: string } | null;
}

/** A payload or an answer, or why it is not there. */
export interface Content {
  body: string | null;
  base64: boolean;
  raw: boolean;
  size: number | null;
  absent: "too_large" | "forgotten" | "off" | "streamed" | "failed" | "not_run" | "deploy" | null;
}

/** A call with what it was given and what it answered. */
export interface Exchange extends Invocation {
  payload: Content;
  answer: Content;
}

export interface DeadLetter extends Invocation {
  payload_base64?: string;
}

export interface Queue {
  waiting: number;
  running: number;
  due_since: string | null;
  room: number;
  dead_letters: number;
}

export interface Version {
  number: number;
  description: string;
  handler: string;
  code: { sha256: string; size: number; image?: Image };
  digest: string;
  function_revision: number;
  created_at: string;
}

export interface Alias {
  name: string;
  version: string;
  second: { version: string; weight: number } | null;
  revision: number;
}

export interface LogLine {
  sequence: number;
  at: string;
  request_id: string | null;
  worker: string;
  text: string;
}

export interface Account {
  name: string;
  scopes: string[];
  functions: string[];
}

export interface Key {
  id: string;
  name: string;
  scopes: string[];
  functions: string[];
  created_at: string;
  expires_at: string | null;
  last_four?: string;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly detail: ErrorDetail,
  ) {
    super(detail.message);
  }

  fault(field: string): string | undefined {
    return this.detail.faults?.find((fault) => fault.field === field)?.message;
  }
}

/** Told when a request found nobody signed in. */
export let onSignedOut: () => void = () => {};
export const whenSignedOut = (then: () => void) => {
  onSignedOut = then;
};

const MARK = { "x-hearth-dashboard": "1" };

export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { ...MARK, ...(init.headers as Record<string, string> | undefined) };
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, { code: "unreachable", message: "Hearth does not answer. Is it still running?" });
  }
  if (response.status === 401 && path !== "/dashboard/session") onSignedOut();
  return response;
}

export async function problem(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text) as { error: ErrorDetail };
    if (error?.message) return new ApiError(response.status, error);
  } catch {
    // What is not the API's own answer is shown as it is.
  }
  const message = text.slice(0, 300) || `the server answered ${response.status}`;
  return new ApiError(response.status, { code: "unknown", message });
}

async function checked(response: Response): Promise<Response> {
  if (!response.ok) throw await problem(response);
  return response;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await checked(await send(path, { signal }));
  return (response.status === 204 ? null : await response.json()) as T;
}

/** The answer as it is written: see `json`. */
export async function text(path: string, signal?: AbortSignal): Promise<string> {
  return (await checked(await send(path, { signal }))).text();
}

export async function bytes(path: string, signal?: AbortSignal): Promise<Uint8Array> {
  return new Uint8Array(await (await checked(await send(path, { signal }))).arrayBuffer());
}

export async function write<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  const response = await checked(await send(path, init));
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export const fnPath = (name: string, rest = "") => `/functions/${encodeURIComponent(name)}${rest}`;

/** Every page of the list, within reason. */
export async function allFunctions(): Promise<Fn[]> {
  const all: Fn[] = [];
  let cursor = "";
  do {
    const page = await get<{ items: Fn[]; next: string | null }>(`/functions/?limit=1000${cursor && `&cursor=${cursor}`}`);
    all.push(...page.items);
    cursor = page.next ?? "";
  } while (cursor && all.length < 20_000);
  return all;
}
