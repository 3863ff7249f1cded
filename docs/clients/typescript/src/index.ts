/**
 * Client of the LLM Observatory API.
 *
 *     const observatory = new Client("http://127.0.0.1:8080", token);
 *     for await (const span of observatory.traces({ from: "now-24h", model: ["gpt-4.1-mini"] })) {
 *       console.log(span.span_name, span.total_cost_usd);
 *     }
 */
import type { components, paths } from "./schema.js";

export type { components, paths } from "./schema.js";

export type Span = components["schemas"]["Span"];
export type TraceSummary = components["schemas"]["TraceSummary"];
export type Trace = components["schemas"]["Trace"];
export type Session = components["schemas"]["Session"];
export type User = components["schemas"]["User"];
export type Filter = components["schemas"]["Filter"];
export type Search = components["schemas"]["Search"];
export type Problem = components["schemas"]["Problem"];

type QueryOf<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Query } } }
  ? NonNullable<Query>
  : never;

export type TraceParameters = QueryOf<"/api/v1/traces">;
export type SessionParameters = QueryOf<"/api/v1/sessions">;
export type UserParameters = QueryOf<"/api/v1/users">;
export type MetricParameters = QueryOf<"/api/v1/metrics">;
export type CostParameters = QueryOf<"/api/v1/costs/summary">;
export type LiveParameters = QueryOf<"/api/v1/traces/live">;

/** Also for filters by attribute, resource and score: `{ "attribute.team": ["search"] }`. */
export type Keyed = { [name: `${"attribute" | "resource" | "score"}.${string}`]: string | string[] };

export interface Options {
  /** Attempts of a request that may be sent again; default 4. */
  attempts?: number;
  /** Milliseconds before the first repetition; later ones wait double. Default 250. */
  firstWait?: number;
  /** The longest wait, also one that the server asks for; default 30,000. */
  longestWait?: number;
  /** Milliseconds for one attempt; default 30,000. */
  timeout?: number;
  fetch?: typeof fetch;
}

/** An answer that is an error. `code` is stable; `detail` is for people and may change. */
export class ApiError extends Error {
  override readonly name: string = "ApiError";
  readonly code: string;
  readonly detail: string;
  readonly requestId: string | null;
  readonly errors: NonNullable<Problem["errors"]>;

  constructor(
    readonly status: number,
    problem: Partial<Problem>,
    /** Seconds after which the same request may succeed, if the server says so. */
    readonly retryAfter: number | null,
  ) {
    super(`${status} ${problem.code ?? ""}: ${problem.detail ?? problem.title ?? ""}`);
    this.code = problem.code ?? "";
    this.detail = problem.detail ?? problem.title ?? "";
    this.requestId = problem.request_id ?? null;
    this.errors = problem.errors ?? [];
  }
}

export class InvalidRequest extends ApiError {
  override readonly name = "InvalidRequest";
}
export class InvalidCredential extends ApiError {
  override readonly name = "InvalidCredential";
}
export class AccessDenied extends ApiError {
  override readonly name = "AccessDenied";
}
export class NotFound extends ApiError {
  override readonly name = "NotFound";
}
export class RateLimited extends ApiError {
  override readonly name = "RateLimited";
}
export class ServerFailed extends ApiError {
  override readonly name = "ServerFailed";
}

const BY_STATUS: Record<number, typeof ApiError> = {
  401: InvalidCredential,
  403: AccessDenied,
  404: NotFound,
  410: NotFound,
  429: RateLimited,
};
const RETRIED = new Set([429, 502, 503, 504]);
const SAFE_POSTS = new Set(["/api/v1/traces/search", "/api/v1/metrics/query"]);

export interface Page<Row> {
  rows: Row[];
  cursor: string | null;
  meta: Record<string, unknown>;
}

interface Envelope<Data> {
  data: Data;
  next_cursor?: string | null;
  meta: Record<string, unknown>;
}

export interface LiveEvent {
  event: string;
  id: string;
  data: Partial<Span> & Record<string, unknown>;
}

export class Client {
  private readonly options: Required<Options>;

  constructor(
    private readonly baseUrl: string,
    private readonly token: string,
    options: Options = {},
  ) {
    this.options = {
      attempts: 4,
      firstWait: 250,
      longestWait: 30_000,
      timeout: 30_000,
      fetch: (...given) => globalThis.fetch(...given),
      ...options,
    };
  }

  /** Send any request of the API and return its JSON. */
  async request<Answer = unknown>(
    method: string,
    path: string,
    { query = {}, body }: { query?: object; body?: unknown } = {},
  ): Promise<Answer> {
    const mayRepeat = method === "GET" || method === "QUERY" || SAFE_POSTS.has(path);
    for (let attempt = 1; ; attempt++) {
      let failure: unknown;
      let told: number | null = null;
      try {
        const response = await this.send(method, path, query, body, AbortSignal.timeout(this.options.timeout));
        if (response.ok) return (await response.json()) as Answer;
        const error = await errorOf(response);
        if (!RETRIED.has(response.status)) throw error;
        [failure, told] = [error, error.retryAfter];
      } catch (error) {
        if (error instanceof ApiError && !RETRIED.has(error.status)) throw error;
        failure = error;
      }
      const isRefused = failure instanceof RateLimited;
      const wait = told === null ? this.backoff(attempt) : told * 1000;
      if (attempt >= this.options.attempts || !(isRefused || mayRepeat) || wait > this.options.longestWait) throw failure;
      await sleep(wait);
    }
  }

  /** Return one page of a list. */
  async page<Row>(path: string, query: object): Promise<Page<Row>> {
    const answer = await this.request<Envelope<Row[]>>("GET", path, { query });
    return { rows: answer.data, cursor: answer.next_cursor ?? null, meta: answer.meta };
  }

  /** Yield all rows of a list, page by page. */
  async *rows<Row>(path: string, query: object): AsyncGenerator<Row> {
    let cursor: string | null = null;
    do {
      const page: Page<Row> = await this.page<Row>(path, cursor === null ? query : { ...query, cursor });
      yield* page.rows;
      cursor = page.cursor;
    } while (cursor !== null);
  }

  /** Yield the spans that match, newest first. */
  traces(query: TraceParameters & Keyed = {}): AsyncGenerator<Span> {
    return this.rows<Span>("/api/v1/traces", query);
  }

  /** Yield the spans that match a search document. */
  async *search(document: Search): AsyncGenerator<Span> {
    let cursor: string | null = null;
    do {
      const body: Search = cursor === null ? document : { ...document, cursor };
      const answer: Envelope<Span[]> = await this.request("POST", "/api/v1/traces/search", { body });
      yield* answer.data;
      cursor = answer.next_cursor ?? null;
    } while (cursor !== null);
  }

  sessions(query: SessionParameters = {}): AsyncGenerator<Session> {
    return this.rows<Session>("/api/v1/sessions", query);
  }

  users(query: UserParameters = {}): AsyncGenerator<User> {
    return this.rows<User>("/api/v1/users", query);
  }

  /** Return one trace with its spans. */
  async trace(traceId: string): Promise<Trace> {
    const path = `/api/v1/traces/${encodeURIComponent(traceId)}`;
    return (await this.request<Envelope<Trace>>("GET", path)).data;
  }

  /** Return aggregates as rows. */
  async metrics(query: MetricParameters & Keyed): Promise<Record<string, unknown>[]> {
    return (await this.request<Envelope<Record<string, unknown>[]>>("GET", "/api/v1/metrics", { query })).data;
  }

  /** Return totals of money with their changes, splits and trends. */
  async costs(query: CostParameters & Keyed = {}): Promise<Record<string, unknown>> {
    return (await this.request<Envelope<Record<string, unknown>>>("GET", "/api/v1/costs/summary", { query })).data;
  }

  /**
   * Yield events of the live tail, heartbeats among them, without end: break off with the loop. A connection that
   * breaks is opened again where it was.
   */
  async *live(query: LiveParameters & Keyed = {}): AsyncGenerator<LiveEvent> {
    let lastId = "";
    let wait = 1000;
    for (;;) {
      const stop = new AbortController();
      try {
        const headers: Record<string, string> = { Accept: "text/event-stream" };
        if (lastId) headers["Last-Event-ID"] = lastId;
        const response = await this.send("GET", "/api/v1/traces/live", query, undefined, stop.signal, headers);
        if (!response.ok || response.body === null) {
          const error = await errorOf(response);
          if (!RETRIED.has(response.status)) throw error;
          wait = Math.min((error.retryAfter ?? 1) * 1000, this.options.longestWait);
        } else {
          for await (const event of eventsOf(response.body)) {
            lastId = event.id || lastId;
            if (event.event === "goodbye") {
              const told = event.data["retry_ms"];
              if (typeof told !== "number") return;
              wait = told;
              break;
            }
            yield event;
          }
        }
      } catch (error) {
        if (error instanceof ApiError) throw error;
      } finally {
        stop.abort();
      }
      await sleep(wait);
    }
  }

  private send(
    method: string,
    path: string,
    query: object,
    body: unknown,
    signal: AbortSignal,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const address = new URL(path, this.baseUrl);
    for (const [name, value] of Object.entries(query)) {
      for (const item of Array.isArray(value) ? value : [value]) {
        if (item !== undefined && item !== null) address.searchParams.append(name, String(item));
      }
    }
    const sent: RequestInit = {
      method,
      signal,
      headers: { Authorization: `Bearer ${this.token}`, Accept: "application/json", ...headers },
    };
    if (body !== undefined) {
      sent.body = JSON.stringify(body);
      sent.headers = { ...sent.headers, "Content-Type": "application/json" };
    }
    return this.options.fetch(address, sent);
  }

  private backoff(attempt: number): number {
    return Math.min(this.options.firstWait * 2 ** (attempt - 1), this.options.longestWait) * (0.5 + Math.random() / 2);
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  let problem: Partial<Problem> = {};
  try {
    problem = JSON.parse(text) as Partial<Problem>;
  } catch {
    problem = { detail: text.slice(0, 200) };
  }
  const told = response.headers.get("retry-after");
  const Kind = BY_STATUS[response.status] ?? (response.status >= 500 ? ServerFailed : InvalidRequest);
  return new Kind(response.status, problem, told !== null && /^\d+$/.test(told) ? Number(told) : null);
}

async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<LiveEvent> {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let [rest, event, id] = ["", "", ""];
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines.map((text) => text.replace(/\r$/, ""))) {
        if (line === "") {
          if (data.length) yield { event: event || "message", id, data: JSON.parse(data.join("\n")) };
          [event, data] = ["", []];
          continue;
        }
        const [, name, text = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
        if (name === "event") event = text;
        else if (name === "data") data.push(text);
        else if (name === "id") id = text;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
