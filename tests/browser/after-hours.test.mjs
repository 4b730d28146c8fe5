// Tests of the browser client with a fake relay and a fake clock.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { AfterHours, EXPIRED, EXPIRING } from "../../clients/browser/after-hours.js";
import { Clock, FakeSocket, Storage } from "./fakes.mjs";

const SECOND = 1_000, MINUTE = 60_000, HOUR = 60 * MINUTE;
const EPOCH = Date.parse("2026-11-24T20:00:00.000Z") - 1_000; // server time when the clock shows 0
let clock, storage, told, states, tokens;
const iso = (ms) => new Date(EPOCH + ms).toISOString();

beforeEach(() => {
  (clock = new Clock()).install();
  storage = new Storage();
  FakeSocket.all = [];
  FakeSocket.isReachable = true;
  told = []; states = []; tokens = 0;
  Math.random = () => 0.5;
  for (const name of ["document", "addEventListener"]) delete globalThis[name];
});

function client(options = {}) {
  const hours = new AfterHours({
    url: "ws://relay/ws", userId: "ana", token: () => `token ${++tokens}`, storage, WebSocket: FakeSocket, fetch: null,
    onExpiring: (event) => told.push(event), onExpired: (event) => told.push(event),
    onState: ({ state }) => states.push(state), ...options,
  });
  hours.connect();
  return hours;
}

const hello = (more = {}) => ({
  type: "hello", start: "fresh", cursor: "aaaaaaaa-10", serverTime: iso(clock.time), node: "one",
  tokenExpiresAt: iso(HOUR), sessions: [], ...more,
});
const session = (deadline, state = "active") => ({
  sessionId: "s1", expiresAt: iso(deadline), warnsAt: iso(deadline - 2 * MINUTE), state,
});
const expiring = (deadline, number = 11) => ({
  type: EXPIRING, id: `w${deadline}`, cursor: `aaaaaaaa-${number}`, sessionId: "s1", expiresAt: iso(deadline),
  minutesRemaining: 2, emittedAt: iso(clock.time),
});
const expired = (deadline, reason = "timeout", number = 12) => ({
  type: EXPIRED, id: `e${deadline}`, cursor: `aaaaaaaa-${number}`, sessionId: "s1", expiresAt: iso(deadline),
  reason, emittedAt: iso(clock.time),
});
const kinds = () => told.map(({ type, isLocal }) => `${isLocal ? "local " : ""}${type.split("_").at(-1)}`);

async function live(options, greeting) {
  const hours = client(options);
  await clock.advance(10);
  FakeSocket.last.say(hello(greeting));
  await clock.advance(0);
  return hours;
}

test("the token is sent in the first frame, not in the address, and the subprotocol is offered", async () => {
  await live();
  assert.equal(FakeSocket.last.url, "ws://relay/ws");
  assert.deepEqual(FakeSocket.last.protocols, ["after-hours.v1"]);
  assert.deepEqual(FakeSocket.last.sent, [{ type: "auth", token: "token 1" }]);
  assert.deepEqual(states, ["connecting", "live"]);
});

test("the cursor is written when the handler has run, and presented after a reload", async () => {
  let finish;
  const hours = await live({ onExpired: () => new Promise((resolve) => { finish = resolve; }) });
  FakeSocket.last.say(expired(MINUTE));
  await clock.advance(SECOND);
  assert.match(storage.getItem("after-hours:ana"), /aaaaaaaa-10/);
  assert.equal(FakeSocket.last.types().includes("ack"), false);
  finish();
  await clock.advance(0);
  assert.match(storage.getItem("after-hours:ana"), /aaaaaaaa-12/);
  assert.deepEqual(FakeSocket.last.sent.at(-1), { type: "ack", cursor: "aaaaaaaa-12" });
  hours.close();

  client();
  await clock.advance(10);
  assert.equal(FakeSocket.last.sent[0].after, "aaaaaaaa-12");
  FakeSocket.last.say(hello({ start: "replayed", cursor: "aaaaaaaa-12" }));
  FakeSocket.last.say(expired(MINUTE)); // the same event once more, under another cursor
  await clock.advance(0);
  assert.deepEqual(told, []);
});

test("each user of a tab has a cursor of its own", async () => {
  (await live()).close();
  client({ userId: "ben" });
  await clock.advance(10);
  assert.equal(FakeSocket.last.sent[0].after, undefined);
});

test("a handler that raises is reported, and the next events are handled", async (t) => {
  const report = t.mock.method(console, "error", () => {});
  await live({ onExpiring: () => { throw new Error("mine"); } });
  FakeSocket.last.say(expiring(3 * MINUTE));
  FakeSocket.last.say(expired(4 * MINUTE));
  await clock.advance(0);
  assert.deepEqual(kinds(), ["expired"]);
  assert.equal(report.mock.callCount(), 1);
  assert.deepEqual(FakeSocket.last.types(), ["auth", "ack", "ack"]);
});

test("an event received twice is passed on once and acknowledged twice", async () => {
  await live();
  for (const number of [11, 12]) FakeSocket.last.say({ ...expiring(3 * MINUTE), cursor: `aaaaaaaa-${number}` });
  await clock.advance(0);
  assert.deepEqual(kinds(), ["expiring"]);
  assert.equal(FakeSocket.last.sent.at(-1).cursor, "aaaaaaaa-12");
});

test("without a network the client raises the warning and then the end itself", async () => {
  await live({}, { sessions: [session(5 * MINUTE)] });
  FakeSocket.isReachable = false;
  FakeSocket.last.fail(1006);
  await clock.advance(3 * MINUTE - clock.time - 1);
  assert.deepEqual(kinds(), []);
  await clock.advance(2);
  assert.deepEqual(kinds(), ["local expiring"]);
  assert.equal(told[0].minutesRemaining, 2);
  await clock.advance(2 * MINUTE);
  assert.deepEqual(kinds(), ["local expiring", "local expired"]);
  assert.equal(told[1].reason, "timeout");
});

test("a local warning and the relay's event for the same deadline are passed on once, also after a reload", async () => {
  const hours = await live({}, { sessions: [session(5 * MINUTE)] });
  FakeSocket.isReachable = false;
  FakeSocket.last.fail(1006);
  await clock.advance(3 * MINUTE);
  hours.close();
  FakeSocket.isReachable = true;
  await live({}, { start: "replayed", sessions: [session(5 * MINUTE, "warned")] });
  FakeSocket.last.say(expiring(5 * MINUTE));
  await clock.advance(10 * SECOND);
  assert.deepEqual(kinds(), ["local expiring"]);
});

test("while connected the client syncs before a local warning; an extension made elsewhere prevents it", async () => {
  await live({}, { sessions: [session(5 * MINUTE)] });
  const ping = setPing();
  await clock.advance(3 * MINUTE - clock.time + 1_400);
  assert.deepEqual(FakeSocket.last.types(), ["auth"], "the client first waits for the relay's own event");
  await clock.advance(200);
  assert.deepEqual(FakeSocket.last.types(), ["auth", "sync"]);
  FakeSocket.last.say({ ...hello({ sessions: [session(10 * MINUTE)] }), type: "snapshot" });
  await clock.advance(2 * MINUTE);
  assert.deepEqual(kinds(), []);
  ping.stop();
});

test("connected to a relay that announces nothing, local events follow its confirmation or its silence", async () => {
  await live({}, { sessions: [session(5 * MINUTE)] });
  const ping = setPing();
  await clock.advance(3 * MINUTE - clock.time + 1_600);
  FakeSocket.last.say({ ...hello({ sessions: [session(5 * MINUTE)] }), type: "snapshot" });
  await clock.advance(2 * SECOND);
  assert.deepEqual(kinds(), ["local expiring"]);
  await clock.advance(2 * MINUTE + 5 * SECOND);
  assert.deepEqual(kinds(), ["local expiring", "local expired"]);
  ping.stop();
});

test("an end from the relay or a session missing from the snapshot cancels the local events", async () => {
  await live({}, { sessions: [session(5 * MINUTE), { ...session(6 * MINUTE), sessionId: "s2" }] });
  FakeSocket.last.say(expired(MINUTE, "ended"));
  FakeSocket.last.say({ ...hello({ sessions: [{ sessionId: "s1", expiresAt: iso(MINUTE), state: "ended" }] }), type: "snapshot" });
  await clock.advance(0);
  FakeSocket.isReachable = false;
  FakeSocket.last.fail(1006);
  await clock.advance(10 * MINUTE);
  assert.deepEqual(kinds(), ["expired"]);
});

test("after sync() no local event is raised from sessions known before", async () => {
  const hours = await live({}, { sessions: [session(5 * MINUTE)] });
  hours.sync();
  FakeSocket.isReachable = false;
  FakeSocket.last.fail(1006);
  await clock.advance(4 * MINUTE);
  assert.deepEqual(kinds(), []);
  FakeSocket.isReachable = true;
  await clock.advance(MINUTE);
  FakeSocket.last.say(hello({ start: "replayed", sessions: [session(10 * MINUTE)] }));
  FakeSocket.isReachable = false;
  await clock.advance(0);
  FakeSocket.last.fail(1006);
  await clock.advance(8 * MINUTE - clock.time + 10);
  assert.deepEqual(kinds(), ["local expiring"]);
  assert.equal(told[0].expiresAt, iso(10 * MINUTE));
});

test("a session passed to sync() is counted down at once, with or without a network", async () => {
  const hours = await live({}, { sessions: [session(5 * MINUTE)] });
  FakeSocket.isReachable = false;
  FakeSocket.last.fail(1006);
  hours.sync({ sessionId: "s1", expiresAt: iso(7 * MINUTE).replace("Z", "123+00:00") });
  await clock.advance(5 * MINUTE - clock.time - 1);
  assert.deepEqual(kinds(), []);
  await clock.advance(2);
  assert.deepEqual(told.map(({ expiresAt }) => expiresAt), [iso(7 * MINUTE)]);
});

test("a replayed end of an earlier deadline leaves an extended session active", async () => {
  (await live()).close();
  const hours = await live({}, { start: "replayed", sessions: [session(9 * MINUTE)] });
  FakeSocket.last.say({ ...expired(-MINUTE), emittedAt: iso(-MINUTE) });
  await clock.advance(0);
  assert.deepEqual(kinds(), ["expired"], "the event is passed on");
  assert.deepEqual(hours.sessions.map(({ expiresAt, state }) => [expiresAt, state]), [[iso(9 * MINUTE), "active"]]);
});

test("a page opened in the last two minutes warns at once and does not report an end of an hour ago", async () => {
  await live({}, { sessions: [session(90 * SECOND, "warned"), { ...session(-HOUR, "ended"), sessionId: "old" }] });
  await clock.advance(2 * SECOND);
  assert.deepEqual(kinds(), ["local expiring"]);
});

test("the smallest clock offset is used: a delayed frame does not change it", async () => {
  const hours = await live();
  const truth = () => EPOCH + clock.time;
  await clock.advance(5 * SECOND);
  FakeSocket.last.say({ type: "ping", serverTime: iso(clock.time - 4 * SECOND) });
  assert.equal(hours.now(), truth());
});

test("after 45 s of silence the client reconnects, even if the socket is open", async () => {
  await live();
  await clock.advance(44 * SECOND);
  FakeSocket.last.say({ type: "ping", serverTime: iso(clock.time) });
  await clock.advance(44 * SECOND);
  assert.equal(FakeSocket.all.length, 1);
  await clock.advance(2 * SECOND);
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(FakeSocket.all[0].onmessage, null);
});

test("on becoming visible the client syncs, and reconnects without an answer within 10 s", async () => {
  globalThis.document = Object.assign(new EventTarget(), { hidden: false });
  await live();
  globalThis.document.dispatchEvent(new Event("visibilitychange"));
  assert.deepEqual(FakeSocket.last.types(), ["auth", "sync"]);
  await clock.advance(11 * SECOND);
  assert.equal(FakeSocket.all.length, 2);
});

test("the client reconnects after retryAfterMs, and without it after growing waits", async () => {
  await live();
  FakeSocket.last.fail(1012, '{"retryAfterMs":7000}');
  await clock.advance(6_900);
  assert.equal(FakeSocket.all.length, 1);
  await clock.advance(200);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.isReachable = false;
  FakeSocket.last.fail(1006);
  const waits = [];
  for (let seen = clock.time; waits.length < 8;) {
    const count = FakeSocket.all.length;
    while (FakeSocket.all.length === count) await clock.advance(50);
    waits.push(clock.time - seen);
    seen = clock.time;
  }
  assert.ok(waits.every((wait, i) => i === 0 || wait >= waits[i - 1]), String(waits));
  assert.ok(waits.at(-1) <= 16 * SECOND, String(waits));
});

for (const code of [1001, 1006, 1011, 1012, 1013, 4000, 4008, 4029, 4408]) {
  test(`the client reconnects after ${code}`, async () => {
    await live();
    FakeSocket.last.fail(code);
    await clock.advance(2 * SECOND);
    assert.equal(FakeSocket.all.length, 2);
  });
}

test("4400 stops the client and sets its state", async () => {
  const hours = await live();
  FakeSocket.last.fail(4400, '{"retryAfterMs":0}');
  await clock.advance(HOUR);
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(hours.state.state, "stopped");
});

test("4401 is answered with one new token, a second 4401 stops the client", async () => {
  const hours = await live();
  FakeSocket.last.fail(4401, '{"retryAfterMs":0}');
  await clock.advance(SECOND);
  assert.equal(FakeSocket.last.sent[0].token, "token 2");
  FakeSocket.last.fail(4401, '{"retryAfterMs":0}');
  await clock.advance(HOUR);
  assert.equal(FakeSocket.all.length, 2);
  assert.deepEqual([hours.state.state, hours.state.code], ["stopped", 4401]);
});

test("a stopped client can be connected again and has two attempts again", async () => {
  const hours = await live();
  for (let i = 0; i < 2; i++) {
    FakeSocket.last.fail(4401, '{"retryAfterMs":0}');
    await clock.advance(SECOND);
  }
  assert.equal(hours.state.state, "stopped");
  hours.connect();
  await clock.advance(10);
  FakeSocket.last.fail(4401, '{"retryAfterMs":0}');
  await clock.advance(SECOND);
  assert.equal(FakeSocket.all.length, 4);
  FakeSocket.last.say(hello());
  assert.equal(hours.state.state, "live");
});

test("an event received but not handled before close() leaves the stored cursor unchanged", async () => {
  const hours = await live();
  FakeSocket.last.say(expired(MINUTE));
  hours.close();
  await clock.advance(0);
  assert.deepEqual(told, []);
  assert.match(storage.getItem("after-hours:ana"), /aaaaaaaa-10/);
});

test("4403 delays the reconnect until the block ends, even when the page becomes visible", async () => {
  globalThis.document = Object.assign(new EventTarget(), { hidden: false });
  const hours = await live();
  FakeSocket.last.fail(4403, JSON.stringify({ retryAfterMs: HOUR }));
  assert.equal(hours.state.state, "blocked");
  await clock.advance(HOUR / 2);
  globalThis.document.dispatchEvent(new Event("visibilitychange"));
  await clock.advance(HOUR / 2 - 100);
  assert.equal(FakeSocket.all.length, 1);
  await clock.advance(200);
  assert.equal(FakeSocket.all.length, 2);
});

test("an expiring token is replaced on the same connection", async () => {
  await live();
  FakeSocket.last.say({ type: "auth_expiring", inSeconds: 60 });
  await clock.advance(0);
  assert.deepEqual(FakeSocket.last.sent.at(-1), { type: "auth", token: "token 2" });
  assert.equal(FakeSocket.all.length, 1);
});

test("a token callback that fails is called again", async () => {
  let isDown = true;
  client({ token: () => { if (isDown) throw new Error("down"); return "late"; } });
  await clock.advance(3 * SECOND);
  assert.equal(FakeSocket.all.length, 0);
  isDown = false;
  await clock.advance(30 * SECOND);
  assert.equal(FakeSocket.all[0].sent[0].token, "late");
});

test("after drain the old connection is used until the new one has received hello", async () => {
  await live();
  const old = FakeSocket.last;
  old.say({ type: "drain", retryAfterMs: 300 });
  await clock.advance(400);
  const next = FakeSocket.last;
  assert.notEqual(next, old);
  old.say(expiring(3 * MINUTE));
  await clock.advance(0);
  assert.deepEqual(kinds(), ["expiring"]);
  assert.equal(old.closedWith, undefined);
  next.say(hello({ start: "replayed", node: "two" }));
  next.say(expiring(3 * MINUTE));
  await clock.advance(0);
  assert.equal(old.closedWith, 1000);
  assert.deepEqual(kinds(), ["expiring"]);
  assert.deepEqual(new Set(states), new Set(["connecting", "live"]));
});

test("after drain without another relay the client keeps trying, also after the old connection has closed", async () => {
  await live();
  await clock.advance(20 * SECOND);
  const old = FakeSocket.last;
  FakeSocket.isReachable = false;
  old.say({ type: "drain", retryAfterMs: 100 });
  await clock.advance(8 * SECOND); // by now the back-off is long …
  old.fail(4000, '{"retryAfterMs":100}'); // … but the close frame names a short wait
  FakeSocket.isReachable = true;
  await clock.advance(SECOND);
  assert.equal(FakeSocket.last.readyState, 1);
  assert.equal(FakeSocket.all.filter(({ readyState }) => readyState === 1).length, 1);
});

test("stale and live change the state; unknown frames are ignored", async () => {
  const hours = await live();
  FakeSocket.last.say({ type: "stale", since: iso(clock.time) });
  assert.equal(hours.state.state, "stale");
  FakeSocket.last.say({ type: "live", replayed: 3 });
  assert.deepEqual([hours.state.state, hours.state.replayed], ["live", 3]);
  FakeSocket.last.say({ type: "weather", is: "fine" });
  FakeSocket.last.say({ type: "after_hours:session_dreamt", id: "x", cursor: "aaaaaaaa-99" });
  assert.equal(hours.state.state, "live");
});

test("a closed client opens no connection and raises no event", async () => {
  const hours = await live({}, { sessions: [session(5 * MINUTE)] });
  hours.close();
  await clock.advance(HOUR);
  assert.equal(FakeSocket.last.closedWith, 1000);
  assert.deepEqual([FakeSocket.all.length, told.length, clock.timers.size], [1, 0, 0]);
});

// ---- invalid frames and endless closes

const opened = () => FakeSocket.all.length;

for (const [name, data] of Object.entries({
  "no JSON": "nonsense", "a NaN": '{"type":"drain","retryAfterMs":NaN}', "no object": "[]", null: "null",
  "no type": "{}", "type no text": '{"type":7}', deep: "[".repeat(100_000), binary: new Blob(["x"]),
  "hello without a cursor": '{"type":"hello","start":"fresh","serverTime":"2026-11-24T20:00:00.000Z","sessions":[]}',
  "hello without sessions": '{"type":"hello","start":"fresh","cursor":"c","serverTime":"2026-11-24T20:00:00.000Z"}',
  "hello with odd sessions": JSON.stringify({ ...hello0(), sessions: [null] }),
  "hello without a clock": JSON.stringify({ ...hello0(), serverTime: "soon" }),
  "event without an id": JSON.stringify({ type: EXPIRED, cursor: "c", sessionId: "s", expiresAt: iso0() }),
})) {
  for (const when of ["first", "later"]) {
    test(`an invalid frame (${name}), ${when}: the connection is closed and the next one works`, async () => {
      const hours = client();
      await clock.advance(10);
      if (when === "later") FakeSocket.last.say(hello());
      const bad = FakeSocket.last;
      bad.sayText(data);
      assert.equal(bad.closedWith, 1000);
      assert.equal(hours.state.state, "waiting");
      await clock.advance(5 * SECOND);
      assert.equal(opened(), 2);
      FakeSocket.last.say(hello());
      FakeSocket.last.say(expired(MINUTE));
      await clock.advance(0);
      assert.deepEqual(kinds(), ["expired"]);
    });
  }
}

function hello0() {
  return { type: "hello", start: "fresh", cursor: "c", serverTime: iso0(), node: "n", sessions: [] };
}
function iso0() { return "2026-11-24T20:00:00.000Z"; }

test("a hello without node is accepted, and an unreadable instant starts no timer", async () => {
  const hours = client();
  await clock.advance(10);
  const { node, ...greeting } = hello({ sessions: [
    { sessionId: "s1", expiresAt: "infinity", warnsAt: "infinity", state: "active" },
    { sessionId: "s2", expiresAt: iso(HOUR), warnsAt: "+", state: "active" },
  ] });
  FakeSocket.last.say(greeting);
  await clock.advance(10);
  assert.equal(hours.state.state, "live");
  const { stop } = setPing();
  await clock.advance(10 * MINUTE);
  stop();
  assert.deepEqual(told, []);
  assert.deepEqual(FakeSocket.last.types(), ["auth"]);
});

for (const retryAfterMs of [-1e6, 0, "soon", null, undefined]) {
  for (const greets of [true, false]) {
    test(`repeated drain frames (${retryAfterMs}) ${greets ? "after" : "without"} a hello open at most 8 connections`, async () => {
      const hours = client();
      let heard;
      for (let i = 0; i < 400; i++) { // 4 s
        await clock.advance(10);
        if (FakeSocket.last.readyState !== 1) continue;
        if (greets && heard !== FakeSocket.last) FakeSocket.last.say(hello());
        heard = FakeSocket.last;
        for (let j = 0; j < 50; j++) heard.say({ type: "drain", retryAfterMs });
        assert.ok(FakeSocket.all.filter(({ readyState }) => readyState === 1).length <= 2);
      }
      assert.ok(opened() >= 1 && opened() <= 8, `${opened()} connections`);
      hours.close();
    });
  }
}

for (const reason of ["-1e6", "0", "NaN", "null", "[]", '"5"', "-1e999"]) {
  test(`connections closed at once, retryAfterMs ${reason}: the client backs off`, async () => {
    client();
    for (let i = 0; i < 400; i++) {
      await clock.advance(10);
      if (FakeSocket.last.readyState === 1) FakeSocket.last.fail(1013, `{"retryAfterMs":${reason}}`);
    }
    assert.ok(opened() >= 2 && opened() <= 8, `${opened()} connections`);
  });
}

test("a wait longer than a day is cut to a day", async () => {
  await live();
  FakeSocket.last.fail(4403, '{"retryAfterMs":1e300}');
  await clock.advance(23 * HOUR);
  assert.equal(opened(), 1);
  await clock.advance(HOUR + 5 * SECOND);
  assert.equal(opened(), 2);
});

test("a connection without a hello is closed and replaced", async () => {
  client();
  await clock.advance(10);
  const first = FakeSocket.last;
  for (let i = 0; i < 12; i++) {
    first.say({ type: "ping", serverTime: iso(clock.time) });
    await clock.advance(SECOND);
  }
  assert.equal(first.closedWith, 1000);
  assert.ok(opened() > 1);
});

test("repeated auth_expiring frames request one token at a time", async () => {
  let finish;
  let asked = 0;
  await live({ token: () => (asked++ ? new Promise((resolve) => { finish = resolve; }) : "token 1") });
  for (let i = 0; i < 50; i++) FakeSocket.last.say({ type: "auth_expiring", inSeconds: 10 });
  await clock.advance(10);
  assert.equal(asked, 2);
  finish("token 2");
  await clock.advance(10);
  assert.deepEqual(FakeSocket.last.sent.at(-1), { type: "auth", token: "token 2" });
  FakeSocket.last.say({ type: "auth_expiring", inSeconds: 10 });
  await clock.advance(10);
  assert.equal(asked, 3);
});

test("records of late deadlines are removed once these are announced", async (t) => {
  const maps = [];
  const PlainMap = globalThis.Map;
  globalThis.Map = class extends PlainMap {
    constructor(...given) { super(...given); maps.push(this); }
  };
  t.after(() => { globalThis.Map = PlainMap; });
  await live();
  for (let i = 0; i < 30; i++) {
    const deadline = clock.time + 10 * SECOND;
    const known = { ...session(deadline), sessionId: `s${i}` };
    FakeSocket.last.say({ ...hello(), type: "snapshot", sessions: [known] });
    await clock.advance(12 * SECOND); // late: the client has sent sync
    FakeSocket.last.say({ ...expired(deadline), sessionId: known.sessionId, id: `e${i}` });
    await clock.advance(0);
  }
  assert.equal(FakeSocket.last.types().filter((type) => type === "sync").length, 30);
  assert.ok(Math.max(...maps.map(({ size }) => size)) <= 2, maps.map(({ size }) => size).join(" "));
});

test("a missing userId is an error: two users of a tab would share a cursor", () => {
  for (const userId of [undefined, null, "", 7]) {
    assert.throws(() => new AfterHours({ url: "ws://relay/ws", userId, token: () => "t" }), /userId/);
  }
});

// Sends the relay's ping every 20 s of fake time, until stopped.
function setPing() {
  let isOn = true;
  const beat = () => {
    if (!isOn) return;
    FakeSocket.last.say({ type: "ping", serverTime: iso(clock.time) });
    setTimeout(beat, 20 * SECOND);
  };
  beat();
  return { stop: () => { isOn = false; } };
}

test("after a sleep the connection is dead at the first look: no timer has to run out, no question to stay without answer", async () => {
  const listeners = {};
  globalThis.document = { hidden: false, addEventListener: (name, listener) => { listeners[name] = listener; } };
  const hours = await live();
  await clock.advance(30 * SECOND);
  clock.sleep(10 * MINUTE);
  listeners.visibilitychange();
  assert.equal(hours.state.code, 1006);
  await clock.advance(2 * SECOND);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.say(hello({ start: "replayed" }));
  await clock.advance(5 * SECOND);
  listeners.visibilitychange();
  assert.deepEqual([hours.state.state, FakeSocket.last.types().at(-1)], ["live", "sync"], "a short look away is no sleep");
});

test("after a sleep of which no event tells it comes back within 15 s", async () => {
  const hours = await live();
  await clock.advance(5 * SECOND);
  clock.sleep(10 * MINUTE);
  await clock.advance(16 * SECOND);
  assert.ok(states.includes("waiting"));
  assert.equal(FakeSocket.all.length, 2);
  hours.close();
  assert.equal(clock.timers.size, 0);
});

test("five days on one connection, a session every ten minutes: nothing grows, and nothing is told again", async () => {
  const hours = await live();
  let count = 0;
  for (let number = 0; number < 5 * 144; number++) {
    for (const type of [EXPIRING, EXPIRED]) {
      FakeSocket.last.say({
        type, id: `${type}${number}`, cursor: `aaaaaaaa-${++count}`, sessionId: `s${number}`, expiresAt: iso(clock.time + (type === EXPIRING)),
        reason: "timeout", emittedAt: iso(clock.time),
      });
      await clock.advance(2);
    }
    for (let ping = 0; ping < 15; ping++) {
      await clock.advance(40 * SECOND);
      FakeSocket.last.say({ type: "ping", serverTime: iso(clock.time) });
    }
    FakeSocket.last.sent.length = 0;
  }
  assert.equal(told.length, 2 * 5 * 144);
  assert.ok(hours.sessions.length <= 145, `${hours.sessions.length} sessions`);
  assert.ok(clock.timers.size <= 3, `${clock.timers.size} timers`);
  assert.ok(storage.getItem("after-hours:ana").length < 100_000);
  assert.equal(FakeSocket.all.length, 1);
});
