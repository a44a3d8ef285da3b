// The client library in one file, as a program in Node gets it from a running server; and README's example, as it stands there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { library, Server, until, WebSocket } from "./support.mjs";

/** A folder with racerd.mjs out of this server. */
async function fetched(t, server) {
  const folder = await mkdtemp(path.join(tmpdir(), "racerd-whole-"));
  t.after(() => rm(folder, { recursive: true }));
  const answer = await fetch(`${server.base}racerd.mjs`);
  assert.match(answer.headers.get("content-type"), /^text\/javascript/);
  await writeFile(path.join(folder, "racerd.mjs"), await answer.text());
  return folder;
}

/** Runs a program of this text beside racerd.mjs. */
async function run(folder, text) {
  await writeFile(path.join(folder, "bot.mjs"), text);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ["bot.mjs"], { cwd: folder, timeout: 60_000 });
  return [stdout, stderr];
}

test("README's example, in this Node", async (t) => {
  const server = await Server.start(t);
  const folder = await fetched(t, server);
  await symlink(process.env.RACERD_NODE_PATH, path.join(folder, "node_modules"));
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const [, indented] = /^ {4}cat > bot\.mjs <<'END'\n([^]*?)\n {4}END$/m.exec(readme);
  const text = indented.replace(/^ {4}/gm, "");
  assert.match(text, /http:\/\/localhost:7077\//);
  assert.deepEqual(await run(folder, text.replace("http://localhost:7077/", server.base)), ["stored as 1\n", ""]);
  assert.deepEqual(await server.bodies("lobby"), [{ text: "hello" }]);
});

test("a program that gives no WebSocket, where there is none, is told so by a rejected promise, and does not end without a word", async (t) => {
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

test("in one file it can all that it can in many", async (t) => {
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

test("what could not be kept is told once it is known, and what would be lost with the program is counted", async (t) => {
  const server = await Server.start(t);
  const { load, remove } = await library();
  t.after(remove);
  const { connect } = await load("racerd.js");
  // Node has no IndexedDB: the outbox keeps nothing. The session is kept by whom the program says, as long as that does.
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
  assert.deepEqual(changes, changes.filter((change, index) => change !== changes[index - 1]), "told where it changed");
});
