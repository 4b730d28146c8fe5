// Simulation for the random runs: one user's sessions, their announcements, a relay with an event log, a network with faults.
import { EXPIRED, EXPIRING } from "../../clients/browser/after-hours.js";

const EPOCH = Date.parse("2026-11-24T20:00:00.000Z");
const LEAD = 120_000;
export const iso = (time) => new Date(EPOCH + time).toISOString();

export class World {
  sessions = new Map(); // id -> { deadline, warnedFor, expiredFor, startedAt, isOver }
  log = [];
  lines = new Set();
  isReachable = true;
  areSocketsBlocked = false;
  isAnnouncing = true;

  constructor(clock) { this.clock = clock; }

  start(length) {
    const id = `s${this.sessions.size}`;
    this.sessions.set(id, { id, startedAt: this.clock.time, deadline: this.clock.time + length });
    return this.known(id);
  }

  extend(id, by) {
    const session = this.sessions.get(id);
    Object.assign(session, { deadline: session.deadline + by, movedAt: this.clock.time });
    return this.known(id);
  }

  end(id) { Object.assign(this.sessions.get(id), { deadline: this.clock.time, movedAt: this.clock.time, isOver: true }); }

  known(id) { return { sessionId: id, expiresAt: iso(this.sessions.get(id).deadline) }; }

  get running() { return [...this.sessions.values()].filter(({ deadline }) => deadline > this.clock.time + 10); }

  // One announce pass: writes an event for each session that is due and not yet announced for its deadline.
  announce() {
    if (!this.isAnnouncing) return;
    const now = this.clock.time;
    for (const session of this.sessions.values()) {
      const { id, deadline, startedAt, warnedFor, expiredFor, isOver } = session;
      if (deadline <= now && expiredFor !== deadline) {
        session.expiredFor = deadline;
        this.#write(EXPIRED, id, deadline, { reason: isOver ? "ended" : "timeout" });
      } else if (deadline > now && !isOver && Math.max(deadline - LEAD, startedAt) <= now && warnedFor !== deadline) {
        session.warnedFor = deadline;
        this.#write(EXPIRING, id, deadline, { minutesRemaining: Math.ceil((deadline - now) / 60_000) });
      }
    }
  }

  #write(type, sessionId, deadline, about) {
    const event = {
      type, id: `${type} ${sessionId} ${deadline}`, cursor: `aaaaaaaa-${this.log.length + 1}`, sessionId,
      expiresAt: iso(deadline), ...about, emittedAt: iso(this.clock.time),
    };
    this.log.push({ event, deadline });
    for (const line of this.lines) line.receive(event);
  }

  snapshot(type, after) {
    const sessions = [...this.sessions.values()].map(({ id, deadline, startedAt, warnedFor, isOver }) => ({
      sessionId: id, expiresAt: iso(deadline), ...(!isOver && { warnsAt: iso(Math.max(deadline - LEAD, startedAt)) }),
      state: deadline <= this.clock.time ? "ended" : warnedFor === deadline ? "warned" : "active",
    }));
    return {
      type, start: after ? "replayed" : "fresh", cursor: after ?? `aaaaaaaa-${this.log.length}`, sessions,
      serverTime: iso(this.clock.time), node: "n", tokenExpiresAt: iso(9e9),
    };
  }

  // The events after a cursor, without warnings that are out of date.
  missed(after) {
    return this.log.slice(Number(after.split("-")[1])).map(({ event }) => event).filter(({ type, sessionId, expiresAt }) => {
      const { deadline } = this.sessions.get(sessionId);
      return type === EXPIRED || (deadline > this.clock.time && iso(deadline) === expiresAt);
    });
  }

  ping() { for (const line of this.lines) line.receive({ type: "ping", serverTime: iso(this.clock.time) }); }

  // The fetch of the simulation: a stream of events, or one answer.
  fetch = async (_url, { headers, signal }) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (!this.isReachable) throw new TypeError("fetch failed");
    if (headers.Accept === "application/json") return Response.json({ ...this.snapshot("snapshot"), events: [] });
    const line = { receive: () => {}, cut: () => {} };
    const body = new ReadableStream({
      start: (controller) => {
        line.receive = (frame) => {
          if (line.isHole || !this.isReachable) return;
          const bytes = new TextEncoder().encode(`id: ${frame.cursor}\ndata: ${JSON.stringify(frame)}\n\n`);
          setTimeout(() => this.lines.has(line) && controller.enqueue(bytes), 10);
        };
        line.cut = () => {
          if (this.lines.delete(line)) setTimeout(() => controller.error(new TypeError("network error")), 1);
        };
        signal.addEventListener("abort", line.cut);
      },
    });
    const after = headers["Last-Event-ID"];
    this.lines.add(line);
    line.receive(this.snapshot("hello", after));
    if (after) for (const event of this.missed(after)) line.receive(event);
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };

  // The WebSocket class of the simulation; frames arrive in order, after some milliseconds.
  socketClass() {
    const world = this;
    return class {
      readyState = 0;
      constructor() {
        setTimeout(() => {
          if (this.readyState) return;
          if (!world.isReachable || world.areSocketsBlocked) return this.#gone(1006);
          this.readyState = 1;
          this.onopen?.();
        }, 5);
      }

      send(text) {
        const message = JSON.parse(text);
        setTimeout(() => {
          if (this.readyState !== 1 || this.isHole || !world.isReachable) return;
          if (message.type === "auth") {
            world.lines.add(this);
            this.receive(world.snapshot("hello", message.after));
            if (message.after) for (const event of world.missed(message.after)) this.receive(event);
          } else if (message.type === "sync") this.receive(world.snapshot("snapshot", `aaaaaaaa-${world.log.length}`));
        }, 5);
      }

      receive(frame) {
        if (this.isHole || !world.isReachable) return;
        const data = JSON.stringify(frame);
        setTimeout(() => this.onmessage?.({ data }), 10);
      }

      close() { this.readyState = 3; world.lines.delete(this); }

      cut(code) { setTimeout(() => this.#gone(code), 1); }

      #gone(code) {
        world.lines.delete(this);
        this.readyState = 3;
        this.onclose?.({ code, reason: "" });
      }
    };
  }
}
