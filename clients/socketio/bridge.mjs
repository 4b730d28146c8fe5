#!/usr/bin/env node
// Socket.IO server that forwards the events of a relay under the same names and fields. Each Socket.IO client has its own
// connection to the relay, with its own token, so the relay decides what it receives. Usage and settings: README.md.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { WebSocket } from "ws";
import { AfterHours } from "@after-hours/client";

const { RELAY_URL, PORT = "3000", HOST = "127.0.0.1", BRIDGE_ORIGINS = "" } = process.env;
const AWAY = 120_000; // ms after a disconnect in which a client can resume and gets the missed events (Socket.IO 4.6 and later)

const http = createServer();
const io = new Server(http, {
  connectionStateRecovery: { maxDisconnectionDuration: AWAY },
  cors: { origin: BRIDGE_ORIGINS.split(",").filter(Boolean) },
});
const relayed = new Map(); // socket id -> { hours, leaving }

// Accept a client when the relay has accepted its token, or cannot be reached. Otherwise it gets a connect_error.
io.use((socket, next) => {
  let isIn = false;
  const settle = (error) => {
    if (error) relayed.delete(socket.id);
    if (isIn && error) socket.disconnect(true);
    if (!isIn) next(error);
    isIn = true;
  };
  const tell = ({ type, cursor, isLocal, ...fields }) => {
    io.to(socket.id).emit(type, fields); // by its room, which is kept while the client is disconnected
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
      if (state === "live" || (state === "waiting" && code !== 4401)) settle(); // 4401: the client tries one new token
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
  if (!entry) return socket.disconnect(true); // rejected while it was disconnected
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
