// Random runs over a simulated night: each warning and end is passed on exactly once, and only if it is true.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AfterHours, EXPIRING } from "../../clients/browser/after-hours.js";
import { Clock, Storage } from "./fakes.mjs";
import { World, iso } from "./simulation.mjs";

const NIGHTS = Number(process.env.NIGHTS ?? 25);
const SECOND = 1_000, MINUTE = 60_000;
const ways = new Set(); // in which events came

// Reproducible random numbers (mulberry32); a failure names its seed.
function makeRandom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

async function night(seed, hasFaults) {
  const random = makeRandom(seed), pick = (list) => list[Math.floor(random() * list.length)];
  const clock = new Clock(), storage = new Storage();
  clock.install();
  Math.random = random;
  const world = new World(clock), told = [], faults = [], WebSocket = world.socketClass();
  let hours;

  const tell = (event) => {
    const { sessionId, expiresAt, type, isLocal } = event;
    const session = world.sessions.get(sessionId);
    told.push(`${type} ${sessionId} ${expiresAt}`);
    const fault = (isOne, what) => isOne && faults.push(`${what}: ${told.at(-1)}`); // the client would only log an exception
    const isCurrent = iso(session.deadline) === expiresAt;
    // A change during the request for a snapshot is unknown to the client: BEHIND and the transmission, 600 ms.
    if (isLocal) fault(!isCurrent && clock.time - session.movedAt > 600, "a local event for a deadline that has moved");
    if (type === EXPIRING) {
      fault(isCurrent && Math.max(session.deadline - 2 * MINUTE, session.startedAt) > clock.time, "a warning that is early");
      fault(isLocal && session.isOver, "a warning for a session that has been ended");
    } else fault(expiresAt > iso(clock.time), "an end that is early");
  };
  const open = () => {
    hours = new AfterHours({
      url: "ws://relay/ws", userId: "ana", token: () => "t", storage, WebSocket, fetch: world.fetch,
      onExpiring: tell, onExpired: tell, onState: ({ via }) => via && ways.add(via),
    });
    hours.connect();
  };

  const own = [
    () => hours.sync(world.start(pick([20, 90, 150, 400]) * SECOND)),
    () => world.running.length && hours.sync(world.extend(pick(world.running).id, pick([30, 200]) * SECOND)),
    () => { if (world.running.length) { world.end(pick(world.running).id); hours.sync(); } },
  ];
  const elsewhere = [ // on another device: this client is not informed
    () => world.start(pick([150, 400]) * SECOND),
    () => world.running.length && world.extend(pick(world.running).id, 60 * SECOND),
  ];
  const networkFaults = [
    () => { world.isReachable = false; for (const line of world.lines) line.cut(1006); },
    () => { for (const line of world.lines) line.isHole = true; },
    () => { world.isReachable = true; },
    () => { for (const line of world.lines) line.cut(1012); },
    () => { for (const line of world.lines) line.receive({ type: "drain", retryAfterMs: 500 }); },
    () => { world.isAnnouncing = !world.isAnnouncing; },
    () => { // another network: its proxy lets no WebSocket through, or does again
      world.areSocketsBlocked = !world.areSocketsBlocked;
      for (const line of world.lines) line.cut(1006);
    },
    () => { hours.close(); open(); },
  ];
  const actions = [...own, ...own, ...(hasFaults ? networkFaults : elsewhere)];

  const loop = () => { world.announce(); setTimeout(loop, 400); };
  const pings = () => { world.ping(); setTimeout(pings, 20 * SECOND); };
  loop();
  pings();
  open();
  await clock.advance(SECOND);
  for (let i = 0; i < 25; i++) {
    pick(actions)();
    await clock.advance(random() * 60 * SECOND);
  }
  world.isReachable = world.isAnnouncing = true;
  await clock.advance(20 * MINUTE);

  assert.deepEqual(faults, []);
  assert.equal(new Set(told).size, told.length, "passed on twice");
  // A warning announced during an outage is not passed on once it is out of date.
  const owed = world.log.filter(({ event, deadline }) =>
    event.type !== EXPIRING || !hasFaults || deadline > clock.time).map(({ event }) => event);
  for (const { type, sessionId, expiresAt } of owed) {
    assert.ok(told.includes(`${type} ${sessionId} ${expiresAt}`), `not passed on: ${type} ${sessionId} ${expiresAt}`);
  }
  assert.equal(hours.state.state, "live");
  hours.close();
}

for (const hasFaults of [false, true]) {
  test(`${NIGHTS} random nights with ${hasFaults ? "network faults" : "changes on another device"}: each event exactly once`, async () => {
    for (let seed = 1; seed <= NIGHTS; seed++) {
      await night(seed, hasFaults).catch((error) => {
        error.message = `night ${seed}: ${error.message}`;
        throw error;
      });
    }
    assert.equal(ways.has("stream"), hasFaults);
  });
}
