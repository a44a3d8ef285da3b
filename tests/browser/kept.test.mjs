// Drafts, names and unsent messages are kept, or the page says beforehand that they will not be: with storage that is
// full or blocked, too. And what the page says while something cannot be read or sent.

import assert from "node:assert/strict";
import test from "node:test";
import { answerInstead, inOutbox, recordBanner, restartEmpty, stored } from "./scenes.mjs";
import { enter, library, live, Member, profile, relay, say, Server, shows, startBrowser, stopBrowser, until } from "./support.mjs";

const { load, remove } = await library();
const { newKey } = await load("racerd.js");
test.before(startBrowser);
test.after(stopBrowser);
test.after(remove);

const field = (page) => page.inputValue("#text");
const storage = (page) => page.evaluate(() => JSON.stringify({ ...localStorage }));

/** Makes storage full: what is there can be read. */
const FULL = () => {
  Storage.prototype.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
};
const BLOCKED = () => {
  for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
    Object.defineProperty(window, name, { get() { throw new DOMException("refused", "SecurityError"); } });
  }
};

/** Closes a window as its user does. Returns whether it asked before. */
async function asksBeforeItGoes(page) {
  let asked = false;
  page.on("dialog", (dialog) => {
    asked = dialog.type() === "beforeunload";
    dialog.accept();
  });
  const gone = page.waitForEvent("close");
  await page.close({ runBeforeUnload: true });
  await gone;
  return asked;
}

test("a room's draft survives a reload, another name, another room, Back, and its tab; once sent or cleared it is gone", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const page = await enter(context, server.base, "lobby", "ann");
  const long = `${"a long thought ".repeat(58)}\nand its second line`;
  await page.fill("#text", long);
  await page.reload();
  await live(page);
  assert.equal(await field(page), long);
  assert.ok((await page.$eval("#text", (text) => text.clientHeight)) > 100, "the field grows with its text");
  await page.click("#rename");
  await page.fill("#name-field", "Anna");
  await page.press("#name-field", "Enter");
  await live(page);
  assert.equal(await field(page), long);
  await page.click("#leave");
  await page.fill("#room-field", "other");
  await page.press("#room-field", "Enter");
  await live(page);
  assert.equal(await field(page), "");
  await page.fill("#text", "of the other room");
  await page.goBack();
  await page.goBack();
  await live(page);
  assert.equal(await field(page), long);
  await page.close();
  const again = await context.newPage();
  await again.goto(`${server.base}rooms/lobby`);
  await live(again);
  assert.equal(await field(again), long, "the draft of a closed tab");
  await again.press("#text", "Enter");
  await shows(again, [long]);
  // At once, not only when the page closes: the browser may crash.
  assert.doesNotMatch(await storage(again), /a long thought/);
  await again.reload();
  await live(again);
  assert.equal(await field(again), "");
  await again.goto(`${server.base}rooms/other`);
  await live(again);
  assert.equal(await field(again), "of the other room");
  await again.fill("#text", "");
  await again.reload();
  await live(again);
  assert.equal(await field(again), "");
  assert.doesNotMatch(await storage(again), /draft/);
});

test("two windows in one room keep separate drafts", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const one = await enter(context, server.base, "lobby", "ann");
  const two = await enter(context, server.base, "lobby", "ann");
  await one.fill("#text", "from one");
  await two.fill("#text", "from two");
  await one.reload();
  await live(one);
  assert.equal(await field(one), "from one");
  await one.close();
  await say(two, "sent by two");
  await two.reload();
  await live(two);
  assert.equal(await field(two), "from one", "nobody else would send it");
});

test("a draft in an encrypted room is stored sealed under the room's key", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  await enter(context, server.base, "lobby", "ann");
  const page = await context.newPage();
  const key = newKey();
  await page.goto(`${server.base}rooms/e2e.r#k=${key}`);
  await live(page);
  await page.fill("#text", "a secret draft");
  await until("kept", async () => /draft.e2e.r/.test(await storage(page)));
  assert.doesNotMatch(await storage(page), new RegExp(`secret|${key}`));
  await page.reload();
  await live(page);
  await until("back", async () => (await field(page)) === "a secret draft");
  // A window with another key neither reads nor deletes it.
  const other = await context.newPage();
  await other.goto(`${server.base}rooms/e2e.r#k=${newKey()}`);
  await live(other);
  await other.fill("#text", "x");
  await other.fill("#text", "");
  assert.equal(await field(other), "");
  await page.reload();
  await live(page);
  await until("still there", async () => (await field(page)) === "a secret draft");
});

test("with full storage, new values count while the page lives, and it warns beside the field", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  await enter(context, server.base, "lobby", "old name");
  await context.addInitScript(FULL);
  const page = await context.newPage();
  await page.goto(server.base);
  assert.match(await page.innerText("#name-keeping"), /stores nothing/, "before anything is typed");
  await page.fill("#room-field", "other");
  await page.fill("#name-field", "new name");
  await page.press("#name-field", "Enter");
  await live(page);
  assert.deepEqual(await page.$$eval("#people li .name", (all) => all.map((name) => name.textContent)), ["new name"]);
  assert.match(await page.innerText("#keeping"), /Drafts and unsent messages are lost/);
  await page.type("#text", "a draft");
  await page.click("#leave");
  await page.click("#recent bdi:text-is('other')");
  await live(page);
  assert.equal(await field(page), "a draft", "for as long as the page lives");
  assert.equal(await asksBeforeItGoes(page), true);
});

for (const [what, init, asks] of [["blocked", BLOCKED, true], ["available", () => {}, false]]) {
  test(`with ${what} storage, a window with a draft ${asks ? "asks before it closes" : "closes without a question"}`, async (t) => {
    const server = await Server.start(t);
    const context = await profile(t);
    await context.addInitScript(init);
    const page = await enter(context, server.base, "lobby", "ann");
    assert.equal(await page.isVisible("#keeping"), asks);
    await page.type("#text", "typed");
    assert.equal(await asksBeforeItGoes(page), asks);
    const calm = await enter(context, server.base, "quiet", "ann");
    await calm.type("#text", "sent");
    await calm.press("#text", "Enter");
    await shows(calm, ["sent"]);
    await say(calm, "and a second one");
    await shows(calm, ["sent", "and a second one"]);
    await until("an empty field", async () => (await field(calm)) === "");
    assert.equal(await asksBeforeItGoes(calm), false, "nothing is unsent");
  });
}

test("unsent messages stand under their own author, whoever spoke last", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const page = await enter(await profile(t), line.base, "lobby", "ann");
  await server.post("lobby", { text: "of bob" }, "bob");
  await shows(page, ["of bob"]);
  line.cut();
  await page.waitForSelector("#banner:not([hidden])");
  await say(page, "one");
  await say(page, "two");
  const authors = () => page.$$eval("#unsent li", (all) => all.map((row) => [row.querySelector(".who .name")?.textContent ?? "", row.querySelector(".body").textContent]));
  assert.deepEqual(await authors(), [["ann", "one"], ["", "two"]]);
  line.mend();
  await shows(page, ["of bob", "one", "two"]);
  assert.deepEqual(await authors(), []);
});

test("names are sorted by the rules of the user's language", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await profile(t), server.base, "lobby", "Ann");
  for (const name of ["zoe", "Émile", "bob", "guest 10", "Åsa", "guest 9"]) await Member.join(server, "lobby", name);
  const names = () => page.$$eval("#people li .name", (all) => all.map((name) => name.textContent));
  await until("all", async () => (await names()).length === 7);
  assert.deepEqual(await names(), ["Ann", "Åsa", "bob", "Émile", "guest 9", "guest 10", "zoe"]);
});

test("“The server is restarting” is shown until the server is back, and a countdown never counts up", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await profile(t), server.base, "lobby", "ann");
  const said = await recordBanner(page);
  await server.stop();
  await until("three tries", async () => (await said()).filter((text) => /Connecting/.test(text)).length >= 3);
  const before = await said();
  assert.ok(before.every((text) => text.startsWith("The server is restarting.")), before.join(" | "));
  let last = Infinity;
  for (const text of before) {
    const seconds = Number(/in (\d+) s/.exec(text)?.[1] ?? (/now/.test(text) ? 0 : Infinity));
    assert.ok(/Connecting/.test(text) || seconds <= last, before.join(" | "));
    last = seconds;
  }
  await server.restart();
  await page.click("#banner button");
  await until("connected", async () => (await said()).at(-1) === "Connected again.");
});

test("history that cannot be read is reported, and requested again by a button", async (t) => {
  const server = await Server.start(t);
  for (let index = 0; index < 80; index += 1) await server.post("lobby", { text: `${index}` });
  const context = await profile(t);
  let asked = 0;
  await answerInstead(context, "history", ({ id }) => (
    (asked += 1) > 1 ? [] : [{ type: "error", id, code: "storage_unavailable", message: "the disk does not answer" }]
  ));
  const page = await enter(context, server.base, "lobby", "ann");
  await page.$eval("#scroller", (scroller) => (scroller.scrollTop = 0));
  await page.waitForFunction(() => document.getElementById("beginning").textContent === "Older messages cannot be read: the disk does not answer. Try again");
  assert.equal(asked, 1);
  await page.click("#beginning button");
  await page.waitForFunction(() => document.getElementById("beginning").textContent === "This is the beginning.");
});

test("history that is refused for a senseless pause is not requested in a hot loop", async (t) => {
  const server = await Server.start(t);
  for (let index = 0; index < 80; index += 1) await server.post("lobby", { text: `${index}` });
  const context = await profile(t);
  await context.addInitScript(() => {
    const { setTimeout } = window;
    window.pauses = [];
    window.setTimeout = (act, pause) => {
      window.pauses.push(pause);
      return setTimeout(act, pause);
    };
  });
  const SENSELESS = 7;
  let asked = 0;
  await answerInstead(context, "history", ({ id }) => (
    (asked += 1) > 3 ? [] : [{ type: "error", id, code: "rate_limited", message: "slower", retry_after_ms: SENSELESS }]
  ));
  const page = await enter(context, server.base, "lobby", "ann");
  await page.$eval("#scroller", (scroller) => (scroller.scrollTop = 0));
  await page.waitForFunction(() => document.getElementById("beginning").textContent === "This is the beginning.");
  assert.ok(asked > 3, `${asked}`);
  assert.equal(await page.evaluate((senseless) => window.pauses.includes(senseless), SENSELESS), false);
});

test("a room that cannot be read says so instead of loading for ever", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  let refuses = true;
  await context.routeWebSocket(/\/ws/, (page) => {
    if (refuses) {
      page.send(JSON.stringify({ type: "welcome", member: "m", name: "ann", session: "s", protocol: 1, limits: { max_message_size: 65536, in_flight: 8, request_rate: 0 } }));
      return page.send(JSON.stringify({ type: "error", code: "storage_unavailable", message: "the disk does not answer" }));
    }
    page.connectToServer();
  });
  const page = await context.newPage();
  await page.goto(`${server.base}rooms/lobby`);
  await page.fill("#name-field", "ann");
  await page.press("#name-field", "Enter");
  await page.waitForFunction(() => document.getElementById("beginning").textContent === "This room's messages cannot be read yet: the disk does not answer. Trying again…");
  refuses = false;
  await page.reload();
  await live(page);
  assert.match(await page.textContent("#beginning"), /Nothing has been said here yet/);
});

// Unsent messages elsewhere: what the page shows, and what the user can do. unsent.test.mjs tests how they are sent.

const elsewhere = (page, words) => page.waitForFunction((words) => {
  const made = document.getElementById("elsewhere");
  return words === null ? made.hidden : !made.hidden && made.querySelector("summary").textContent === words;
}, words);

test("unsent messages of another room and of a closed window are listed until they are sent", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const context = await profile(t);
  await context.clock.install();
  const ann = await enter(context, line.base, "a", "ann");
  const gone = await enter(context, line.base, "c", "ann");
  line.cut();
  await ann.waitForSelector("#banner:not([hidden])");
  await say(ann, "in room a");
  await say(gone, "by a closed window");
  await inOutbox(gone, 2);
  await gone.close();
  await elsewhere(ann, "Elsewhere: 1 message waiting");
  // A message that has waited in the room just left is listed at once, not after a delay.
  await ann.clock.pauseAt(Date.now() + 3_600_000);
  await ann.$eval("#leave", (link) => link.click());
  await until("both are shown", async () => (await ann.textContent("#elsewhere summary")) === "Elsewhere: 2 messages waiting");
  await ann.clock.resume();
  await ann.fill("#room-field", "b");
  await ann.press("#room-field", "Enter");
  await elsewhere(ann, "Elsewhere: 2 messages waiting");
  await ann.click("#elsewhere summary");
  const rows = () => ann.$$eval("#elsewhere li", (all) => all.map((row) => [row.querySelector("a").textContent, row.querySelector(".body").textContent]));
  assert.deepEqual((await rows()).sort(), [["a", "in room a"], ["c", "by a closed window"]]);
  // The room's own row stands below its log, not in the list.
  await ann.click("#elsewhere a:has(bdi:text-is('a'))");
  await elsewhere(ann, "Elsewhere: 1 message waiting");
  const own = () => ann.$$eval("#unsent .body", (all) => all.map((body) => body.textContent));
  await until("it stands below the room's log", async () => (await own()).join() === "in room a");
  line.mend();
  await shows(ann, ["in room a"]);
  await elsewhere(ann, null);
  await until("sent", async () => (await server.bodies("c")).length === 1);
});

test("a message that failed says why; the user sends it again, or discards it", async (t) => {
  const server = await Server.start(t, "--durability", "memory");
  const line = await relay(t, server);
  const context = await profile(t);
  const other = await enter(context, line.base, "b", "eve");
  const gone = await enter(context, line.base, "a", "ann");
  await say(gone, "first");
  await shows(gone, ["first"]);
  line.losesDown = true;
  for (const text of ["wanted", "unwanted"]) await say(gone, text);
  await until("stored", async () => (await server.bodies("a")).length === 3);
  await inOutbox(gone, 2);
  await gone.close();
  await restartEmpty(server, line);
  await elsewhere(other, "Elsewhere: 2 messages not sent");
  await other.click("#elsewhere summary");
  assert.match(await other.textContent("#elsewhere li .state"), /^Not sent: the connection was lost, and it is not known whether this was stored\. Send again Discard$/);
  await other.click("#elsewhere li:has(.body:text-is('unwanted')) button:text-is('Discard')");
  await elsewhere(other, "Elsewhere: 1 message not sent");
  await other.click("#elsewhere button:text-is('Send again')");
  await until("sent", async () => (await server.bodies("a")).length === 1);
  assert.deepEqual(await stored(server, "a"), ["wanted"]);
  await elsewhere(other, null);
});
