// Fakes of the clock, of WebSocket and of sessionStorage; the test advances the clock and sends the frames.

export class Clock {
  time = 1_000;
  timers = new Map();
  #ids = 0;
  #slept = 0;

  install() {
    globalThis.setTimeout = (run, ms = 0) => {
      this.timers.set(++this.#ids, { run, at: this.time + ms });
      return this.#ids;
    };
    globalThis.clearTimeout = (id) => this.timers.delete(id);
    Object.defineProperty(globalThis.performance, "now", { value: () => this.time, configurable: true });
    Date.now = () => Date.UTC(2026, 10, 24) + this.time + this.#slept;
  }

  // The computer sleeps: neither timers nor the monotonic clock go on, the wall clock does.
  sleep(ms) { this.#slept += ms; }

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

// What the client asks by fetch: a stream of events, or one answer.
export class FakeStream {
  static all = [];
  static asked = []; // the requests that are no streams
  static refusal; // [status, body]: what the next ones get
  static answer;
  static isReachable = true;
  static get last() { return FakeStream.all.at(-1); }

  static reset() { Object.assign(FakeStream, { all: [], asked: [], refusal: undefined, answer: undefined, isReachable: true }); }

  static fetch = async (url, init) => {
    if (!FakeStream.isReachable) throw new TypeError("fetch failed");
    if (init.headers.Accept !== "text/event-stream") {
      FakeStream.asked.push({ url, ...init });
      return Response.json(FakeStream.answer());
    }
    const stream = new FakeStream(url, init);
    FakeStream.all.push(stream);
    if (!FakeStream.refusal) return stream.response;
    const [status, body] = FakeStream.refusal;
    return typeof body === "string" ? new Response(body, { status }) : Response.json(body, { status });
  };

  constructor(url, init) {
    Object.assign(this, { url, ...init });
    const body = new ReadableStream({ start: (controller) => { this.controller = controller; } });
    this.response = new Response(body, { headers: { "content-type": "text/event-stream" } });
    this.signal.addEventListener("abort", () => this.fail());
  }

  get isOpen() { return !this.signal.aborted; }

  sayBytes(bytes) { this.controller.enqueue(bytes); }

  say(frame) { this.sayBytes(new TextEncoder().encode(`id: ${frame.cursor}\ndata: ${JSON.stringify(frame)}\n\n`)); }

  end(code, retryAfterMs) {
    this.sayBytes(new TextEncoder().encode(`: closed ${code} {"retryAfterMs":${retryAfterMs}}\nretry: ${retryAfterMs}\n\n`));
    this.controller.close();
  }

  fail() { this.controller.error(new TypeError("network error")); }
}

export class Storage {
  items = new Map();
  getItem(key) { return this.items.get(key) ?? null; }
  setItem(key, value) { this.items.set(key, value); }
}
