// After Hours in the browser: when one user's sessions end. No dependencies: copy this file or serve it.
// The protocol, its close codes and examples: docs/protocol.md. Types: after-hours.d.ts.

export const EXPIRING = "after_hours:session_expiring";
export const EXPIRED = "after_hours:session_expired";

const PROTOCOL = "after-hours.v1";
const SILENCE = 45_000; // ms without a frame: the connection is dead, whatever TCP believes
const PATIENCE = 10_000; // for a hello, and for an answer to sync
const TOKEN_PATIENCE = 15_000;
const GRACE = 1_500; // a deadline known late is announced within a second; after this we look ourselves …
const ANSWER = 3_000; // … and wait so long for the relay's answer …
const BEHIND = 500; // … or for the event itself, which may be right behind it
const SETTLED = 10_000; // a connection that lasted so long was a good one: the back-off starts afresh
const REMEMBERED = 500; // announcements, each by its id and by what it was about
const DAY = 86_400_000; // the longest retryAfterMs that is believed
const LONGEST_TIMER = 60_000; // timers are set anew from the best clock at least this often
const UNREADABLE = 1003; // what we say of a frame that is none
const BAD_FRAME = 4400, TOKEN = 4401, BLOCKED = 4403;

const storageKey = (userId) => `after-hours:${userId}`;

// retryAfterMs of a message, cut to 0 … 1 day; undefined if it isn't there or is no number.
const retryOf = (message) =>
  typeof message?.retryAfterMs === "number" ? Math.min(Math.max(message.retryAfterMs, 0), DAY) : undefined;

// A frame with the fields that we rely on; undefined for anything else.
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

// The server's clock, by performance.now(): nobody sets that one. A frame is never younger than it says, so of several
// readings the smallest offset is the truest, and an instant is never thought to have come before it has.
class ServerClock {
  #offsets = [];

  observe(instant) {
    const offset = performance.now() - Date.parse(instant);
    if (Number.isNaN(offset)) return;
    this.#offsets.push(offset);
    if (this.#offsets.length > 32) this.#offsets.shift(); // two clocks drift apart
  }

  now() {
    return performance.now() - Math.min(...this.#offsets); // before the first reading: minus infinity
  }
}

// One WebSocket. Tells of each frame, and once of its end; after drop() of nothing more.
class Line {
  #socket; #deadline; #ended;
  isGreeted = false;
  isDrained = false;
  isRenewing = false;

  constructor(WebSocket, url, first, onFrame, onEnded) {
    this.#ended = onEnded;
    const socket = this.#socket = new WebSocket(url, [PROTOCOL]);
    socket.onopen = () => this.send(first);
    socket.onmessage = ({ data }) => {
      const frame = parse(data);
      if (!frame) return this.#end(UNREADABLE, "");
      if (this.isGreeted ||= frame.type === "hello") this.expect(SILENCE); // before, only a hello counts
      onFrame(frame);
    };
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
    socket.onerror = () => {}; // its close follows
    this.expect(PATIENCE);
  }

  send(message) {
    if (this.#socket.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  // Dead, unless something arrives within so many ms. close() may take long on a dead network: not waited for.
  expect(ms) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#end(1006, ""), ms);
  }

  drop() {
    clearTimeout(this.#deadline);
    Object.assign(this.#socket, { onopen: null, onmessage: null, onclose: null });
    this.#socket.close(1000);
  }

  #end(code, reason) {
    this.drop();
    this.#ended(code, reason);
  }
}

// Sessions as last heard of, and which warnings and ends the user is owed by them.
class Sessions {
  #byId = new Map();
  #lead;
  heardAt = -Infinity; // server time of the last snapshot

  constructor(lead) { this.#lead = lead; }

  get list() {
    return [...this.#byId.values()].map(({ isOld, ...session }) => session);
  }

  takeSnapshot(sessions, heardAt) {
    const before = this.#byId;
    this.#byId = new Map(sessions.map((session) => {
      if (session.state !== "ended") return [session.sessionId, session];
      const known = before.get(session.sessionId);
      // One that was over when we first heard of it is no news. How one ended is only in its event, which may be on its way.
      const isOld = known === undefined || known.isOld === true;
      const guess = known?.expiresAt === session.expiresAt ? "timeout" : "ended";
      return [session.sessionId, { ...session, isOld, ...(!isOld && { reason: known.reason ?? guess }) }];
    }));
    this.heardAt = Math.max(this.heardAt, heardAt);
  }

  // What the application's own server has just answered.
  takeOwn({ sessionId, expiresAt }, now) {
    const end = Date.parse(expiresAt);
    const iso = (instant) => new Date(instant).toISOString(); // as the relay writes instants
    const warnsAt = iso(Math.max(end - this.#lead, Math.min(now, end))); // of a short session at once
    this.#byId.set(sessionId, { sessionId, expiresAt: iso(end), warnsAt, state: "active" });
  }

  takeEvent({ type, sessionId, expiresAt, reason, emittedAt }) {
    const known = this.#byId.get(sessionId);
    // a replayed event is older than the snapshot before it, which may know a later deadline
    if (known && known.expiresAt !== expiresAt && Date.parse(emittedAt) < this.heardAt) return;
    const state = type === EXPIRED ? "ended" : "warned";
    this.#byId.set(sessionId, { ...known, sessionId, expiresAt, state, ...(reason && { reason }) });
  }

  // Announcements that are owed for what we know, with the server time at which each is due.
  *owed(now) {
    for (const session of this.#byId.values()) {
      const end = Date.parse(session.expiresAt);
      if (Number.isNaN(end)) continue; // an instant that we can't read is none to count down to
      if (session.state !== "ended" && !Number.isNaN(Date.parse(session.warnsAt)) && now < end) {
        yield { type: EXPIRING, session, due: Date.parse(session.warnsAt) };
      }
      if (!session.isOld) yield { type: EXPIRED, session, due: end };
    }
  }
}

export class AfterHours {
  #options; #clock = new ServerClock(); #sessions; #cursor; #seen;
  #line; #next; #isOpening = false; #retry; #failures = 0; #wasRefused = false; #helloAt = 0;
  #queue = Promise.resolve(); #timer; #asked = new Map(); #changedAt = -Infinity;
  #listening; #state = { state: "closed" }; #notBefore = 0;

  constructor(options) {
    if (typeof options.userId !== "string" || !options.userId) throw new TypeError("userId is needed: whose cursor this is");
    this.#options = { storage: globalThis.sessionStorage, WebSocket: globalThis.WebSocket, ...options };
    this.#sessions = new Sessions(options.warningLeadMs ?? 120_000);
    const { cursor, seen } = this.#load();
    this.#cursor = cursor;
    this.#seen = new Set(seen);
  }

  get state() { return this.#state; }
  get cursor() { return this.#cursor; }
  get sessions() { return this.#sessions.list; }

  // The server's time in ms since 1970, as well as we know it; never ahead of it.
  now() { return this.#clock.now(); }

  connect() {
    if (this.#listening) return;
    this.#listening = new AbortController();
    this.#failures = 0;
    this.#wasRefused = false;
    const { signal } = this.#listening;
    const look = () => {
      if (this.#line) this.#ask();
      else if (performance.now() >= this.#notBefore) this.#open();
    };
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || look(), { signal });
    globalThis.addEventListener?.("online", look, { signal });
    globalThis.addEventListener?.("offline", () => this.#ask(), { signal }); // perhaps: the answer will tell
    this.#open();
  }

  close() { this.#stop({ state: "closed" }); }

  // Call it after a change of your own, with what your server answered, if it names the session and its new end.
  sync(known) {
    if (known) this.#sessions.takeOwn(known, this.now());
    else this.#changedAt = this.now(); // what we know is out of date: nothing is announced from it
    this.#ask();
    this.#changed();
  }

  // ---- the connection

  async #open() {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    if (this.#isOpening || this.#next || !this.#listening) return;
    const { signal } = this.#listening;
    if (!this.#line) this.#tellState({ state: "connecting" });
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
    const first = { type: "auth", token, ...(this.#cursor && { after: this.#cursor }) };
    const line = this.#next = new Line(this.#options.WebSocket, this.#options.url, first,
      (frame) => this.#receive(line, frame), (code, reason) => this.#ended(line, code, reason));
  }

  #token() {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no token in time")), TOKEN_PATIENCE);
      Promise.resolve().then(this.#options.token).then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }

  #receive(line, frame) {
    this.#clock.observe(frame.serverTime ?? frame.emittedAt);
    this.#options.onFrame?.(frame);
    const { type } = frame;
    if (type === "hello") this.#adopt(line, frame);
    else if (type === "stale") this.#tellState({ ...this.#state, state: "stale", since: frame.since });
    else if (type === "live") this.#tellState({ ...this.#state, state: "live", replayed: frame.replayed });
    else if (type === "drain") this.#drained(line, frame);
    else if (type === "auth_expiring") this.#renew(line);
    if (["hello", "snapshot", "reset"].includes(type)) this.#then(() => this.#takeSnapshot(frame));
    else if (type === EXPIRING || type === EXPIRED) this.#then(() => this.#takeEvent(line, frame));
    this.#announceOwed();
  }

  #adopt(line, { start, node, tokenExpiresAt }) {
    if (this.#line !== line) this.#line?.drop();
    this.#line = line;
    this.#next = undefined;
    this.#wasRefused = false;
    this.#helloAt = performance.now();
    this.#tellState({ state: "live", start, node, tokenExpiresAt });
  }

  // The old line goes on until the new one is heard. Said again, or by a line that isn't the one we have: no reason
  // for one more.
  #drained(line, frame) {
    if (line !== this.#line || line.isDrained) return;
    line.isDrained = true;
    this.#retryIn(this.#delay(line, retryOf(frame)));
  }

  #renew(line) {
    if (line.isRenewing) return;
    line.isRenewing = true;
    this.#token().then((token) => line.send({ type: "auth", token }), () => {}).finally(() => { line.isRenewing = false; });
  }

  // How long to stay away. The relay spreads its clients itself; only if that doesn't help we keep away for longer.
  #delay(line, wanted) {
    if (line === this.#line && performance.now() - this.#helloAt > SETTLED) this.#failures = 0;
    const backOff = this.#backOff();
    if (wanted === undefined) return backOff;
    return this.#failures === 1 ? wanted : Math.max(wanted, backOff);
  }

  #ended(line, code, reason) {
    let wanted;
    try { wanted = retryOf(JSON.parse(reason)); } catch { /* it did not say: our own back-off */ }
    const delay = this.#delay(line, wanted);
    if (line === this.#line) this.#line = undefined;
    else this.#next = undefined;
    if (code === BAD_FRAME) return this.#stop({ state: "stopped", code, why: "the relay did not understand us" });
    if (code === TOKEN && this.#wasRefused) return this.#stop({ state: "stopped", code, why: "the token is not accepted" });
    this.#wasRefused = code === TOKEN;
    this.#notBefore = performance.now() + (wanted ?? 0);
    const state = code === BLOCKED ? "blocked" : "waiting";
    if (!this.#line) this.#tellState({ state, code, retryInMs: Math.round(delay) });
    if (!this.#next && !this.#isOpening) this.#retryIn(delay);
    this.#announceOwed();
  }

  #backOff() {
    this.#failures += 1;
    return 100 + Math.random() * Math.min(30_000, 250 * 2 ** this.#failures);
  }

  #retryIn(ms) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), Math.min(ms, 2 ** 31 - 1)); // a longer timer would ring at once
  }

  #stop(state) {
    this.#listening?.abort();
    this.#listening = undefined;
    for (const timer of [this.#retry, this.#timer]) clearTimeout(timer);
    for (const line of [this.#line, this.#next]) line?.drop();
    this.#line = this.#next = this.#retry = undefined;
    this.#isOpening = false;
    this.#tellState(state);
  }

  #ask() {
    this.#line?.send({ type: "sync" });
    if (this.#state.state === "live") this.#line?.expect(PATIENCE); // a relay without its database can't answer
  }

  #tellState(state) {
    this.#state = state;
    this.#options.onState?.(state);
  }

  // ---- sessions and events, one after the other: a handler that takes its time holds up the next frame, no heartbeat

  #then(step) {
    const { signal } = this.#listening;
    this.#queue = this.#queue.then(() => signal.aborted || step()).catch(globalThis.reportError ?? console.error);
  }

  #takeSnapshot({ type, start, cursor, sessions, serverTime }) {
    const heardAt = Date.parse(serverTime);
    this.#sessions.takeSnapshot(sessions, heardAt);
    if (heardAt >= this.#changedAt) this.#changedAt = -Infinity;
    // after "replayed" the missed events follow, each with its own cursor
    if (type === "reset" || (type === "hello" && start !== "replayed")) this.#save(cursor);
    this.#changed();
  }

  async #takeEvent(line, event) {
    this.#sessions.takeEvent(event);
    this.#changed();
    try {
      await this.#tell(event, event.id);
    } finally { // a handler that raises is reported; coming back to it for ever would help nobody
      this.#save(event.cursor);
      line.send({ type: "ack", cursor: event.cursor });
    }
  }

  // Tell the handler, unless it has been told: by this event (id), or by us, of this deadline.
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

  // ---- the countdown: what is owed is announced here if the relay, or the way to it, fails at the wrong moment

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

  // How long to leave it to the relay. Connected, its word counts: the deadline may have moved without our knowing.
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
    // what was said before us in the queue may have moved or ended it
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

  // ---- over reloads: the cursor and what was announced, of this tab and user, written when the handler has run

  #load() {
    try {
      return JSON.parse(this.#options.storage.getItem(storageKey(this.#options.userId))) ?? {};
    } catch {
      return {}; // no storage here, or not ours
    }
  }

  #save(cursor) {
    this.#cursor = cursor;
    this.#seen = new Set([...this.#seen].slice(-REMEMBERED));
    try {
      this.#options.storage?.setItem(storageKey(this.#options.userId), JSON.stringify({ cursor, seen: [...this.#seen] }));
    } catch { /* full or forbidden: a reload starts afresh */ }
  }
}
