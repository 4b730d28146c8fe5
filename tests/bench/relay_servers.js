// The same small server as in relay_servers.py, on npm's ws and socket.io: node relay_servers.js NAME
'use strict';
const { createRequire } = require('module');
const load = createRequire(process.cwd() + '/');
const http = require('http');
const name = process.argv[2];
const clients = new Map();
const userOf = (url) => Number(url.slice(url.lastIndexOf('=') + 1));
const personal = (text, user) => text.replace('000000', String(user).padStart(6, '0'));

const server = http.createServer();
let send;
let sendAll;
if (name === 'ws') {
  const { WebSocketServer } = load('ws');
  const wss = new WebSocketServer({ server, perMessageDeflate: false });
  wss.on('connection', (socket, request) => clients.set(userOf(request.url), socket));
  send = (socket, text) => socket.send(text);
} else {
  const { Server } = load('socket.io');
  const io = new Server(server, { pingInterval: 3600000, transports: ['websocket'], perMessageDeflate: false });
  io.on('connection', (socket) => clients.set(Number(socket.handshake.query.u), socket));
  send = (socket, text) => socket.emit('e', text);
  sendAll = (text) => io.emit('e', text);
}
server.listen(0, '127.0.0.1', 1024, () => console.log(server.address().port));
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const space = line.indexOf(' ');
  const kind = line.slice(0, space);
  const text = line.slice(space + 1);
  if (kind === 'one') {
    const next = text.indexOf(' ');
    send(clients.get(Number(text.slice(0, next))), text.slice(next + 1));
  } else if (kind === 'all' && sendAll) {
    sendAll(text);
  } else {
    for (const [user, socket] of clients) send(socket, kind === 'each' ? personal(text, user) : text);
  }
});
process.stdin.on('end', () => process.exit(0));
