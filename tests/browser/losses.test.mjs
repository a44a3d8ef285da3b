// What the page does when the server restarts, the network fails or the page sleeps.

import assert from "node:assert/strict";
import test from "node:test";
import { answerInstead, banner, nothingUnsent, recordBanner, restartEmpty, stored } from "./scenes.mjs";
import { enter, live, Member, profile, relay, say, Server, shows, startBrowser, stopBrowser, texts, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

/** Lists the sockets that a window opens from now on. */
function sockets(page) {
  const all = [];
  page.on("websocket", (socket) => all.push(socket));
  return all;
}

for (const [how, words] of [["kill", "Connection lost\\."], ["stop", "The server is restarting\\.|Connection lost"]]) {
  test(`the server ends (${how}) and comes back: both windows reconnect, and messages sent meanwhile are stored once`, async (t) => {
    const server = await Server.start(t);
    const ann = await enter(await profile(t), server.base, "lobby", "ann");
    const bob = await enter(await profile(t), server.base, "lobby", "bob");
    await ann.waitForSelector("#log .presence");
    await say(ann, "before");
    await shows(bob, ["before"]);
    await server[how]();
    await Promise.all([banner(ann, words), banner(bob, words)]);
    await say(ann, "said while it was away");
    assert.equal(await ann.textContent("#unsent .state"), "Sending…");
    await shows(ann, ["before"]);
    await server.restart();
    await shows(bob, ["before", "said while it was away"]);
    await shows(ann, ["before", "said while it was away"]);
    await nothingUnsent(ann);
    await say(bob, "welcome back");
    await shows(ann, ["before", "said while it was away", "welcome back"]);
    assert.deepEqual(await stored(server), ["before", "said while it was away", "welcome back"]);
    await live(ann);
    await live(bob);
    assert.equal(await ann.$$eval("#log .hole", (all) => all.length), 0);
    // Members who came back with the server are not shown as joining; a new one is.
    const carl = await Member.join(server, "lobby", "carl");
    await until("carl", async () => (await ann.$$("#log .presence")).length === 2);
    assert.deepEqual(await ann.$$eval("#log .presence", (all) => all.map((line) => line.textContent)), ["bob joined", "carl joined"]);
    await carl.leave();
  });
}

test("“Connected again” is shown for a moment", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await profile(t), server.base, "lobby", "ann");
  const said = await recordBanner(page);
  await server.kill();
  await banner(page, "Connection lost\\. Trying again");
  await server.restart();
  await page.$eval("#banner button", (button) => button.click());
  await until("connected", async () => (await said()).at(-1) === "Connected again.");
  await page.waitForFunction(() => document.getElementById("banner").hidden);
});

test("a message in flight when the connection is cut is neither doubled nor lost", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const page = await enter(await profile(t), line.base, "lobby", "ann");
  await say(page, "first");
  await shows(page, ["first"]);
  line.losesDown = true;
  await say(page, "stored, not acknowledged");
  await until("stored", async () => (await server.bodies("lobby")).length === 2);
  line.holdsUp = true;
  await say(page, "lost on its way");
  line.cut();
  await banner(page, "Connection lost");
  line.mend();
  await shows(page, ["first", "stored, not acknowledged", "lost on its way"]);
  await nothingUnsent(page);
  assert.equal((await server.bodies("lobby")).length, 3);
  assert.equal(await page.$$eval("#log .own", (all) => all.length), 3);
});

test("after a reset of the log, the page says so; a message of unknown fate fails, and the user sends it again", async (t) => {
  const server = await Server.start(t, "--durability", "memory");
  const line = await relay(t, server);
  const page = await enter(await profile(t), line.base, "lobby", "ann");
  await say(page, "of the old log");
  await shows(page, ["of the old log"]);
  line.losesDown = true;
  await say(page, "perhaps stored");
  await until("stored", async () => (await server.bodies("lobby")).length === 2);
  await restartEmpty(server, line);
  await server.post("lobby", { text: "of the new log" });
  await page.waitForSelector("#unsent .failed");
  assert.match(await page.textContent("#unsent .failed .state"), /^Not sent: .*it is not known whether this was stored.*Try again/);
  await shows(page, ["of the old log", "of the new log"]);
  assert.equal(await page.textContent("#log .hole"), "The server's history was reset. It no longer has the messages above.");
  await page.click("#unsent .failed button:text('Try again')");
  await shows(page, ["of the old log", "of the new log", "perhaps stored"]);
  assert.equal(await page.$$eval("#unsent li", (all) => all.length), 0);
});

test("a refused connection is explained", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t, { expects: (text) => text.includes("status of 403") });
  const page = await context.newPage();
  await page.goto(`${server.base}rooms/lobby`);
  // As behind a misconfigured proxy: the page loads, and the socket is refused.
  await page.route("**/rooms/lobby/ws*", (route) => route.fulfill({
    status: 403,
    contentType: "application/problem+json",
    body: JSON.stringify({ status: 403, detail: "start the server with --allow-origin https://chat.example" }),
  }));
  await server.kill();
  await page.fill("#name-field", "ann");
  await page.press("#name-field", "Enter");
  await banner(page, "^Refused: start the server with --allow-origin https://chat.example\\.\\s*Try again");
});

test("a hidden page, whose timers fire once a minute, keeps its connection", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  await context.clock.install();
  const page = await context.newPage();
  const opened = sockets(page);
  await page.goto(server.base);
  await page.fill("#room-field", "lobby");
  await page.fill("#name-field", "ann");
  await page.press("#name-field", "Enter");
  await live(page);
  let [pings, pongs] = [0, 0];
  opened[0].on("framesent", ({ payload }) => (pings += payload.includes('"ping"') ? 1 : 0));
  opened[0].on("framereceived", ({ payload }) => (pongs += payload.includes('"pong"') ? 1 : 0));
  for (let minute = 1; minute <= 6; minute += 1) {
    await page.clock.fastForward(60_000);
    await until("the answer", () => pongs === minute);
    assert.equal(pings, minute, "one ping for each silence");
  }
  assert.equal(opened.length, 1);
  await server.post("lobby", { text: "still here" });
  await shows(page, ["still here"]);
});

test("a page that was frozen while the server restarted reconnects and misses nothing", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const page = await enter(context, server.base, "lobby", "ann");
  await say(page, "before");
  await shows(page, ["before"]);
  const devtools = await context.newCDPSession(page);
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  await server.kill();
  await server.restart();
  await server.post("lobby", { text: "meanwhile" });
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  await shows(page, ["before", "meanwhile"]);
  await say(page, "after");
  await shows(page, ["before", "meanwhile", "after"]);
});

for (const [what, tell] of [
  ["the network is back", () => dispatchEvent(new Event("online"))],
  ["the page is shown", () => document.dispatchEvent(new Event("visibilitychange"))],
  ["the page is restored from the cache", () => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))],
]) {
  test(`the page reconnects at once when ${what}`, async (t) => {
    const server = await Server.start(t);
    const line = await relay(t, server);
    const context = await profile(t);
    await context.clock.install();
    const page = await enter(context, line.base, "lobby", "ann");
    // Timers are stopped, so only the event can cause it.
    await page.clock.pauseAt(Date.now() + 3_600_000);
    line.cut();
    await banner(page, "Connection lost");
    line.mend();
    await server.post("lobby", { text: "meanwhile" });
    assert.deepEqual(await texts(page), []);
    await page.evaluate(tell);
    await shows(page, ["meanwhile"]);
  });
}

test("the page reconnects after the browser was offline", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const context = await profile(t);
  const page = await enter(context, line.base, "lobby", "ann");
  await context.setOffline(true);
  line.cut();
  await banner(page, "Connection lost");
  await say(page, "typed without a network");
  line.mend();
  await context.setOffline(false);
  await shows(page, ["typed without a network"]);
  assert.equal((await server.bodies("lobby")).length, 1);
});

test("a store that cannot take messages is reported with its reason, and the message is sent later", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  // The test answers the first send: the server cannot be made to fail from here.
  let isFirst = true;
  await answerInstead(context, "send", ({ id }) => {
    const answers = isFirst ? [{ type: "error", id, code: "storage_unavailable", message: "the disk is full" }] : [];
    isFirst = false;
    return answers;
  });
  const page = await enter(context, server.base, "lobby", "ann");
  await say(page, "kept");
  await page.waitForFunction(() => document.getElementById("text-fault").textContent.startsWith("The server cannot store messages at the moment: the disk is full."));
  await shows(page, ["kept"]);
  assert.equal((await server.bodies("lobby")).length, 1);
});
