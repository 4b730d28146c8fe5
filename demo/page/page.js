// Demo page of one user: start a session and watch it end. after-hours.js handles the protocol; this file displays it.
import { AfterHours, EXPIRED } from "./after-hours.js";
import { note } from "./log.js";

const $ = (id) => document.getElementById(id);
const userId = new URLSearchParams(location.search).get("user") ?? (sessionStorage.userId ??= crypto.randomUUID());
const ENDINGS = { timeout: "the time is up", ended: "ended by you", moderation: "ended by a moderator" };
const STATES = {
  live: "connected", stale: "connected, but the relay cannot read its database", connecting: "connecting",
  waiting: "no connection, trying again", blocked: "blocked by a moderator", stopped: "stopped", closed: "closed",
};

// Call the application's server. Only this server changes data.
async function ask(path, body = {}) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify({ userId, ...body }) });
  const result = await answer.json();
  $("trouble").textContent = answer.ok ? "" : [result.error, result.hint].filter(Boolean).join(" · ");
  if (!answer.ok) throw new Error(result.error);
  return result;
}

async function logIn() {
  const { token, relayPort } = await ask("log-in");
  $("tail").textContent = `RELAY_TOKEN=${token} python -m relay tail ws://${location.hostname}:${relayPort}/ws`;
  return { token, url: `ws://${location.hostname}:${relayPort}/ws` };
}

// ---- the displayed session: the running one with the latest end, else the one that ended last

let shown;

function showSessions(sessions) {
  const by = (a, b) => Date.parse(b.expiresAt) - Date.parse(a.expiresAt);
  const on = sessions.filter(({ state }) => state !== "ended").sort(by);
  shown = on[0] ?? sessions.slice().sort(by)[0];
  $("clock").dataset.state = shown?.state ?? "none";
  const isOn = on.length > 0;
  const from = document.activeElement?.closest(".row");
  $("starts").hidden = isOn;
  $("running").hidden = !isOn;
  if (from?.hidden) (isOn ? $("running") : $("starts")).firstElementChild.focus(); // keep the focus when its button is hidden
  if (shown?.state !== "warned") $("banner").textContent = "";
  showSaving();
  tick();
}

function tick() {
  if (!shown) return;
  const ms = Math.max(0, Date.parse(shown.expiresAt) - hours.now());
  const seconds = shown.state === "ended" ? 0 : Math.ceil(ms / 1000);
  const left = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  if ($("left").textContent !== left) $("left").textContent = left;
  $("note").textContent = shown.state === "ended" ? `over: ${ENDINGS[shown.reason] ?? "ended earlier"}` : "left";
  const length = Number(sessionStorage[`length ${shown.sessionId}`] ??= ms);
  $("progress").value = shown.state === "ended" || ms === 0 ? 0 : Math.min(1, ms / length);
  document.title = shown.state === "ended" ? "over · After Hours" : `${left} · After Hours`;
}

function warn({ expiresAt, isLocal }) {
  const seconds = Math.round((Date.parse(expiresAt) - hours.now()) / 1000);
  const left = seconds > 100 ? "in two minutes" : seconds > 45 ? "in a minute" : `in ${seconds} seconds`;
  $("banner").textContent = `This chat ends ${left}.${isLocal ? " (Counted down by this page; the relay has not announced it.)" : ""}`;
}

// ---- saving the match of a session

function showSaving() {
  const match = shown && sessionStorage[`match ${shown.sessionId}`];
  const isSaved = Boolean(match && sessionStorage[`saved ${match}`]);
  $("save").hidden = !match || isSaved;
  $("saved").textContent = !match ? "" : isSaved ? "Saved: it will not be deleted." : "Not saved: it will be deleted 30 days after its end.";
}

async function change(path, body) {
  try {
    const { session, matchId } = await ask(path, body);
    if (matchId) {
      sessionStorage[`match ${session.sessionId}`] = matchId;
      sessionStorage[`length ${session.sessionId}`] = body.seconds * 1000;
    }
    hours.sync(path === "end" ? undefined : session);
  } catch { /* shown on the page */ }
}

for (const button of document.querySelectorAll("[data-seconds]")) {
  button.onclick = () => change("start", { seconds: Number(button.dataset.seconds) });
}
$("extend").onclick = () => change("extend", { sessionId: shown.sessionId, seconds: 60 });
$("end").onclick = () => change("end", { sessionId: shown.sessionId });
$("save").onclick = async () => {
  const match = sessionStorage[`match ${shown.sessionId}`];
  try { await ask("save", { matchId: match }); } catch { return; }
  sessionStorage[`saved ${match}`] = true;
  showSaving();
};
$("user").textContent = userId;
$("same").href = `?user=${userId}`;
$("other").onclick = () => { sessionStorage.clear(); location.assign("."); };

// ---- the connection

function showState(state) {
  $("connection").dataset.state = state.state;
  $("connection").textContent = STATES[state.state] + (state.why ? `: ${state.why}` : "");
  if (state.start) {
    $("start").textContent = state.start + (state.replayed === undefined ? "" : `, then ${state.replayed} replayed`);
    $("node").textContent = state.node;
    $("token-until").textContent = new Date(state.tokenExpiresAt).toLocaleTimeString();
  }
}

function showFrame(frame) {
  const due = frame.type === EXPIRED ? frame.expiresAt
    : hours.sessions.find(({ sessionId, expiresAt }) => sessionId === frame.sessionId && expiresAt === frame.expiresAt)?.warnsAt;
  const late = frame.id && due ? `${Math.max(0, Math.round(hours.now() - Date.parse(due)))} ms after it was due` : "";
  if (late) $("lateness").textContent = late;
  if (frame.type !== "ping") note($("frames"), frame, late);
}

const first = await logIn();
const hours = new AfterHours({
  url: first.url,
  userId,
  token: async () => (await logIn()).token,
  onSessions: showSessions,
  onExpiring: warn,
  onExpired: () => { $("banner").textContent = ""; },
  onState: showState,
  onFrame: showFrame,
});
setInterval(() => {
  tick();
  $("cursor").textContent = hours.cursor ?? "–"; // changes when a frame has been handled
}, 250);
hours.connect();
