// Lets Socket.IO clients stay as they are while their service moves to After Hours: the same event names and fields.
// Each client has a connection to the relay of its own, under its own token: who gets what is still the relay's word.
//
//   cd clients/socketio && npm install --omit=dev && RELAY_URL=ws://127.0.0.1:8787/ws PORT=3000 node bridge.mjs
//
// Clients pass their token as usual: io(url, { auth: (send) => send({ token }) }). BRIDGE_ORIGINS: pages that may connect.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { WebSocket } from "ws";
import { AfterHours } from "../browser/after-hours.js";

const { RELAY_URL, PORT = "3000", HOST = "127.0.0.1", BRIDGE_ORIGINS = "" } = process.env;
const AWAY = 120_000; // ms for which a client that comes back is given what it has missed (Socket.IO 4.6 and later)

const http = createServer();
const io = new Server(http, {
  connectionStateRecovery: { maxDisconnectionDuration: AWAY },
  cors: { origin: BRIDGE_ORIGINS.split(",").filter(Boolean) },
});
const relayed = new Map(); // socket id -> { hours, leaving }

// Let in once the relay has taken the token, or can't be asked; refused as other services refuse: by connect_error.
io.use((socket, next) => {
  let isIn = false;
  const settle = (error) => {
    if (error) relayed.delete(socket.id);
    if (isIn && error) socket.disconnect(true);
    if (!isIn) next(error);
    isIn = true;
  };
  const tell = ({ type, cursor, isLocal, ...fields }) => {
    io.to(socket.id).emit(type, fields); // by its room, which is also kept for one that is away
  };
  const hours = new AfterHours({
    url: RELAY_URL,
    userId: socket.id,
    storage: null,
    WebSocket,
    token: () => socket.handshake.auth.token,
    onExpiring: tell,
    onExpired: tell,
    onState({ state, code, why }) {
      if (state === "live" || (state === "waiting" && code !== 4401)) settle(); // 4401: it asks once more
      if (state === "stopped" || state === "blocked") settle(new Error(why ?? "blocked"));
      if (state === "blocked") hours.close();
    },
  });
  relayed.set(socket.id, { hours });
  hours.connect();
  socket.conn.once("close", () => { if (!isIn) hours.close(); });
});

io.on("connection", (socket) => {
  const entry = relayed.get(socket.id);
  if (!entry) return socket.disconnect(true); // refused while it was away
  clearTimeout(entry.leaving);
  socket.on("disconnect", () => {
    entry.leaving = setTimeout(() => {
      entry.hours.close();
      relayed.delete(socket.id);
    }, AWAY);
  });
});

if (!RELAY_URL) throw new Error("RELAY_URL is not set, for example ws://127.0.0.1:8787/ws");
http.listen(Number(PORT), HOST, () => console.log(`listening on ${HOST}:${http.address().port}`));
