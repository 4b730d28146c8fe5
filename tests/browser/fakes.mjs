// Fakes of the clock, of WebSocket and of sessionStorage; the test advances the clock and sends the frames.

export class Clock {
  time = 1_000;
  timers = new Map();
  #ids = 0;

  install() {
    globalThis.setTimeout = (run, ms = 0) => {
      this.timers.set(++this.#ids, { run, at: this.time + ms });
      return this.#ids;
    };
    globalThis.clearTimeout = (id) => this.timers.delete(id);
    Object.defineProperty(globalThis.performance, "now", { value: () => this.time, configurable: true });
  }

  async advance(ms) {
    const until = this.time + ms;
    for (;;) {
      await settle();
      const [id, next] = [...this.timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!next || next.at > until) break;
      this.timers.delete(id);
      this.time = Math.max(this.time, next.at);
      next.run();
    }
    this.time = until;
    await settle();
  }
}

async function settle() {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve));
}

export class FakeSocket {
  static all = [];
  static isReachable = true;
  static get last() { return FakeSocket.all.at(-1); }
  readyState = 0;
  sent = [];

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    FakeSocket.all.push(this);
    setImmediate(() => {
      if (this.readyState) return;
      if (!FakeSocket.isReachable) return this.fail(1006);
      this.readyState = 1;
      this.onopen?.();
    });
  }

  send(text) { this.sent.push(JSON.parse(text)); }

  close(code) { this.readyState = 3; this.closedWith ??= code; }

  say(frame) { this.sayText(JSON.stringify(frame)); }

  sayText(data) { this.onmessage?.({ data }); }

  fail(code, reason = "") { this.readyState = 3; this.onclose?.({ code, reason }); }

  types() { return this.sent.map(({ type }) => type); }
}

export class Storage {
  items = new Map();
  getItem(key) { return this.items.get(key) ?? null; }
  setItem(key, value) { this.items.set(key, value); }
}
