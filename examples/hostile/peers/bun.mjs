// A chat of rooms on Bun's own server, as its documentation has it: what one says, all of the room hear.
// usage: bun run bun.mjs PORT
Bun.serve({
  hostname: "::",
  port: Number(process.argv[2]),
  fetch(request, server) {
    const data = { room: new URL(request.url).pathname };
    return server.upgrade(request, { data }) ? undefined : new Response("only WebSockets", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    open: (socket) => socket.subscribe(socket.data.room),
    message(socket, said) {
      socket.publish(socket.data.room, said);
      socket.send(said);
    },
  },
});
