// The page stays the same member after a loss and a reload; a duplicated tab becomes another one.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import test from "node:test";
import { inOutbox, nothingUnsent, sayStoredAndHeld, stored, waits } from "./scenes.mjs";
import { enter, live, profile, relay, say, Server, shows, startBrowser, stopBrowser, texts, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const session = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("racerd.session")));
const member = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("racerd.members"))[0]);
const members = async (server) => (await (await fetch(`${server.base}rooms/lobby/members`)).json()).members.map(({ member }) => member).sort();

test("after kill -9 and a restart, the page is the same member, and messages sent meanwhile are stored once", async (t) => {
  const server = await Server.start(t);
  const ann = await enter(await profile(t), server.base, "lobby", "ann");
  const before = await member(ann);
  await say(ann, "before");
  await shows(ann, ["before"]);
  const token = (await session(ann)).token;
  await server.kill();
  await waits(ann);
  await say(ann, "meanwhile");
  await server.restart();
  await shows(ann, ["before", "meanwhile"]);
  await nothingUnsent(ann);
  assert.deepEqual(await stored(server), ["before", "meanwhile"]);
  assert.equal(await member(ann), before);
  assert.deepEqual(await members(server), [before]);
  assert.notEqual((await session(ann)).token, token);
});

test("after a reload, unsent messages are stored once, and the page is the same member", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const ann = await enter(await profile(t), line.base, "lobby", "ann");
  const bob = await enter(await profile(t), server.base, "lobby", "bob");
  const before = await member(ann);
  await say(ann, "first");
  await shows(ann, ["first"]);
  await sayStoredAndHeld(ann, line, server);
  await shows(bob, ["first", "stored"]);
  // The new page gets through; the old socket does not.
  line.holdsUp = line.losesDown = false;
  line.orphan();
  await ann.reload();
  await live(ann);
  await shows(ann, ["first", "stored", "held"]);
  await shows(bob, ["first", "stored", "held"]);
  line.release();
  await nothingUnsent(ann);
  assert.equal(await member(ann), before);
  assert.deepEqual(await stored(server), ["first", "stored", "held"]);
  assert.equal((await members(server)).length, 2);
  assert.equal(await ann.$$eval("#log .own", (all) => all.length), 3);
  // Nobody was shown as leaving or joining.
  assert.equal(await bob.$$eval("#log .presence", (all) => all.length), 0);
  await ann.reload();
  await shows(ann, ["first", "stored", "held"]);
  assert.deepEqual(await stored(server), ["first", "stored", "held"]);
});

test("a reloaded page is the same member, however long the page before takes to go", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const ann = await enter(context, server.base, "lobby", "ann");
  const [before, { tab }] = [await member(ann), await session(ann)];
  // Stands in line for the lease behind the page that goes, and keeps it for twice as long as a copy of a tab would wait.
  const slow = await context.newPage();
  await slow.goto(server.base);
  await slow.evaluate((name) => {
    const held = () => new Promise((release) => setTimeout(release, 1500));
    globalThis.had = navigator.locks.request(name, held);
  }, `racerd.${tab}`);
  await ann.reload();
  await live(ann);
  await slow.evaluate(() => globalThis.had);
  assert.deepEqual([await member(ann), (await session(ann)).tab], [before, tab]);
});

test("after a reload into another session, unsent messages are shown as failed, and the user decides", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const ann = await enter(await profile(t), line.base, "lobby", "ann");
  line.holdsUp = line.losesDown = true;
  await say(ann, "perhaps");
  await inOutbox(ann, 1);
  // The token is lost; the message is not.
  await ann.addInitScript(() => {
    const saved = JSON.parse(sessionStorage.getItem("racerd.session"));
    sessionStorage.setItem("racerd.session", JSON.stringify({ ...saved, token: "x" }));
  });
  line.holdsUp = line.losesDown = false;
  line.orphan();
  await ann.reload();
  await ann.waitForSelector("#unsent .failed");
  assert.match(await ann.textContent("#unsent .failed"), /perhapsNot sent: /);
  assert.deepEqual(await stored(server), []);
  await ann.click("#unsent .failed button:text('Try again')");
  await shows(ann, ["perhaps"]);
  await ann.reload();
  await shows(ann, ["perhaps"]);
  await nothingUnsent(ann);
  assert.deepEqual(await stored(server), ["perhaps"]);
});

/** Opens the room in a second tab, with the storage that a browser copies when it duplicates a tab. */
async function duplicate(context, page) {
  const copied = await page.evaluate(() => JSON.stringify(sessionStorage));
  const second = await context.newPage();
  // Only once: later values are the tab's own.
  await second.addInitScript((copied) => {
    if (sessionStorage.length === 0) for (const [key, value] of Object.entries(JSON.parse(copied))) sessionStorage.setItem(key, value);
  }, copied);
  await second.goto(page.url());
  await live(second);
  return second;
}

async function checkDuplicate(t, server, context) {
  const first = await enter(context, server.base, "lobby", "ann");
  const before = await member(first);
  await say(first, "one");
  await shows(first, ["one"]);
  const second = await duplicate(context, first);
  assert.notEqual((await session(second)).tab, (await session(first)).tab);
  await say(second, "two");
  await say(first, "three");
  for (const page of [first, second]) {
    await until("both", async () => (await texts(page)).length === 3);
    assert.equal(await page.isHidden("#banner"), true);
  }
  assert.equal(await member(first), before);
  assert.equal((await members(server)).length, 2);
  // Each stays the same member.
  const other = await member(second);
  await second.reload();
  await live(second);
  await first.reload();
  await live(first);
  assert.deepEqual([await member(first), await member(second)], [before, other]);
  await until("two", async () => (await members(server)).length === 2);
  assert.equal((await stored(server)).length, 3);
}

test("a duplicated tab begins its own session", async (t) => {
  const server = await Server.start(t);
  await checkDuplicate(t, server, await profile(t));
});

test("a duplicated tab begins its own session, also over plain http from another address, without Web Locks", async (t) => {
  const outer = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal);
  assert.ok(outer, "this machine has an address besides loopback");
  const server = await Server.startAt(t, outer.address, "--open");
  const context = await profile(t);
  const probe = await context.newPage();
  await probe.goto(server.base);
  assert.deepEqual(await probe.evaluate(() => [isSecureContext, typeof navigator.locks, typeof crypto.subtle]), [false, "undefined", "undefined"]);
  await probe.close();
  await checkDuplicate(t, server, context);
});

test("a page that was frozen while the connection was cut loses and doubles nothing", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const context = await profile(t);
  const page = await enter(context, line.base, "lobby", "ann");
  const before = await member(page);
  const devtools = await context.newCDPSession(page);
  for (let times = 1; times <= 2; times += 1) {
    line.losesDown = true;
    await say(page, `said ${times}`);
    await until("stored", async () => (await stored(server)).length === 2 * times - 1);
    await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
    line.cut();
    await server.post("lobby", { text: `meanwhile ${times}` });
    line.mend();
    await devtools.send("Page.setWebLifecycleState", { state: "active" });
    await shows(page, ["said 1", "meanwhile 1", "said 2", "meanwhile 2"].slice(0, 2 * times));
    await nothingUnsent(page);
  }
  assert.equal((await stored(server)).length, 4);
  assert.equal(await member(page), before);
});

test("a member whose connection is lost is shown as away, in words, until it is back", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const ann = await enter(await profile(t), server.base, "lobby", "ann");
  const bob = await enter(await profile(t), line.base, "lobby", "bob");
  await ann.waitForSelector("#people li:has-text('bob')");
  line.cut();
  await ann.waitForSelector("#people li.away");
  assert.equal(await ann.textContent("#people li.away"), "bob away");
  line.mend();
  await bob.click("#banner button").catch(() => {});
  await live(bob);
  await ann.waitForFunction(() => !document.querySelector("#people li.away"));
  assert.equal(await ann.textContent("#people ul"), "ann youbob");
});

test("the token is in no URL", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const addresses = [];
  context.on("request", (request) => addresses.push(request.url()));
  context.on("page", (page) => page.on("websocket", (socket) => addresses.push(socket.url())));
  const page = await enter(context, server.base, "lobby", "ann");
  const { token } = await session(page);
  await page.reload();
  await live(page);
  assert.ok(addresses.some((address) => address.endsWith("/ws?name=ann") && !address.includes("lobby")), "the page resumed");
  assert.equal(addresses.some((address) => address.includes(token)), false);
  assert.equal(server.log.includes(token), false);
});
