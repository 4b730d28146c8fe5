// After Hours client for browsers and Node.js: tells when the sessions of one user end. No dependencies: copy this file
// or serve it. Protocol, close codes and examples: docs/protocol.md. Types: after-hours.d.ts.

export const EXPIRING = "after_hours:session_expiring";
export const EXPIRED = "after_hours:session_expired";

const PROTOCOL = "after-hours.v1";
const SILENCE = 45_000; // ms without a frame after which a connection counts as dead
const TICK = 15_000; // ms between two looks at the time that has passed
const PATIENCE = 10_000; // ms for a hello, and for an answer to sync
const TOKEN_PATIENCE = 15_000;
const GRACE = 1_500; // ms after a deadline until the relay is asked: it announces late deadlines within a second
const ANSWER = 3_000; // ms to wait for its answer
const BEHIND = 500; // ms to wait for an event after a snapshot that was taken after its deadline
const SETTLED = 10_000; // ms: after a connection of this length the back-off starts again from its first value
const REMEMBERED = 500; // number of keys of announcements kept: each has one for its id and one for type, session and deadline
const DAY = 86_400_000; // ms: upper limit of retryAfterMs, and how long a session that has ended is known
const LONGEST_TIMER = 60_000; // ms: timers are renewed at least this often, because the clock estimate improves
const MISSES = 2; // WebSockets in a row without a hello after which a stream is tried
const SOCKET_AGAIN = 600_000; // ms after which a client with a stream tries a WebSocket again
const STREAM = "text/event-stream";
const CODES = { 401: 4401, 429: 4029, 503: 1013 }; // of an answer without a close code
const UNREADABLE = 1003; // close code reported for an unreadable frame
const BAD_FRAME = 4400, TOKEN = 4401, BLOCKED = 4403;

const storageKey = (userId) => `after-hours:${userId}`;

// retryAfterMs of a message, limited to 0 … 1 day; undefined if it is missing or not a number.
const retryOf = (message) =>
  typeof message?.retryAfterMs === "number" ? Math.min(Math.max(message.retryAfterMs, 0), DAY) : undefined;

// Parse a frame and check the fields that are used here; undefined if it is not valid.
const NEEDED = {
  hello: ["start", "cursor", "serverTime"], snapshot: ["serverTime"], reset: ["cursor", "serverTime"],
  [EXPIRING]: ["id", "cursor", "sessionId", "expiresAt"], [EXPIRED]: ["id", "cursor", "sessionId", "expiresAt"],
};
function parse(data) {
  let frame;
  try { frame = JSON.parse(data); } catch { return undefined; }
  if (typeof frame?.type !== "string") return undefined;
  const needed = Object.hasOwn(NEEDED, frame.type) ? NEEDED[frame.type] : [];
  if (!needed.every((name) => typeof frame[name] === "string")) return undefined;
  if (!needed.includes("serverTime")) return frame;
  const isSnapshot = !Number.isNaN(Date.parse(frame.serverTime)) && Array.isArray(frame.sessions)
    && frame.sessions.every((session) => typeof session?.sessionId === "string");
  return isSnapshot ? frame : undefined;
}

const keyOf = (type, { sessionId, expiresAt }) => `${type} ${sessionId} ${Date.parse(expiresAt)}`;

// Estimate of the server's clock, based on performance.now(), which is monotonic. A frame arrives after the instant that
// it carries, so the smallest offset of several frames is the best one, and the estimate is never ahead of the server.
class ServerClock {
  #offsets = [];

  observe(instant) {
    const offset = performance.now() - Date.parse(instant);
    if (Number.isNaN(offset)) return;
    this.#offsets.push(offset);
    if (this.#offsets.length > 32) this.#offsets.shift(); // the two clocks drift
  }

  now() {
    return performance.now() - Math.min(...this.#offsets); // before the first frame: -Infinity
  }
}

// Time since an instant, ms. A computer that sleeps may stop the monotonic clock, but not the wall clock, which may be set:
// the larger of the two differences.
const instant = () => [performance.now(), Date.now()];
const since = ([monotonic, wall]) => Math.max(performance.now() - monotonic, Date.now() - wall);

// One connection of either kind. Calls onFrame for each frame and onEnded once; neither is called after drop().
class Connection {
  #deadline; #onFrame; #onEnded; #heardAt = instant(); #isOver = false;
  isGreeted = false;
  isLeaving = false; // its successor is on its way
  isRenewing = false;

  constructor(onFrame, onEnded) {
    this.#onFrame = onFrame;
    this.#onEnded = onEnded;
    this.expect(PATIENCE);
  }

  receive(data) {
    if (this.#isOver) return;
    const frame = parse(data);
    if (!frame) return this.end(UNREADABLE, "");
    this.#heardAt = instant();
    if (this.isGreeted ||= frame.type === "hello") this.expect(SILENCE); // until then PATIENCE is the limit
    this.#onFrame(frame);
  }

  // True if so much time has passed that it must be dead, whether or not a timer has run meanwhile.
  get isSilent() { return since(this.#heardAt) > SILENCE; }

  // End the connection unless a frame arrives within `ms`. Does not wait for the close event: on a dead network it comes
  // late. Looks again after TICK, because a timer does not count the time in which the computer or the page slept.
  expect(ms, start = instant()) {
    clearTimeout(this.#deadline);
    if (this.#isOver) return;
    const left = ms - since(start);
    if (left <= 0) return this.end(1006, "");
    this.#deadline = setTimeout(() => this.expect(ms, start), Math.min(left, TICK));
  }

  drop() {
    this.#isOver = true;
    clearTimeout(this.#deadline);
    this.shut();
  }

  end(code, reason) {
    if (this.#isOver) return;
    this.drop();
    this.#onEnded(code, reason);
  }
}

// By a WebSocket.
class Socket extends Connection {
  #socket;

  constructor(options, token, after, onFrame, onEnded) {
    super(onFrame, onEnded);
    const socket = this.#socket = new options.WebSocket(options.url, [PROTOCOL]);
    socket.onopen = () => this.send({ type: "auth", token, ...(after && { after }) });
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ code, reason }) => this.end(code, reason);
    socket.onerror = () => {}; // a close event follows
  }

  send(message) {
    if (this.#socket.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  shut() {
    Object.assign(this.#socket, { onopen: null, onmessage: null, onclose: null });
    this.#socket.close(1000);
  }
}

// By server-sent events, where WebSockets do not get through. Read by fetch, as an EventSource cannot send a token.
class Stream extends Connection {
  #fetch; #url; #token; #latest = ""; #leaving = new AbortController();

  constructor(options, token, after, onFrame, onEnded) {
    super((frame) => {
      if (frame.emittedAt > this.#latest) this.#latest = frame.emittedAt;
      onFrame(frame);
    }, onEnded);
    this.#fetch = options.fetch;
    this.#url = options.url.replace(/^ws/, "http").replace(/\/ws(?=$|\?)/, "/events");
    this.#token = token;
    this.#read(after).then(() => this.end(1006, ""), () => this.end(1006, ""));
  }

  // Of a client's messages a stream has only sync: a question beside it.
  send({ type }) {
    if (type === "sync") this.#ask().catch(() => {}); // an answer that does not come shows, as on a WebSocket
  }

  shut() { this.#leaving.abort(); }

  #get(headers) {
    const fetch = this.#fetch; // not called as a method: browsers do not allow that
    return fetch(this.#url, {
      headers: { Authorization: `Bearer ${this.#token}`, ...headers },
      cache: "no-store", credentials: "omit", signal: this.#leaving.signal,
    });
  }

  async #read(after) {
    const response = await this.#get({ Accept: STREAM, ...(after && { "Last-Event-ID": after }) });
    const kind = response.headers.get("content-type") ?? "";
    if (!response.ok || !kind.startsWith(STREAM)) {
      const { code = CODES[response.status] ?? 1006, ...reason } = await response.json();
      return this.end(code, JSON.stringify(reason));
    }
    const reader = response.body.getReader(), decoder = new TextDecoder();
    for (let rest = ""; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const [, code, reason] = /^: closed (\d+) (.*)/.exec(line) ?? [];
        if (code) return this.end(Number(code), reason);
        if (line.startsWith("data: ")) this.receive(line.slice(6));
      }
    }
  }

  // The answer does not come in sequence with the stream: one that is older than an event is asked for again.
  async #ask() {
    const answer = await (await this.#get({ Accept: "application/json" })).json();
    if (answer.serverTime < this.#latest) return this.#ask();
    if (answer.serverTime) this.receive(JSON.stringify({ ...answer, type: "snapshot" }));
  }
}

// The sessions as last reported, and which warnings and ends have to be announced for them.
class Sessions {
  #byId = new Map();
  #lead;
  heardAt = -Infinity; // server time of the last snapshot, ms

  constructor(lead) { this.#lead = lead; }

  get list() {
    return [...this.#byId.values()].map(({ isOld, ...session }) => session);
  }

  takeSnapshot(sessions, heardAt) {
    const before = this.#byId;
    this.#byId = new Map(sessions.map((session) => {
      if (session.state !== "ended") return [session.sessionId, session];
      const known = before.get(session.sessionId);
      // A session that had ended before the first snapshot is not announced. A snapshot does not contain the reason of
      // an end; only the event does, and it may arrive later.
      const isOld = known === undefined || known.isOld === true;
      const guess = known?.expiresAt === session.expiresAt ? "timeout" : "ended";
      return [session.sessionId, { ...session, isOld, ...(!isOld && { reason: known.reason ?? guess }) }];
    }));
    this.heardAt = Math.max(this.heardAt, heardAt);
  }

  // Take a session from an answer of the application's own server.
  takeOwn({ sessionId, expiresAt }, now) {
    const end = Date.parse(expiresAt);
    const iso = (instant) => new Date(instant).toISOString(); // as the relay writes instants
    const warnsAt = iso(Math.max(end - this.#lead, Math.min(now, end))); // of a short session: immediately
    this.#byId.set(sessionId, { sessionId, expiresAt: iso(end), warnsAt, state: "active" });
  }

  takeEvent({ type, sessionId, expiresAt, reason, emittedAt }) {
    const known = this.#byId.get(sessionId);
    // a replayed event is older than the snapshot before it, and the snapshot may contain a later deadline
    if (known && known.expiresAt !== expiresAt && Date.parse(emittedAt) < this.heardAt) return;
    for (const [id, { state, expiresAt: end }] of this.#byId) { // as a snapshot would leave it out
      if (state === "ended" && Date.parse(end) < Date.parse(emittedAt) - DAY) this.#byId.delete(id);
    }
    const state = type === EXPIRED ? "ended" : "warned";
    this.#byId.set(sessionId, { ...known, sessionId, expiresAt, state, ...(reason && { reason }) });
  }

  // The announcements to make, with the server time (ms) at which each is due.
  *owed(now) {
    for (const session of this.#byId.values()) {
      const end = Date.parse(session.expiresAt);
      if (Number.isNaN(end)) continue; // unreadable instant: no countdown
      if (session.state !== "ended" && !Number.isNaN(Date.parse(session.warnsAt)) && now < end) {
        yield { type: EXPIRING, session, due: Date.parse(session.warnsAt) };
      }
      if (!session.isOld) yield { type: EXPIRED, session, due: end };
    }
  }
}

export class AfterHours {
  #options; #clock = new ServerClock(); #sessions; #cursor; #seen;
  #connection; #next; #isOpening = false; #retry; #failures = 0; #wasRefused = false; #helloAt = 0;
  #misses = 0; #socketAt = -Infinity;
  #queue = Promise.resolve(); #timer; #asked = new Map(); #changedAt = -Infinity;
  #listening; #state = { state: "closed" }; #notBefore = 0;

  constructor(options) {
    if (typeof options.userId !== "string" || !options.userId) throw new TypeError("userId is required: cursors are stored for each user");
    const { sessionStorage: storage, WebSocket, fetch } = globalThis;
    this.#options = { storage, WebSocket, fetch, ...options };
    this.#sessions = new Sessions(options.warningLeadMs ?? 120_000);
    const { cursor, seen } = this.#load();
    this.#cursor = cursor;
    this.#seen = new Set(seen);
  }

  get state() { return this.#state; }
  get cursor() { return this.#cursor; }
  get sessions() { return this.#sessions.list; }

  // Estimate of the server's time, ms since 1970; never ahead of it.
  now() { return this.#clock.now(); }

  connect() {
    if (this.#listening) return;
    this.#listening = new AbortController();
    this.#failures = 0;
    this.#wasRefused = false;
    const { signal } = this.#listening;
    const look = () => {
      if (this.#connection?.isSilent) this.#connection.end(1006, "");
      else if (this.#connection) this.#ask();
      else if (performance.now() >= this.#notBefore) this.#open();
    };
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || look(), { signal });
    globalThis.addEventListener?.("online", () => {
      this.#misses = Math.min(this.#misses, MISSES - 1); // another network may let WebSockets through
      look();
    }, { signal });
    globalThis.addEventListener?.("offline", () => this.#ask(), { signal }); // not reliable: the missing answer shows it
    this.#open();
  }

  close() { this.#stop({ state: "closed" }); }

  // Call this after your application changed a session; `known` is the answer of your server, if it contains the session's
  // id and new end.
  sync(known) {
    if (known) this.#sessions.takeOwn(known, this.now());
    else this.#changedAt = this.now(); // the known sessions are out of date: nothing is announced from them
    this.#ask();
    this.#changed();
  }

  // ---- the connection

  async #open() {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    if (this.#isOpening || this.#next || !this.#listening) return;
    const { signal } = this.#listening;
    if (!this.#connection) this.#tellState({ state: "connecting" });
    this.#isOpening = true;
    let token;
    try {
      token = await this.#token();
    } catch {
      if (!signal.aborted) this.#retryIn(this.#backOff());
      return;
    } finally {
      if (!signal.aborted) this.#isOpening = false;
    }
    if (signal.aborted) return;
    const byStream = this.#misses >= MISSES && this.#options.fetch && performance.now() - this.#socketAt < SOCKET_AGAIN;
    if (!byStream) this.#socketAt = performance.now();
    const connection = this.#next = new (byStream ? Stream : Socket)(this.#options, token, this.#cursor,
      (frame) => this.#receive(connection, frame), (code, reason) => this.#ended(connection, code, reason));
  }

  #token() {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no token in time")), TOKEN_PATIENCE);
      Promise.resolve().then(this.#options.token).then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }

  #receive(connection, frame) {
    this.#clock.observe(frame.serverTime ?? frame.emittedAt);
    this.#options.onFrame?.(frame);
    const { type } = frame;
    if (type === "hello") this.#adopt(connection, frame);
    else if (type === "stale") this.#tellState({ ...this.#state, state: "stale", since: frame.since });
    else if (type === "live") this.#tellState({ ...this.#state, state: "live", replayed: frame.replayed });
    else if (type === "drain") this.#drained(connection, frame);
    else if (type === "auth_expiring") this.#renew(connection);
    if (["hello", "snapshot", "reset"].includes(type)) this.#then(() => this.#takeSnapshot(frame));
    else if (type === EXPIRING || type === EXPIRED) this.#then(() => this.#takeEvent(connection, frame));
    this.#announceOwed();
  }

  #adopt(connection, { start, node, tokenExpiresAt }) {
    if (this.#connection !== connection) this.#connection?.drop();
    this.#connection = connection;
    this.#next = undefined;
    this.#wasRefused = false;
    this.#helloAt = performance.now();
    if (connection instanceof Stream) this.#retryIn(SOCKET_AGAIN);
    else this.#misses = 0;
    const via = connection instanceof Stream ? "stream" : "websocket";
    this.#tellState({ state: "live", start, node, tokenExpiresAt, via });
  }

  // The old connection stays in use until the new one has its hello. A repeated drain, or one of another connection, is
  // ignored.
  #drained(connection, frame) {
    if (connection !== this.#connection || connection.isLeaving) return;
    connection.isLeaving = true;
    this.#retryIn(this.#delay(connection, retryOf(frame)));
  }

  #renew(connection) {
    if (connection instanceof Stream) return this.#drained(connection, { retryAfterMs: 0 }); // by a new stream
    if (connection.isRenewing) return;
    connection.isRenewing = true;
    this.#token().then((token) => connection.send({ type: "auth", token }), () => {}).finally(() => { connection.isRenewing = false; });
  }

  // Delay before the next connection, ms. The relay spreads its clients by retryAfterMs; from the second failure on, the
  // delay is at least the back-off.
  #delay(connection, wanted) {
    if (connection === this.#connection && performance.now() - this.#helloAt > SETTLED) this.#failures = 0;
    const backOff = this.#backOff();
    if (wanted === undefined) return backOff;
    return this.#failures === 1 ? wanted : Math.max(wanted, backOff);
  }

  #ended(connection, code, reason) {
    let wanted;
    try { wanted = retryOf(JSON.parse(reason)); } catch { /* no retryAfterMs: use the back-off */ }
    const delay = this.#delay(connection, wanted);
    this.#count(connection, code);
    if (connection === this.#connection) this.#connection = undefined;
    else this.#next = undefined;
    if (code === BAD_FRAME) return this.#stop({ state: "stopped", code, why: "the relay rejected a frame of this client" });
    if (code === TOKEN && this.#wasRefused) return this.#stop({ state: "stopped", code, why: "the token is not accepted" });
    this.#wasRefused = code === TOKEN;
    this.#notBefore = performance.now() + (wanted ?? 0);
    const state = code === BLOCKED ? "blocked" : "waiting";
    if (!this.#connection) this.#tellState({ state, code, retryInMs: Math.round(delay) });
    const isInUse = this.#connection && !this.#connection.isLeaving; // by a stream; this was a WebSocket tried beside it
    if (!this.#next && !this.#isOpening) this.#retryIn(isInUse ? SOCKET_AGAIN : delay);
    this.#announceOwed();
  }

  // Whether WebSockets get through: an end that the relay did not send, without a hello before it, is a miss. After a
  // stream that failed in the same way comes a WebSocket again.
  #count(connection, code) {
    if (connection.isGreeted) return;
    if (connection instanceof Stream) this.#misses = code === 1006 ? MISSES - 1 : this.#misses;
    else this.#misses = code === 1006 ? this.#misses + 1 : 0;
  }

  #backOff() {
    this.#failures += 1;
    return 100 + Math.random() * Math.min(30_000, 250 * 2 ** this.#failures);
  }

  #retryIn(ms) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), Math.min(ms, 2 ** 31 - 1)); // a longer timer would fire immediately
  }

  #stop(state) {
    this.#listening?.abort();
    this.#listening = undefined;
    for (const timer of [this.#retry, this.#timer]) clearTimeout(timer);
    for (const connection of [this.#connection, this.#next]) connection?.drop();
    this.#connection = this.#next = this.#retry = undefined;
    this.#isOpening = false;
    this.#tellState(state);
  }

  #ask() {
    this.#connection?.send({ type: "sync" });
    if (this.#state.state === "live") this.#connection?.expect(PATIENCE); // a relay that is stale cannot answer
  }

  #tellState(state) {
    this.#state = state;
    this.#options.onState?.(state);
  }

  // ---- sessions and events, in sequence: a slow handler delays the next event, but not the heartbeat

  #then(step) {
    const { signal } = this.#listening;
    this.#queue = this.#queue.then(() => signal.aborted || step()).catch(globalThis.reportError ?? console.error);
  }

  #takeSnapshot({ type, start, cursor, sessions, serverTime }) {
    const heardAt = Date.parse(serverTime);
    this.#sessions.takeSnapshot(sessions, heardAt);
    if (heardAt >= this.#changedAt) this.#changedAt = -Infinity;
    // after "replayed" the missed events follow, each with its cursor
    if (type === "reset" || (type === "hello" && start !== "replayed")) this.#save(cursor);
    this.#changed();
  }

  async #takeEvent(connection, event) {
    this.#sessions.takeEvent(event);
    this.#changed();
    try {
      await this.#tell(event, event.id);
    } finally { // an error of the handler is reported; the event is not delivered again
      this.#save(event.cursor);
      connection.send({ type: "ack", cursor: event.cursor });
    }
  }

  // Call the handler unless it was called before: for this event (id), or by the local countdown for this deadline.
  async #tell(event, id) {
    const key = keyOf(event.type, event);
    const isKnown = this.#seen.has(key) || this.#seen.has(id);
    this.#seen.add(key);
    if (id) this.#seen.add(id);
    if (isKnown) return;
    const { onExpiring, onExpired } = this.#options;
    await (event.type === EXPIRING ? onExpiring : onExpired)?.({ isLocal: false, ...event });
  }

  #changed() {
    this.#options.onSessions?.(this.sessions);
    this.#announceOwed();
  }

  // ---- the local countdown: announces what is due if the relay or the network fails at that moment

  #announceOwed() {
    clearTimeout(this.#timer);
    if (!this.#listening || this.#changedAt > -Infinity) return;
    const now = this.now();
    let next = LONGEST_TIMER;
    const open = new Set();
    for (const { type, session, due } of this.#sessions.owed(now)) {
      const key = keyOf(type, session);
      if (this.#seen.has(key)) continue;
      open.add(key);
      const wait = now < due ? due - now : this.#wait(key, due, now);
      if (wait > 0) next = Math.min(next, wait);
      else this.#then(() => this.#announce(type, session));
    }
    for (const key of this.#asked.keys()) if (!open.has(key)) this.#asked.delete(key);
    this.#timer = setTimeout(() => this.#announceOwed(), next + 1);
  }

  // How long to wait for the relay's announcement, ms. While connected, the relay decides: the deadline may have moved.
  #wait(key, due, now) {
    if (this.#state.state !== "live") return 0;
    if (this.#sessions.heardAt >= due + GRACE) return this.#sessions.heardAt + BEHIND - now;
    if (now < due + GRACE) return due + GRACE - now;
    if (!this.#asked.has(key)) {
      this.#asked.set(key, now);
      this.#ask();
    }
    return this.#asked.get(key) + ANSWER - now;
  }

  async #announce(type, { sessionId, expiresAt }) {
    const now = this.now();
    // an earlier step of the queue may have moved or ended the session
    const owed = [...this.#sessions.owed(now)].find((one) =>
      one.type === type && one.session.sessionId === sessionId && one.session.expiresAt === expiresAt);
    if (!owed || this.#seen.has(keyOf(type, owed.session))) return;
    const about = type === EXPIRING
      ? { minutesRemaining: Math.ceil((Date.parse(expiresAt) - now) / 60_000) }
      : { reason: owed.session.reason ?? "timeout" };
    const event = { type, sessionId, expiresAt, isLocal: true, ...about };
    this.#sessions.takeEvent({ ...event, emittedAt: new Date(now).toISOString() });
    try {
      await this.#tell(event);
    } finally {
      this.#save(this.#cursor);
      this.#changed();
    }
  }

  // ---- storage for reloads: cursor and announcements of this tab and user, written after the handler has run

  #load() {
    try {
      return JSON.parse(this.#options.storage.getItem(storageKey(this.#options.userId))) ?? {};
    } catch {
      return {}; // no storage, or not written by this client
    }
  }

  #save(cursor) {
    this.#cursor = cursor;
    // The oldest are forgotten, but none of a session that is still known: it would be announced again.
    const needed = new Set([...this.#sessions.owed(-Infinity)].map(({ type, session }) => keyOf(type, session)));
    this.#seen = new Set([...this.#seen].filter((key, index) => index >= this.#seen.size - REMEMBERED || needed.has(key)));
    try {
      this.#options.storage?.setItem(storageKey(this.#options.userId), JSON.stringify({ cursor, seen: [...this.#seen] }));
    } catch { /* full or forbidden: after a reload the client starts without a cursor */ }
  }
}
