// A chat of rooms on Node's ws, as small as its documentation has it: what one says, all of the room hear.
// usage: ws.mjs PORT, with RACERD_NODE_PATH as tests/run --env sets it
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(process.env.RACERD_NODE_PATH + "/")("ws");
const rooms = new Map();
const server = new WebSocketServer({ host: "::", port: Number(process.argv[2]), perMessageDeflate: false });
server.on("connection", (socket, request) => {
  const room = rooms.get(request.url) ?? new Set();
  rooms.set(request.url, room.add(socket));
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => room.forEach((other) => other.send(data, { binary: isBinary })));
  socket.on("close", () => room.delete(socket) && room.size === 0 && rooms.delete(request.url));
});
