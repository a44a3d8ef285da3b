// Messages sent without a connection go out when there is one, whichever room is shown and whatever became of their
// tab. This tests `unsent()` of racerd.js; kept.test.mjs tests how the page shows it.

import assert from "node:assert/strict";
import test from "node:test";
import { inOutbox, outbox, sayStoredAndHeld, stored, waits } from "./scenes.mjs";
import { enter, live, Member, profile, relay, say, Server, shows, startBrowser, stopBrowser, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

/** Makes an `unsent()` in the page, as `window.desk`, with the library that the server serves. */
const desk = (page) => page.evaluate(async () => {
  const { unsent } = await import(new URL("../racerd.js", location));
  window.desk = unsent({ base: new URL("..", location).href });
});
const shown = (page) => page.evaluate(() => window.desk.rows.map(({ room, name, body, state, code }) => [room, name, body?.text, state, code]));

test("a message of a room that was left is sent there once, by the same member", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const ann = await enter(await profile(t), line.base, "a", "ann");
  const bob = await Member.join(server, "a", "bob");
  await say(ann, "first");
  await shows(ann, ["first"]);
  await sayStoredAndHeld(ann, line, server, "a");
  line.cut();
  await waits(ann);
  // Within the page, without a reload.
  await ann.click("#leave");
  await ann.fill("#room-field", "b");
  await ann.press("#room-field", "Enter");
  await desk(ann);
  await until("shown", async () => (await shown(ann)).length === 2);
  assert.deepEqual(await shown(ann), [["a", "ann", "stored", "waiting", undefined], ["a", "ann", "held", "waiting", undefined]]);
  line.mend();
  await live(ann);
  await until("sent", async () => (await stored(server, "a")).length === 3);
  assert.deepEqual(await stored(server, "a"), ["first", "stored", "held"]);
  await inOutbox(ann, 0);
  await until("nothing is shown", async () => (await shown(ann)).length === 0);
  const members = bob.values.filter(({ type }) => type === "message").map(({ from }) => from.member);
  assert.equal(new Set(members).size, 1);
  assert.equal(await ann.textContent("#room-title"), "b");
  await bob.leave();
});

test("a closed tab's message is sent once by another tab, which resumes its session; then the token is deleted", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const context = await profile(t);
  const other = await enter(context, line.base, "b", "eve");
  const ann = await enter(context, line.base, "a", "ann");
  await say(ann, "first");
  await shows(ann, ["first"]);
  await sayStoredAndHeld(ann, line, server, "a");
  assert.ok((await outbox(ann)).every(({ token, name }) => typeof token === "string" && name === "ann"));
  line.cut();
  await waits(ann);
  await ann.close();
  await desk(other);
  await until("shown", async () => (await shown(other)).length === 2);
  assert.deepEqual((await shown(other)).map(([room, name, , state]) => [room, name, state]), [["a", "ann", "waiting"], ["a", "ann", "waiting"]]);
  line.mend();
  await until("sent", async () => (await stored(server, "a")).length === 3);
  assert.deepEqual(await stored(server, "a"), ["first", "stored", "held"]);
  await inOutbox(other, 0);
  const { messages } = await (await fetch(`${server.base}rooms/a/messages`)).json();
  assert.equal(new Set(messages.map(({ from }) => from.member)).size, 1, "the same member sent all of it");
  await until("its session has ended", async () => (await (await fetch(`${server.base}rooms/a/members`)).json()).count === 0);
});

test("an open tab's messages are listed and left alone; after it has closed without a session, they get a session of their own", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const context = await profile(t);
  const other = await enter(context, line.base, "b", "eve");
  const ann = await context.newPage();
  await ann.goto(line.base);
  line.cut();
  await waits(other);
  await ann.fill("#room-field", "a");
  await ann.fill("#name-field", "ann");
  await ann.press("#name-field", "Enter");
  await waits(ann);
  await say(ann, "the very first");
  await inOutbox(ann, 1);
  assert.deepEqual((await outbox(ann)).map(({ token }) => token), [null]);
  await desk(other);
  await until("shown", async () => (await shown(other)).length === 1);
  await ann.close();
  line.mend();
  await until("sent", async () => (await stored(server, "a")).length === 1);
  const { messages } = await (await fetch(`${server.base}rooms/a/messages`)).json();
  assert.deepEqual(messages.map(({ from, body }) => [from.name, body.text]), [["ann", "the very first"]]);
  await inOutbox(other, 0);
});

test("if the session cannot be resumed, messages are listed as failed, and the user decides", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const other = await enter(context, server.base, "b", "eve");
  const ann = await enter(context, server.base, "a", "ann");
  await say(ann, "first");
  await shows(ann, ["first"]);
  await server.kill();
  await waits(ann);
  for (const text of ["perhaps", "no more"]) await say(ann, text);
  await inOutbox(ann, 2);
  // The server knows no such session.
  await ann.evaluate(() => new Promise((resolve) => {
    const open = indexedDB.open("racerd");
    open.onsuccess = () => {
      const transaction = open.result.transaction("entries", "readwrite");
      transaction.objectStore("entries").openCursor().onsuccess = ({ target: { result: cursor } }) => {
        if (!cursor) return;
        cursor.update({ ...cursor.value, token: "x" });
        cursor.continue();
      };
      transaction.oncomplete = resolve;
    };
  }));
  await ann.close();
  await desk(other);
  await server.restart();
  await until("not sent", async () => (await shown(other)).filter(([, , , state]) => state === "failed").length === 2);
  assert.deepEqual(await shown(other), [["a", "ann", "perhaps", "failed", "unknown_fate"], ["a", "ann", "no more", "failed", "unknown_fate"]]);
  await other.evaluate(() => window.desk.discard(window.desk.rows[1].key));
  await until("one", async () => (await shown(other)).length === 1);
  assert.deepEqual(await stored(server, "a"), ["first"]);
  await other.evaluate(() => window.desk.again(window.desk.rows[0].key));
  await until("sent", async () => (await stored(server, "a")).length === 2);
  assert.deepEqual(await stored(server, "a"), ["first", "perhaps"]);
  await inOutbox(other, 0);
});
