// Types of after-hours.js. Instants are ISO 8601 in UTC.

export declare const EXPIRING: "after_hours:session_expiring";
export declare const EXPIRED: "after_hours:session_expired";

export interface Session {
  sessionId: string;
  expiresAt: string;
  /** When the warning is due; absent once the session was ended early. */
  warnsAt?: string;
  state: "active" | "warned" | "ended";
  reason?: "timeout" | "ended" | "moderation";
}

interface Announcement {
  sessionId: string;
  expiresAt: string;
  /** True if the relay could not be reached and the local countdown announced it; there is no id then. */
  isLocal: boolean;
  id?: string;
  cursor?: string;
  emittedAt?: string;
}

export interface Expiring extends Announcement {
  type: typeof EXPIRING;
  minutesRemaining: number;
}

export interface Expired extends Announcement {
  type: typeof EXPIRED;
  reason: "timeout" | "ended" | "moderation";
}

interface Live {
  start: "fresh" | "replayed" | "reset";
  node: string;
  tokenExpiresAt: string;
  /** stream: server-sent events, because WebSockets did not get through. A WebSocket is tried again every ten minutes. */
  via: "websocket" | "stream";
}

export type State =
  | { state: "connecting" | "closed" }
  | (Live & { state: "live"; replayed?: number })
  | (Live & { state: "stale"; since: string })
  | { state: "waiting" | "blocked"; code: number; retryInMs: number }
  | { state: "stopped"; code: number; why: string };

export interface Options {
  /** ws://… or wss://…/ws. Must not contain a token. */
  url: string;
  /** The user. The cursor is stored for each user of a tab separately. */
  userId: string;
  /** Called before each connection and when the token is about to expire; returns a valid token. */
  token: () => string | Promise<string>;
  /** Called once for each warning. Its result is awaited before the cursor is stored. */
  onExpiring?: (event: Expiring) => unknown;
  /** Called once for each end. Its result is awaited before the cursor is stored. */
  onExpired?: (event: Expired) => unknown;
  /** Called with the user's sessions, including those that ended less than a day ago, whenever they may have changed. */
  onSessions?: (sessions: Session[]) => unknown;
  onState?: (state: State) => unknown;
  /** Called with every frame before it is handled. */
  onFrame?: (frame: Record<string, unknown> & { type: string }) => unknown;
  /** Where the cursor is stored. Default: sessionStorage. null: it is not stored, a new page starts without one. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Time between warning and end, for sessions passed to sync() only. Default: two minutes. */
  warningLeadMs?: number;
  /** WebSocket class for environments without a global one (Node.js before 22). */
  WebSocket?: unknown;
  /** Reads server-sent events where WebSockets do not get through. Default: the global one. null: WebSockets only. */
  fetch?: typeof fetch | null;
}

export declare class AfterHours {
  constructor(options: Options);
  readonly state: State;
  readonly sessions: Session[];
  readonly cursor: string | undefined;
  connect(): void;
  close(): void;
  /** Call after your application changed a session. `known`: the session with its new end, from your server's answer. */
  sync(known?: { sessionId: string; expiresAt: string }): void;
  /** The server's time in ms since 1970, never ahead of it; -Infinity before the first frame. */
  now(): number;
}
