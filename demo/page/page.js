// The page: one user per tab, kept over reloads together with the cursor, so that a reload resumes.
import { Relay } from "./relay.js";

const $ = (id) => document.getElementById(id);
const userId = (sessionStorage.userId ??= crypto.randomUUID());
let skew = 0; // ms the server's clock is ahead of ours
let session; // {sessionId, expiresAt, state}: the one on the clock

async function ask(path, body) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify({ userId, ...body }) });
  const said = await answer.json();
  $("trouble").textContent = answer.ok ? "" : [said.error, said.hint].filter(Boolean).join(" · ");
  if (!answer.ok) throw new Error(said.error);
  return said;
}

function show(next) {
  session = next;
  $("clock").dataset.state = next?.state ?? "none";
  $("extend").disabled = $("end").disabled = !next || next.state === "ended";
  tick();
}

function tick() {
  if (!session) return;
  const ms = Date.parse(session.expiresAt) - Date.now() - skew;
  const s = Math.max(0, Math.ceil(ms / 1000));
  $("left").textContent = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
  $("note").textContent = { active: "left", warned: "this session ends soon", ended: session.reason ?? "over" }[session.state];
}

// The one that is on, else the one that ended last.
function pick(sessions) {
  const by = (a, b) => Date.parse(b.expiresAt) - Date.parse(a.expiresAt);
  const on = sessions.filter((s) => s.state !== "ended").sort(by);
  return on[0] ?? sessions.slice().sort(by)[0];
}

const ENDINGS = { timeout: "time is up", ended: "you left", moderation: "ended by a moderator" };
const handlers = {
  "after_hours:session_expiring": (f) => show({ ...f, state: "warned" }),
  "after_hours:session_expired": (f) => show({ ...f, state: "ended", reason: ENDINGS[f.reason] }),
  hello: snapshot, snapshot, reset: snapshot,
};

function snapshot(frame) {
  skew = Date.parse(frame.serverTime) - Date.now();
  const next = pick(frame.sessions);
  if (next?.sessionId === session?.sessionId && next?.state === "ended") return; // we know how it ended; this frame doesn't
  show(next);
}

// How long after the instant a frame speaks of it got here; both clocks are this machine's.
function lateness({ type, expiresAt, minutesRemaining }) {
  if (type === "after_hours:session_expired") return `${Date.now() - Date.parse(expiresAt)} ms after the end`;
  if (minutesRemaining !== undefined) return `${minutesRemaining} min left`;
  return "";
}

function note(frame) {
  const line = document.createElement("li");
  const part = (tag, text) => line.append(Object.assign(document.createElement(tag), { textContent: text }));
  part("time", new Date().toLocaleTimeString());
  part("b", frame.type);
  part("span", lateness(frame) || (frame.start ?? frame.cursor ?? ""));
  line.title = JSON.stringify(frame, null, 1);
  $("frames").prepend(line);
  while ($("frames").children.length > 50) $("frames").lastChild.remove();
}

const { relayPort } = await ask("log-in");
const relay = new Relay({
  url: `ws://${location.hostname}:${relayPort}/ws`,
  token: async () => (await ask("log-in")).token,
  cursor: sessionStorage.cursor,
  onstate(state, code) {
    $("connection").dataset.state = state;
    $("connection").textContent = code ? `${state} (${code})` : state;
  },
  onframe(frame) {
    handlers[frame.type]?.(frame); // an unknown type is no error: the relay may learn more than we know
    if (frame.cursor) sessionStorage.cursor = frame.cursor;
    if (frame.type !== "ping") note(frame);
  },
});

async function change(path, body) {
  try { await ask(path, body); } catch { /* shown on the page */ }
  relay.sync();
}
for (const button of document.querySelectorAll("[data-start]")) {
  button.onclick = () => change("start", { seconds: Number(button.dataset.start) });
}
$("extend").onclick = () => change("extend", { sessionId: session.sessionId, seconds: 60 });
$("end").onclick = () => change("end", { sessionId: session.sessionId });
document.addEventListener("visibilitychange", () => { if (!document.hidden) relay.sync(); });
setInterval(tick, 250);
relay.connect();
