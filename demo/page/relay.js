// A client of the relay: connects, resumes where it was, drops duplicates, backs off. It knows nothing about the page.
const PROTOCOL = "after-hours.v1";
const SILENCE = 45_000; // ms; the relay says something at least every 20 s
const STOP = new Set([4400, 4403]); // a bad frame; blocked

export class Relay {
  #url; #token; #onframe; #onstate; #cursor; #seen = new Set(); #socket; #tries = 0; #silence;

  // token: async () => string, asked for anew at each connection. cursor: the last one handled, if any.
  constructor({ url, token, cursor, onframe, onstate }) {
    this.#url = url; this.#token = token; this.#cursor = cursor; this.#onframe = onframe; this.#onstate = onstate;
  }

  async connect() {
    this.#onstate("connecting");
    let token;
    try { token = await this.#token(); } catch { return this.#retry(); }
    const socket = this.#socket = new WebSocket(this.#url, PROTOCOL);
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token, after: this.#cursor }));
    socket.onmessage = ({ data }) => this.#handle(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      clearTimeout(this.#silence);
      if (STOP.has(code)) return this.#onstate("stopped", code);
      let after;
      try { after = JSON.parse(reason).retryAfterMs; } catch { /* no reason given: our own back-off */ }
      this.#retry(after);
    };
  }

  // Ask for the present state, after a change made elsewhere (here: by the demo's server).
  sync() { if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send('{"type":"sync"}'); }

  #handle(frame) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#socket.close(), SILENCE);
    if (frame.type === "hello") { this.#tries = 0; this.#onstate("live"); }
    if (frame.type === "stale" || frame.type === "live") this.#onstate(frame.type);
    if (frame.id !== undefined) { // the same event may come twice after a reconnect, under the same id
      if (this.#seen.has(frame.id)) return;
      this.#seen.add(frame.id);
    }
    this.#onframe(frame);
    if (frame.cursor) this.#cursor = frame.cursor; // only once it has been handled
  }

  #retry(after) {
    this.#onstate("connecting");
    const backoff = Math.min(500 * 2 ** this.#tries++, 20_000);
    setTimeout(() => this.connect(), after ?? backoff * (0.5 + Math.random()));
  }
}
