// Who may do what, for racerd.js and the page: tokens that say who this is, that end, and that are replaced.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { sealedServer } from "./noise.mjs";
import { connect } from "./played.mjs";
import { live, profile, say, Server, startBrowser, stopBrowser, until, WebSocket } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

/** A file of people: {sub: {tokens, grants, name}}. */
class People {
  static async make(t, people) {
    const made = new People();
    made.folder = await mkdtemp(path.join(tmpdir(), "racerd-known-"));
    t.after(() => rm(made.folder, { recursive: true, force: true }));
    made.file = path.join(made.folder, "access.toml");
    await made.write(people);
    return made;
  }

  async write(people) {
    const lines = Object.entries(people).map(([sub, { tokens, grants, name = sub }]) => {
      const digests = tokens.map((token) => `"${createHash("sha256").update(token).digest("hex")}"`);
      const granted = Object.entries(grants).map(([room, right]) => `"${room}" = "${right}"`);
      return `${sub} = { name = "${name}", token_sha256 = [${digests}], grants = { ${granted.join(", ")} } }`;
    });
    // As an editor does, so that nobody reads half of it.
    await writeFile(`${this.file}.new`, `[people]\n${lines.join("\n")}\n`);
    await rename(`${this.file}.new`, this.file);
  }

  /** Makes the server take over other people. */
  async change(server, people) {
    await this.write(people);
    const before = server.log.split("who is known read again").length;
    server.reload();
    await until("read again", () => server.log.split("who is known read again").length > before);
  }
}

const ANN = { tokens: ["t-ann"], grants: { "r*": "send" }, name: "Ann" };
const BOB = { tokens: ["t-bob"], grants: { "*": "send" }, name: "Bob" };

async function start(t, ...args) {
  const people = await People.make(t, { ann: ANN, bob: BOB });
  const server = await Server.start(t, "--access-file", people.file, "--guests", "none", ...args);
  return { people, server };
}

function open(t, base, options) {
  const client = connect({ base, WebSocket, ...options });
  t.after(() => client.close());
  return client;
}

test("a client that says who it is has its name and its rights", async (t) => {
  const { server } = await start(t);
  const client = open(t, server.base, { token: "t-ann", name: "somebody" });
  const [room, other] = [client.join("r1"), client.join("kitchen")];
  const heard = [];
  room.on("message", (message) => heard.push(message));
  const removed = new Promise((resolve) => other.on("removed", resolve));
  await until("joined", () => room.joined);
  assert.equal(client.name, "Ann");
  await room.send("hello").done;
  await until("heard", () => heard.length === 1);
  assert.deepEqual([heard[0].from.name, heard[0].own], ["Ann", true]);
  assert.equal((await removed).code, "forbidden");
  assert.equal(other.joined, false);
});

test("without a token, or with a wrong one, it stops and says why", async (t) => {
  const { server } = await start(t);
  const asked = [];
  for (const [options, phase] of [
    [{}, "refused"],
    [{ token: "t-nobody" }, "unauthorized"],
    [{ token: () => (asked.push(1), "t-nobody") }, "unauthorized"],
  ]) {
    const client = open(t, server.base, options);
    const room = client.join("r1");
    const failed = room.send("x").done.catch((error) => error.code);
    await until("stopped", () => client.state.phase === "stopped");
    assert.equal(await failed, phase);
    assert.ok(client.state.reason.length > 10);
  }
  assert.equal(asked.length, 2, "a function is asked once more");
});

test("a token that has ended is replaced, and the session goes on", async (t) => {
  const { people, server } = await start(t);
  let token = "t-ann";
  const client = open(t, server.base, { token: async () => token });
  const room = client.join("r1");
  const heard = [];
  room.on("message", ({ body }) => heard.push(body));
  await until("joined", () => room.joined);
  // Both are good for a while, as when one takes the place of the other.
  await people.change(server, { ann: { ...ANN, tokens: ["t-ann", "t-new"] }, bob: BOB });
  token = "t-new";
  await people.change(server, { ann: { ...ANN, tokens: ["t-new"] }, bob: BOB });
  await until("lost", () => client.state.phase !== "open");
  const sent = room.send("after");
  await until("back", () => room.joined);
  await sent.done;
  await until("heard", () => heard.includes("after"));
  // Then there is none: it asks once, and stops.
  await people.change(server, { bob: BOB });
  await until("stopped", () => client.state.phase === "stopped");
});

test("a room that may no longer be read is given up, and the others go on", async (t) => {
  const { people, server } = await start(t);
  const client = open(t, server.base, { token: "t-ann" });
  const rooms = ["r1", "r2"].map((id) => client.join(id));
  await until("joined", () => rooms.every(({ joined }) => joined));
  const removed = new Promise((resolve) => rooms[0].on("removed", resolve));
  await people.change(server, { ann: { ...ANN, grants: { r2: "read" } }, bob: BOB });
  assert.equal((await removed).message, "you may no longer read this room");
  assert.deepEqual(rooms.map(({ joined }) => joined), [false, true]);
  await assert.rejects(rooms[1].send("x").done, { code: "forbidden" });
  await assert.rejects(rooms[0].send("x").done, { code: "forbidden" });
});

test("over a sealed socket the token goes inside", async (t) => {
  const people = await People.make(t, { ann: ANN });
  const { server, pin } = await sealedServer(t, "--access-file", people.file, "--guests", "none");
  const client = open(t, server.base, { token: "t-ann", pin });
  const room = client.join("r1");
  await until("joined", () => room.joined);
  assert.equal(client.name, "Ann");
  await room.send("hello").done;
});

test("in a room with a key, what is sealed names its author as the server does, whatever was wished for", async (t) => {
  const { server } = await start(t);
  const roomKey = Buffer.alloc(32, 7).toString("base64url");
  const client = open(t, server.base, { token: "t-ann", name: "somebody" });
  const room = client.join("r1", { roomKey });
  const heard = [];
  room.on("message", (message) => heard.push(message));
  await room.send("sealed before there was a connection").done;
  await until("heard", () => heard.length === 1);
  assert.deepEqual([heard[0].inside.name, heard[0].from.name, heard[0].marks], ["Ann", "Ann", []]);
});

test("the page says that guests are not let in, and that they only read", async (t) => {
  const { server } = await start(t);
  const context = await profile(t, { expects: (text) => /status of 401/.test(text) });
  const page = await context.newPage();
  await page.goto(`${server.base}rooms/r1`);
  await page.fill("#name-field", "eve");
  await page.press("#name-field", "Enter");
  const banner = () => page.textContent("#banner span");
  await until("refused", async () => (await banner()).startsWith("Refused: guests may not read this room"));
  await page.screenshot({ path: "target/browser/known-refused.png" });
  const reading = await Server.start(t, "--guests", "read");
  const reader = await profile(t);
  const second = await reader.newPage();
  await second.goto(`${reading.base}rooms/r1`);
  await second.fill("#name-field", "eve");
  await second.press("#name-field", "Enter");
  await live(second);
  await say(second, "hello");
  await until("told", async () => (await second.textContent("body")).includes("Guests may not write in this room"));
  await second.screenshot({ path: "target/browser/known-reading.png" });
});
