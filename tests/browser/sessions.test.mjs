// The page comes back as who it was: after a loss, after a reload, and not as the tab that it was copied from.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import test from "node:test";
import { enter, live, profile, relay, say, Server, shows, startBrowser, stopBrowser, texts, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const said = async (server) => (await server.bodies("lobby")).map(({ text }) => text);
const session = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("racerd.session")));
const member = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("racerd.members"))[0]);
const members = async (server) => (await (await fetch(`${server.base}rooms/lobby/members`)).json()).members.map(({ member }) => member).sort();
const waits = (page) => page.waitForFunction(() => document.getElementById("banner").textContent.includes("Trying again"));
const noneUnsent = (page) => until("nothing unsent", () => page.$$eval("#unsent li", (all) => all.length === 0));

/** So many entries are in the browser's outbox. */
const inOutbox = (page, wanted) => until("in the outbox", () => page.evaluate((wanted) => new Promise((resolve) => {
  const open = indexedDB.open("racerd");
  open.onsuccess = () => {
    const count = open.result.transaction("entries").objectStore("entries").count();
    count.onsuccess = () => {
      open.result.close();
      resolve(count.result === wanted);
    };
  };
}), wanted));

test("killed and started again: the same member, and what was said meanwhile goes out once", async (t) => {
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
  await noneUnsent(ann);
  assert.deepEqual(await said(server), ["before", "meanwhile"]);
  assert.equal(await member(ann), before);
  assert.deepEqual(await members(server), [before]);
  assert.notEqual((await session(ann)).token, token);
});

test("reloaded with an unsent message: it goes out once, and the member is the same", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const ann = await enter(await profile(t), line.base, "lobby", "ann");
  const bob = await enter(await profile(t), server.base, "lobby", "bob");
  const before = await member(ann);
  await say(ann, "first");
  await shows(ann, ["first"]);
  // One that is stored and not acknowledged, one that never left.
  line.losesDown = true;
  await say(ann, "stored");
  await shows(bob, ["first", "stored"]);
  line.holdsUp = true;
  await say(ann, "held");
  await inOutbox(ann, 2);
  // The page itself comes; its old socket does not.
  line.holdsUp = line.losesDown = false;
  line.orphan();
  await ann.reload();
  await live(ann);
  await shows(ann, ["first", "stored", "held"]);
  await shows(bob, ["first", "stored", "held"]);
  line.release();
  await noneUnsent(ann);
  assert.equal(await member(ann), before);
  assert.deepEqual(await said(server), ["first", "stored", "held"]);
  assert.equal((await members(server)).length, 2);
  assert.equal(await ann.$$eval("#log .own", (all) => all.length), 3);
  // It was no more than a blink: nobody came or went.
  assert.equal(await bob.$$eval("#log .presence", (all) => all.length), 0);
  await ann.reload();
  await shows(ann, ["first", "stored", "held"]);
  assert.deepEqual(await said(server), ["first", "stored", "held"]);
});

test("an unsent message of another session is shown after the reload, for a person to decide", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const ann = await enter(await profile(t), line.base, "lobby", "ann");
  line.holdsUp = line.losesDown = true;
  await say(ann, "perhaps");
  await inOutbox(ann, 1);
  // The token is lost; what was said is not.
  await ann.addInitScript(() => {
    const saved = JSON.parse(sessionStorage.getItem("racerd.session"));
    sessionStorage.setItem("racerd.session", JSON.stringify({ ...saved, token: "x" }));
  });
  line.holdsUp = line.losesDown = false;
  line.orphan();
  await ann.reload();
  await ann.waitForSelector("#unsent .failed");
  assert.match(await ann.textContent("#unsent .failed"), /perhapsNot sent: /);
  assert.deepEqual(await said(server), []);
  await ann.click("#unsent .failed button:text('Try again')");
  await shows(ann, ["perhaps"]);
  await ann.reload();
  await shows(ann, ["perhaps"]);
  await noneUnsent(ann);
  assert.deepEqual(await said(server), ["perhaps"]);
});

/** Opens the room in a second tab of the profile, with what a browser copies. */
async function duplicate(context, page) {
  const copied = await page.evaluate(() => JSON.stringify(sessionStorage));
  const second = await context.newPage();
  // Once: what the tab writes after is its own.
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
  // Each comes back as who it was.
  const other = await member(second);
  await second.reload();
  await live(second);
  await first.reload();
  await live(first);
  assert.deepEqual([await member(first), await member(second)], [before, other]);
  await until("two", async () => (await members(server)).length === 2);
  assert.equal((await said(server)).length, 3);
}

test("a duplicated tab starts a session of its own", async (t) => {
  const server = await Server.start(t);
  await checkDuplicate(t, server, await profile(t));
});

test("over plain http from another address, without Web Locks: all the same", async (t) => {
  const outer = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal);
  assert.ok(outer, "this machine has an address that is not its own alone");
  const server = await Server.startAt(t, outer.address, "--open");
  const context = await profile(t);
  const probe = await context.newPage();
  await probe.goto(server.base);
  assert.deepEqual(await probe.evaluate(() => [isSecureContext, typeof navigator.locks, typeof crypto.subtle]), [false, "undefined", "undefined"]);
  await probe.close();
  await checkDuplicate(t, server, context);
});

test("frozen while the line was cut and messages came: nothing is lost or doubled", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const context = await profile(t);
  const page = await enter(context, line.base, "lobby", "ann");
  const before = await member(page);
  const devtools = await context.newCDPSession(page);
  for (let times = 1; times <= 2; times += 1) {
    line.losesDown = true;
    await say(page, `said ${times}`);
    await until("stored", async () => (await said(server)).length === 2 * times - 1);
    await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
    line.cut();
    await server.post("lobby", { text: `meanwhile ${times}` });
    line.mend();
    await devtools.send("Page.setWebLifecycleState", { state: "active" });
    await shows(page, ["said 1", "meanwhile 1", "said 2", "meanwhile 2"].slice(0, 2 * times));
    await noneUnsent(page);
  }
  assert.equal((await said(server)).length, 4);
  assert.equal(await member(page), before);
});

test("who drops is shown as away, in words, and then as back", async (t) => {
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

test("the token is in no address", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const addresses = [];
  context.on("request", (request) => addresses.push(request.url()));
  context.on("page", (page) => page.on("websocket", (socket) => addresses.push(socket.url())));
  const page = await enter(context, server.base, "lobby", "ann");
  const { token } = await session(page);
  await page.reload();
  await live(page);
  assert.ok(addresses.some((address) => address.endsWith("/ws?name=ann") && !address.includes("lobby")), "it resumed");
  assert.equal(addresses.some((address) => address.includes(token)), false);
  assert.equal(server.log.includes(token), false);
});
