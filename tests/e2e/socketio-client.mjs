// A Socket.IO client as existing services have them: prints what it gets; "drop" on stdin cuts its connection.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [, , url, token] = process.argv;
const say = (name, fields) => console.log(JSON.stringify({ name, ...fields }));
const socket = io(url, { auth: (send) => send({ token }), transports: ["websocket"] });
socket.on("connect", () => say("connect", { recovered: socket.recovered }));
socket.on("connect_error", ({ message }) => say("connect_error", { message }));
socket.on("disconnect", (reason) => say("disconnect", { reason }));
socket.onAny((name, fields) => say(name, fields));
createInterface({ input: process.stdin }).on("line", () => socket.io.engine.close());
