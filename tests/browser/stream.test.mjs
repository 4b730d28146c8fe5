// Where no WebSocket gets through: the browser client reads server-sent events, and tries a WebSocket again later.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { AfterHours, EXPIRED } from "../../clients/browser/after-hours.js";
import { Clock, FakeSocket, FakeStream, Storage } from "./fakes.mjs";

const SECOND = 1_000, MINUTE = 60_000, HOUR = 60 * MINUTE;
const EPOCH = Date.parse("2026-11-24T20:00:00.000Z") - 1_000;
let clock, told, states;
const iso = (ms) => new Date(EPOCH + ms).toISOString();

beforeEach(() => {
  (clock = new Clock()).install();
  FakeSocket.all = [];
  FakeSocket.isReachable = false;
  FakeStream.reset();
  told = []; states = [];
  Math.random = () => 0.5;
  for (const name of ["document", "addEventListener"]) delete globalThis[name];
});

function client(options = {}) {
  let tokens = 0;
  const hours = new AfterHours({
    url: "wss://relay/some/ws", userId: "ana", token: () => `token ${++tokens}`, storage: new Storage(), WebSocket: FakeSocket,
    fetch: FakeStream.fetch, onExpired: (event) => told.push(event.id), onState: (state) => states.push(state), ...options,
  });
  hours.connect();
  return hours;
}

const hello = (more = {}) => ({
  type: "hello", start: "fresh", cursor: "aaaaaaaa-10", serverTime: iso(clock.time), node: "one", tokenExpiresAt: iso(HOUR),
  sessions: [], ...more,
});
const expired = (number) => ({
  type: EXPIRED, id: `e${number}`, cursor: `aaaaaaaa-${number}`, sessionId: "s1", expiresAt: iso(clock.time), reason: "timeout",
  emittedAt: iso(clock.time),
});

async function live(options) {
  const hours = client(options);
  await clock.advance(5 * SECOND);
  FakeStream.last.say(hello());
  await clock.advance(0);
  assert.deepEqual([hours.state.state, hours.state.via], ["live", "stream"]);
  return hours;
}

test("after two WebSockets without a hello it reads a stream, with its token in a header and none in the address", async () => {
  const hours = await live();
  assert.equal(FakeSocket.all.length, 2);
  const { url, headers, credentials, cache } = FakeStream.last;
  assert.equal(url, "https://relay/some/events");
  assert.deepEqual(headers, { Authorization: "Bearer token 3", Accept: "text/event-stream" });
  assert.deepEqual([credentials, cache], ["omit", "no-store"]);
  FakeStream.last.say(expired(11));
  await clock.advance(0);
  assert.deepEqual(told, ["e11"]);
  FakeStream.last.fail();
  await clock.advance(5 * SECOND);
  assert.equal(FakeStream.last.headers["Last-Event-ID"], "aaaaaaaa-11");
  assert.equal(FakeSocket.all.length, 2, "the way that was good last is taken first");
  hours.close();
  assert.equal(FakeStream.last.isOpen, false);
});

test("a relay that closes its WebSockets with a code does let them through", async () => {
  FakeSocket.isReachable = true;
  client();
  for (const [index, code] of [1006, 1013, 1006, 4029, 4408, 1006].entries()) {
    while (FakeSocket.all.length === index) await clock.advance(SECOND);
    FakeSocket.last.fail(code);
  }
  await clock.advance(20 * SECOND);
  assert.equal(FakeSocket.all.length, 7);
  assert.equal(FakeStream.all.length, 0);
});

test("a WebSocket that opens and brings nothing is a miss", async () => {
  FakeSocket.isReachable = true;
  client();
  await clock.advance(25 * SECOND);
  assert.deepEqual([FakeSocket.all.length, FakeStream.all.length], [2, 1]);
});

test("frames may be cut anywhere, also within a character", async () => {
  const hours = await live();
  const bytes = new TextEncoder().encode(`: x\nid: a\ndata: ${JSON.stringify({ ...expired(11), id: "ä€😀" })}\n\n`);
  for (const byte of bytes) FakeStream.last.sayBytes(Uint8Array.of(byte));
  await clock.advance(0);
  assert.deepEqual(told, ["ä€😀"]);
  FakeStream.last.sayBytes(new TextEncoder().encode("data: {\n\n"));
  await clock.advance(0);
  assert.equal(hours.state.code, 1003);
});

test("how it ends says when to come back, as a close code does", async () => {
  const hours = await live();
  FakeStream.last.end(4403, 2 * HOUR);
  await clock.advance(0);
  assert.deepEqual([hours.state.state, hours.state.code], ["blocked", 4403]);
  await clock.advance(2 * HOUR - SECOND);
  assert.equal(FakeStream.all.length, 1);
  await clock.advance(2 * SECOND);
  assert.equal(FakeSocket.all.length, 3, "after so long a WebSocket is tried first");
});

for (const [status, body, code, state] of [
  [403, { error: "blocked", code: 4403, retryAfterMs: HOUR }, 4403, "blocked"],
  [429, { error: "too_many", code: 4029, retryAfterMs: 9_000 }, 4029, "waiting"],
  [503, { error: "full", retryAfterMs: 9_000 }, 1013, "waiting"],
  [503, "<h1>Service Unavailable</h1>", 1006, "waiting"],
  [200, { sessions: [] }, 1006, "waiting"], // a relay that has no streams yet
]) {
  test(`no stream: ${status} ${JSON.stringify(body)}`, async () => {
    FakeStream.refusal = [status, body];
    const hours = client();
    while (!FakeStream.all.length) await clock.advance(100);
    assert.deepEqual([hours.state.state, hours.state.code], [state, code]);
    if (body.retryAfterMs) assert.ok(hours.state.retryInMs >= body.retryAfterMs);
  });
}

test("a token that is not accepted is replaced once, then it stops", async () => {
  FakeStream.refusal = [401, { error: "token" }];
  const hours = client();
  await clock.advance(MINUTE);
  assert.equal(FakeStream.all.length, 2);
  assert.equal(hours.state.state, "stopped");
});

test("where neither gets through, it tries one after the other", async () => {
  FakeStream.isReachable = false;
  let tries = "";
  const count = (name, kind) => (...args) => { tries += name; return kind(...args); };
  client({
    WebSocket: class extends FakeSocket { constructor(...args) { super(...args); tries += "w"; } },
    fetch: count("s", FakeStream.fetch),
  });
  await clock.advance(5 * MINUTE);
  assert.match(tries, /^ww(sw){3,}s?$/);
});

test("without fetch, or with null, there are WebSockets only", async () => {
  const hours = client({ fetch: null });
  await clock.advance(5 * MINUTE);
  assert.ok(FakeSocket.all.length > 5);
  hours.close();
});

test("every ten minutes a WebSocket is tried beside the stream, which goes on until there is a hello", async () => {
  const hours = await live();
  const stream = FakeStream.last;
  const pass = async (ms) => {
    for (let left = ms; left > 0; left -= 20 * SECOND) {
      stream.say({ type: "ping", serverTime: iso(clock.time) });
      await clock.advance(Math.min(left, 20 * SECOND));
    }
  };
  await pass(10 * MINUTE);
  assert.deepEqual([FakeSocket.all.length, FakeStream.all.length, hours.state.state], [3, 1, "live"]);
  await pass(9 * MINUTE);
  assert.equal(FakeSocket.all.length, 3);
  FakeSocket.isReachable = true;
  while (FakeSocket.all.length === 3) await pass(SECOND);
  assert.deepEqual([FakeSocket.all.length, FakeStream.all.length, stream.isOpen], [4, 1, true]);
  FakeSocket.last.say(hello());
  await clock.advance(0);
  assert.deepEqual([hours.state.via, stream.isOpen], ["websocket", false]);
  FakeSocket.last.fail(1006);
  await clock.advance(9 * SECOND);
  assert.deepEqual([FakeSocket.all.length, FakeStream.all.length], [5, 1], "a WebSocket got through: it comes first again");
});

test("another network: a WebSocket comes first", async () => {
  const listeners = {};
  globalThis.addEventListener = (name, listener) => { listeners[name] = listener; };
  await live();
  FakeStream.last.fail();
  await clock.advance(0);
  listeners.online();
  await clock.advance(0);
  assert.equal(FakeSocket.all.length, 3);
});

test("sync is a question beside the stream; an answer older than an event is asked for again", async () => {
  const hours = await live();
  const sessions = [{ sessionId: "s2", expiresAt: iso(HOUR), warnsAt: iso(HOUR - 2 * MINUTE), state: "active" }];
  await clock.advance(SECOND);
  const times = [clock.time - 500, clock.time + 1];
  FakeStream.answer = () => ({ start: "fresh", cursor: "aaaaaaaa-99", serverTime: iso(times.shift()), sessions, events: [] });
  FakeStream.last.say(expired(11));
  await clock.advance(0);
  hours.sync();
  await clock.advance(10);
  assert.equal(FakeStream.asked.length, 2);
  assert.deepEqual(FakeStream.asked[0].headers, { Authorization: "Bearer token 3", Accept: "application/json" });
  assert.deepEqual(hours.sessions, sessions);
  assert.equal(hours.cursor, "aaaaaaaa-11", "the stream's place is not the answer's");
  await clock.advance(44 * SECOND);
  assert.equal(hours.state.state, "live", "the answer was one");
  FakeStream.answer = () => ({ error: "user_rate" });
  hours.sync();
  await clock.advance(11 * SECOND);
  assert.equal(states.findLast(({ state }) => state === "waiting").code, 1006, "no answer: dead, as with a WebSocket");
});

for (const about of [{ type: "auth_expiring", inSeconds: 59 }, { type: "drain", retryAfterMs: 0 }]) {
  test(`${about.type}: the old stream serves until the new one, with a new token, is greeted`, async () => {
    const hours = await live();
    const old = FakeStream.last;
    await clock.advance(11 * SECOND); // settled
    old.say(about);
    await clock.advance(20);
    assert.deepEqual([FakeStream.all.length, old.isOpen], [2, true]);
    assert.equal(FakeSocket.all.length, 2);
    assert.equal(FakeStream.last.headers.Authorization, "Bearer token 4");
    FakeStream.last.fail();
    await clock.advance(2 * SECOND);
    old.say(expired(11));
    await clock.advance(0);
    assert.deepEqual(told, ["e11"]);
    assert.equal(FakeSocket.all.length, 3, "a stream that got no hello: a WebSocket comes next");
    await clock.advance(5 * SECOND);
    FakeStream.last.say(hello());
    await clock.advance(0);
    assert.deepEqual([old.isOpen, hours.state.state], [false, "live"]);
  });
}

test("45 s of silence mean dead", async () => {
  const hours = await live();
  await clock.advance(44 * SECOND);
  assert.equal(hours.state.state, "live");
  await clock.advance(2 * SECOND);
  assert.notEqual(hours.state.state, "live");
});
