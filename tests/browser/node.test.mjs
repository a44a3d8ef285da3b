// The client library in one file, as a program in Node gets it from a running server; and the example of
// docs/protocol.md as written.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { sealedServer } from "./noise.mjs";
import { library, Server, until, WebSocket } from "./support.mjs";

/** Makes a folder with this server's racerd.mjs. */
async function fetched(t, server) {
  const folder = await mkdtemp(path.join(tmpdir(), "racerd-whole-"));
  t.after(() => rm(folder, { recursive: true }));
  const answer = await fetch(`${server.base}racerd.mjs`);
  assert.match(answer.headers.get("content-type"), /^text\/javascript/);
  await writeFile(path.join(folder, "racerd.mjs"), await answer.text());
  return folder;
}

/** Runs a program with this source next to racerd.mjs. */
async function run(folder, text) {
  await writeFile(path.join(folder, "bot.mjs"), text);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ["bot.mjs"], { cwd: folder, timeout: 60_000 });
  return [stdout, stderr];
}

test("the example of docs/protocol.md runs in this Node", async (t) => {
  const server = await Server.start(t);
  const folder = await fetched(t, server);
  await symlink(process.env.RACERD_NODE_PATH, path.join(folder, "node_modules"));
  const document = await readFile(new URL("../../docs/protocol.md", import.meta.url), "utf8");
  const [, indented] = /^ {4}cat > bot\.mjs <<'END'\n([^]*?)\n {4}END$/m.exec(document);
  const text = indented.replace(/^ {4}/gm, "");
  assert.match(text, /http:\/\/localhost:7077\//);
  assert.deepEqual(await run(folder, text.replace("http://localhost:7077/", server.base)), ["stored as 1\n", ""]);
  assert.deepEqual(await server.bodies("lobby"), [{ text: "hello" }]);
});

test("without a WebSocket, a rejected promise tells the program why, instead of a silent end", async (t) => {
  const server = await Server.start(t);
  const folder = await fetched(t, server);
  const [said] = await run(folder, `
    import { connect } from "./racerd.mjs";
    delete globalThis.WebSocket;
    const client = connect({ base: "${server.base}", name: "bot" });
    await client.join("lobby").send("x").done.catch(({ code, message }) => console.log(code, message));
  `);
  assert.match(said, /WebSocket/);
  assert.deepEqual(await server.bodies("lobby"), []);
});

test("the one file can do everything that the many can", async (t) => {
  const server = await Server.start(t);
  const whole = await import(path.join(await fetched(t, server), "racerd.mjs"));
  const { load, remove } = await library();
  t.after(remove);
  assert.deepEqual(Object.keys(whole).sort(), Object.keys(await load("racerd.js")).sort());
  const client = whole.connect({ base: server.base, name: "bot", WebSocket });
  t.after(() => client.close());
  assert.equal((await client.join("r1").send({ text: "hello" }).done).seq, 1);
  const key = whole.newKey();
  const [one, two] = ["ann", "bob"].map((name) => whole.connect({ base: server.base, name, WebSocket }));
  for (const client of [one, two]) t.after(() => client.close());
  const heard = [];
  two.join("e2e.r", { last: 5, roomKey: key }).on("message", ({ body }) => heard.push(body));
  await one.join("e2e.r", { roomKey: key }).send("sealed").done;
  await until("heard", () => heard.length === 1);
  assert.deepEqual(heard, ["sealed"]);
  assert.deepEqual((await server.bodies("e2e.r")).map(({ k }) => k.length), [22]);
});

test("`storage` tells what could not be kept, and `atRisk` counts what would be lost with the program", async (t) => {
  const server = await Server.start(t);
  const { load, remove } = await library();
  t.after(remove);
  const { connect } = await load("racerd.js");
  // Node has no IndexedDB, so the outbox keeps nothing. The session is in the program's store, as long as that works.
  let isFull = false;
  const saved = [];
  const store = {
    load: () => null,
    save: (value) => {
      if (isFull) throw new Error("full");
      saved.push(value);
    },
  };
  const client = connect({ base: server.base, name: "bot", WebSocket, store });
  t.after(() => client.close());
  const told = [];
  client.on("storage", (storage) => told.push(storage));
  assert.deepEqual(client.storage, { session: null, outbox: null }, "nothing is known yet");
  const room = client.join("r1");
  await until("live", () => room.joined);
  await until("kept", () => client.storage.session === true);
  assert.equal(client.storage.outbox, false);
  assert.ok(saved.some(({ token }) => typeof token === "string"));
  isFull = true;
  await server.kill();
  await until("lost", () => client.state.phase === "waiting");
  const { done } = room.send({ text: "waits" });
  client.save();
  assert.deepEqual(client.storage, { session: false, outbox: false });
  assert.deepEqual(told.at(-1), client.storage);
  assert.equal(client.atRisk, 1);
  isFull = false;
  await server.restart();
  client.retry();
  assert.equal((await done).seq, 1);
  client.save();
  assert.deepEqual(client.storage, { session: true, outbox: false });
  assert.equal(client.atRisk, 0);
  const changes = told.map(({ session, outbox }) => `${session} ${outbox}`);
  assert.deepEqual(changes, changes.filter((change, index) => change !== changes[index - 1]), "`storage` is emitted only for changes");
});

test("a room's URL is accepted as the server's, and a URL with more in it is refused with the reason", async (t) => {
  const server = await Server.start(t);
  const { load, remove } = await library();
  t.after(remove);
  const { connect, unsent } = await load("racerd.js");
  for (const base of [server.base, server.base.slice(0, -1), `${server.base}rooms/lobby`, `${server.base}rooms/lobby/`]) {
    const client = connect({ base, name: "bot", WebSocket });
    assert.ok((await client.join("r1").send({ text: base }).done).seq > 0, base);
    client.close();
  }
  const urls = [];
  class Recorded {
    constructor(url) {
      urls.push(url);
    }
    close() {}
  }
  for (const base of ["https://h/chat", "https://h/chat/", "https://h/chat/rooms/lobby"]) {
    const client = connect({ base, WebSocket: Recorded });
    client.join("r1");
    await until("the URL", () => urls.length > 0);
    client.close();
    assert.equal(urls.pop(), "wss://h/chat/rooms/r1/ws", base);
  }
  for (const [base, words] of [
    [`${server.base}rooms/lobby#pin=${"A".repeat(43)}`, /`pin` to connect/],
    [`${server.base}?room=lobby`, /no \?/],
    ["localhost:7077", /not the URL of a server/],
    ["/rooms/lobby", /not the URL of a server .*: \/rooms\/lobby/],
  ]) {
    for (const make of [connect, unsent]) assert.throws(() => make({ base, WebSocket }), { name: "RangeError", message: words });
  }
});

test("waiting messages fail with the reason: the room was left, or the client closed", async (t) => {
  const server = await Server.start(t);
  const { load, remove } = await library();
  t.after(remove);
  const { connect } = await load("racerd.js");
  await server.kill();
  const client = connect({ base: server.base, name: "bot", WebSocket });
  const [left, closed] = [client.join("a"), client.join("b")];
  const fates = [left, closed].map((room) => room.send("x").done.then(() => "stored", ({ code, message }) => `${code}: ${message}`));
  left.leave();
  client.close();
  fates.push(closed.send("y").done.catch(({ message }) => message));
  assert.deepEqual(await Promise.all(fates), [
    "closed: the room was left before this was acknowledged",
    "closed: the client was closed before this was acknowledged",
    "the client was closed before this was acknowledged",
  ]);
});

test("over a sealed socket, a request that fits one message is sent, a longer one is refused with the reason, and longer ones arrive", async (t) => {
  const { server, pin } = await sealedServer(t, "--max-message-size", "256KiB", "--queue-bytes", "1MiB", "--reply-bytes", "512KiB", "--request-rate", "0");
  const { load, remove } = await library();
  t.after(remove);
  const { connect } = await load("racerd.js");
  const [ann, bob] = [connect({ base: server.base, name: "ann", pin, WebSocket }), connect({ base: server.base, name: "bob", WebSocket })];
  for (const client of [ann, bob]) t.after(() => client.close());
  const rooms = [ann, bob].map((client) => client.join("r1"));
  const heard = rooms.map((room) => {
    const lengths = [];
    room.on("message", ({ body }) => lengths.push(body.length));
    return lengths;
  });
  await until("both are here", () => rooms.every(({ joined }) => joined));
  assert.equal((await rooms[0].send("x".repeat(65_000)).done).seq, 1);
  const why = await rooms[0].send("y".repeat(100_000)).done.catch(({ code, message }) => [code, message]);
  assert.equal(why[0], "too_long");
  assert.match(why[1], /^the message is 3\d,?\d{3} bytes longer than one sealed message holds$/);
  assert.ok(rooms[0].excess("y".repeat(100_000)) > 30_000 && rooms[1].excess("y".repeat(100_000)) < 0);
  // From a plain socket: longer than three sealed messages.
  assert.equal((await rooms[1].send("z".repeat(230_000)).done).seq, 2);
  assert.equal((await rooms[0].send("after").done).seq, 3);
  await until("all is heard", () => heard.every((lengths) => lengths.length === 3));
  assert.deepEqual(heard, [[65_000, 230_000, 5], [65_000, 230_000, 5]]);
  const page = await rooms[0].history({ before: 3 });
  assert.ok(page.messages.some(({ body }) => body.length === 230_000));
});
