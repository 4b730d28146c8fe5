// Types of after-hours.js. Instants are ISO 8601 in UTC, as the relay writes them.

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
  /** True if the relay could not be asked and our own countdown speaks; then there is no id. */
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

export type State =
  | { state: "connecting" | "closed" }
  | { state: "live"; start: "fresh" | "replayed" | "reset"; node: string; tokenExpiresAt: string; replayed?: number }
  | { state: "stale"; start: "fresh" | "replayed" | "reset"; node: string; tokenExpiresAt: string; since: string }
  | { state: "waiting" | "blocked"; code: number; retryInMs: number }
  | { state: "stopped"; code: number; why: string };

export interface Options {
  /** ws://… or wss://…/ws. Never with a token in it. */
  url: string;
  /** Whose cursor this is: kept apart for each user of a tab. */
  userId: string;
  /** Asked before each connection and when the present token runs out; should then give a new one. */
  token: () => string | Promise<string>;
  /** Called once for each warning. What it returns is awaited before the place is remembered; so is onExpired's. */
  onExpiring?: (event: Expiring) => unknown;
  /** Called once for each end. */
  onExpired?: (event: Expired) => unknown;
  /** The user's sessions, those over for less than a day included, whenever something is heard of them. */
  onSessions?: (sessions: Session[]) => unknown;
  onState?: (state: State) => unknown;
  /** Every frame as it arrives, before it is handled. */
  onFrame?: (frame: Record<string, unknown> & { type: string }) => unknown;
  /** Default: sessionStorage. null: a new page starts afresh. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** For sessions given to sync(); the relay tells it of all others. Default: two minutes. */
  warningLeadMs?: number;
  /** Where there is none of its own (Node.js before 22). */
  WebSocket?: unknown;
}

export declare class AfterHours {
  constructor(options: Options);
  readonly state: State;
  readonly sessions: Session[];
  readonly cursor: string | undefined;
  connect(): void;
  close(): void;
  /** After a change of your own. `known`: the session as your server has just answered, if it names its new end. */
  sync(known?: { sessionId: string; expiresAt: string }): void;
  /** The server's time in ms since 1970, never ahead of it; -Infinity before the first frame. */
  now(): number;
}
