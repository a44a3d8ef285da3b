// Everyday use: talking, joining and leaving, typing, reloading, the keyboard, a proxy.

import assert from "node:assert/strict";
import test from "node:test";
import { enter, live, Member, prefixProxy, profile, say, Server, shows, startBrowser, stopBrowser, texts, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const names = (page) => page.$$eval("#people li .name", (all) => all.map((name) => name.textContent));

test("two windows see the same order, and each marks its own messages", async (t) => {
  const server = await Server.start(t);
  const ann = await enter(await profile(t), server.base, "lobby", "ann");
  const bob = await enter(await profile(t), server.base, "lobby", "bob");
  assert.equal(ann.url(), `${server.base}rooms/lobby`);
  for (let turn = 0; turn < 3; turn += 1) {
    await Promise.all([say(ann, `ann ${turn}`), say(bob, `bob ${turn}`)]);
  }
  await until("six", async () => (await texts(ann)).length === 6);
  const order = await texts(ann);
  await shows(bob, order);
  assert.deepEqual((await server.bodies("lobby")).map(({ text }) => text), order);
  const own = (page) => page.$$eval("#log .own .body", (all) => all.map((body) => body.textContent));
  assert.deepEqual(await own(ann), ["ann 0", "ann 1", "ann 2"]);
  assert.deepEqual(await own(bob), ["bob 0", "bob 1", "bob 2"]);
  assert.equal(await ann.$$eval("#unsent li", (all) => all.length), 0);
  await say(ann, "the last");
  // The note that bob joined may stand behind it.
  await ann.waitForFunction(() => [...document.querySelectorAll("#log .message")].at(-1).querySelector(".sent"));
  assert.equal(await bob.$$eval("#log .sent", (all) => all.length), 0, "the next message of another member removes the mark");
});

test("successive messages of one author stand under one name, and line breaks are kept", async (t) => {
  const server = await Server.start(t);
  await server.post("r", { text: "one" }, "x");
  await server.post("r", { text: "two" }, "x");
  await server.post("r", { text: "three" }, "y");
  const page = await enter(await profile(t), server.base, "r", "ann");
  await shows(page, ["one", "two", "three"]);
  assert.deepEqual(await page.$$eval("#log .who .name", (all) => all.map((name) => name.textContent)), ["x", "y"]);
  assert.deepEqual(await page.$$eval("#log .day", (all) => all.map((day) => day.textContent)), ["Today"]);
  await page.fill("#text", "");
  await page.type("#text", "first line");
  await page.press("#text", "Shift+Enter");
  await page.type("#text", "second line");
  const before = await page.$eval("#text", (text) => text.clientHeight);
  assert.ok(before > 50, `the field grows: ${before}`);
  await page.press("#text", "Enter");
  await until("sent", async () => (await texts(page)).at(-1) === "first line\nsecond line");
  assert.equal(await page.inputValue("#text"), "");
  await page.press("#text", "Enter");
  await say(page, "   ");
  await say(page, "end");
  await shows(page, ["one", "two", "three", "first line\nsecond line", "end"]);
});

test("a reload keeps history, name, and the marks of own messages", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await profile(t), server.base, "lobby", "Zoë");
  await say(page, "mine");
  await server.post("lobby", { text: "another's" }, "Zoë");
  await shows(page, ["mine", "another's"]);
  await page.reload();
  await live(page);
  await shows(page, ["mine", "another's"]);
  assert.deepEqual(await page.$$eval("#log .own .body", (all) => all.map((body) => body.textContent)), ["mine"]);
  assert.deepEqual(await names(page), ["Zoë"]);
  await page.click("#leave");
  await page.waitForSelector("#start:not([hidden])");
  assert.equal(page.url(), server.base);
  assert.equal(await page.inputValue("#name-field"), "Zoë");
  assert.deepEqual(await page.$$eval("#recent a", (all) => all.map((link) => link.textContent)), ["lobby"]);
  await page.click("#recent a");
  await live(page);
  await shows(page, ["mine", "another's"]);
  await page.goBack();
  await page.waitForSelector("#start:not([hidden])");
  await until("gone", async () => (await (await fetch(`${server.base}rooms/lobby/members`)).json()).count === 0);
});

test("a room's address asks for a name once", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const page = await context.newPage();
  await page.goto(`${server.base}rooms/lobby`);
  await page.waitForSelector("#start:not([hidden])");
  assert.equal(await page.inputValue("#room-field"), "lobby");
  assert.equal(await page.evaluate(() => document.activeElement.id), "name-field");
  await page.keyboard.type("ann");
  await page.keyboard.press("Enter");
  await live(page);
  const other = await context.newPage();
  await other.goto(`${server.base}rooms/other`);
  await live(other);
  assert.deepEqual(await names(other), ["ann"]);
  // Away to another page and back, from the page cache or anew: it is in its room.
  await other.goto("about:blank");
  await server.post("other", { text: "meanwhile" });
  await other.goBack();
  await live(other);
  await shows(other, ["meanwhile"]);
});

test("an invalid room or name is refused with the rule", async (t) => {
  const server = await Server.start(t);
  const page = await (await profile(t)).newPage();
  await page.goto(server.base);
  const fault = (field) => page.textContent(`#${field}-fault`);
  for (const [room, name, where, words] of [
    ["no room", "ann", "room", /1 to 64 of the characters A-Z a-z 0-9/],
    ["a/b", "ann", "room", /1 to 64/],
    ["..", "ann", "room", /1 to 64/],
    ["café", "ann", "room", /1 to 64/],
    ["lobby", "   ", "name", /a name for others/],
    ["lobby", "x".repeat(33), "name", /at most 32/],
    ["lobby", "ann\u202e", "name", /change the reading direction/],
    ["lobby", "\u3164", "name", /invisible/],
    ["lobby", "ann\u200c", "name", /invisible/],
    ["lobby", "ann\ufffe", "name", /not a character/],
    ["lobby", "\u200b", "name", /invisible/],
  ]) {
    await page.fill("#room-field", room);
    await page.fill("#name-field", name);
    await page.click("#enter button");
    assert.match(await fault(where), words, `${room} ${name}`);
    assert.equal(await fault(where === "room" ? "name" : "room"), "");
    assert.equal(await page.evaluate(() => document.activeElement.id), `${where}-field`);
    assert.equal(await page.getAttribute(`#${where}-field`, "aria-invalid"), "true");
    assert.equal(page.url(), server.base);
  }
  await page.fill("#room-field", "");
  await page.fill("#name-field", " ann  lee ");
  await page.click("#enter button");
  await live(page);
  assert.equal(page.url(), `${server.base}rooms/lobby`, "the room in the placeholder");
  assert.deepEqual(await names(page), ["ann lee"]);
});

test("the page works with blocked storage", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  await context.addInitScript(() => {
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(window, name, { get() { throw new DOMException("refused", "SecurityError"); } });
    }
  });
  const page = await enter(context, server.base, "lobby", "ann");
  await say(page, "hello");
  await shows(page, ["hello"]);
  await page.click("#leave");
  await page.waitForSelector("#recent:not([hidden])");
  assert.equal(await page.inputValue("#name-field"), "ann");
});

test("foreign values in storage do no harm", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  await context.addInitScript(() => {
    if (location.protocol === "about:") return;
    localStorage.setItem("racerd.rooms", '[1, null, "../x", "javascript:alert(1)", "fine"]');
    localStorage.setItem("racerd.name", '{"a":1}');
    sessionStorage.setItem("racerd.members", "garbage");
  });
  const page = await context.newPage();
  await page.goto(server.base);
  await page.waitForSelector("#recent:not([hidden])");
  assert.deepEqual(await page.$$eval("#recent a", (all) => all.map((link) => link.textContent)), ["fine"]);
  assert.equal(await page.inputValue("#name-field"), "");
});

test("members are listed, and joins and leaves are shown", async (t) => {
  const server = await Server.start(t);
  const ann = await enter(await profile(t), server.base, "lobby", "ann");
  assert.deepEqual(await names(ann), ["ann"]);
  assert.equal(await ann.textContent("#people li .you"), "you");
  const bob = await Member.join(server, "lobby", "bob");
  const carl = await Member.join(server, "lobby", "carl");
  await until("three", async () => (await names(ann)).join() === "ann,bob,carl");
  await ann.waitForFunction(() => document.querySelector("#log .presence")?.textContent === "bob and carl joined");
  await carl.leave();
  await until("two", async () => (await names(ann)).join() === "ann,bob");
  await ann.waitForFunction(() => document.querySelector("#log .presence")?.textContent === "bob joined · carl left");
  assert.equal(await ann.$$eval("#log .presence", (all) => all.length), 1, "one line, until somebody speaks");
  // A member who is back at once is not shown as leaving.
  await bob.leave();
  const again = await Member.join(server, "lobby", "bob");
  again.say({ type: "send", id: 1, body: { text: "back" } });
  await shows(ann, ["back"]);
  const dora = await Member.join(server, "lobby", "dora");
  await ann.waitForFunction(() => [...document.querySelectorAll("#log .presence")].at(-1).textContent === "dora joined");
  await dora.leave();
  await again.leave();
});

test("in a large room only the number of members is shown", async (t) => {
  const server = await Server.start(t, "--presence-max", "2");
  const ann = await enter(await profile(t), server.base, "lobby", "ann");
  await Member.join(server, "lobby", "bob");
  await Member.join(server, "lobby", "carl");
  await ann.waitForFunction(() => document.getElementById("people-note").textContent.startsWith("3 people here."));
  assert.deepEqual(await names(ann), []);
});

test("typing is shown and disappears", async (t) => {
  const server = await Server.start(t);
  const ann = await enter(await profile(t), server.base, "lobby", "ann");
  const bob = await enter(await profile(t), server.base, "lobby", "bob");
  const typing = (words) => ann.waitForFunction((words) => document.getElementById("typing").textContent === words, words);
  await bob.type("#text", "hello");
  await typing("bob is typing…");
  await bob.press("#text", "Enter");
  await typing("");
  await bob.type("#text", "x");
  await typing("bob is typing…");
  await bob.press("#text", "Backspace");
  await typing("");
  // It also expires, and disappears with the member.
  const carl = await Member.join(server, "lobby", "carl");
  carl.say({ type: "signal", body: { typing: true } });
  await typing("carl is typing…");
  await bob.type("#text", "y");
  await typing("carl and bob are typing…");
  await carl.leave();
  await typing("bob is typing…");
  await typing("");
  // Many keys cause few notifications.
  const dora = await Member.join(server, "lobby", "dora");
  await bob.type("#text", "a long sentence that takes many keys");
  await until("a signal", () => dora.values.some(({ type }) => type === "signal"));
  dora.say({ type: "ping", id: 1 });
  await until("pong", () => dora.values.some(({ type }) => type === "pong"));
  assert.ok(dora.values.filter(({ type }) => type === "signal").length <= 2);
});

test("the title counts unseen messages", async (t) => {
  const server = await Server.start(t);
  for (let index = 0; index < 40; index += 1) await server.post("lobby", { text: `old ${index}` });
  const context = await profile(t);
  await context.addInitScript(() => Object.defineProperty(document, "hidden", { get: () => window.isHidden === true }));
  const page = await enter(context, server.base, "lobby", "ann");
  const title = (wanted) => page.waitForFunction((wanted) => document.title === wanted, wanted);
  const hide = (hidden) => page.evaluate((hidden) => {
    window.isHidden = hidden;
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await title("lobby – racerd");
  await hide(true);
  await server.post("lobby", { text: "one" });
  await server.post("lobby", { text: "two" });
  await title("(2) lobby – racerd");
  await hide(false);
  await title("lobby – racerd");
  // Messages below the view count, too, until the view is at the end.
  assert.equal(await page.isVisible("#newest"), false);
  await page.$eval("#scroller", (scroller) => (scroller.scrollTop = 100));
  await page.waitForSelector("#newest:not([hidden])");
  await server.post("lobby", { text: "three" });
  await title("(1) lobby – racerd");
  await page.waitForFunction(() => document.getElementById("newest").textContent === "1 new message");
  assert.equal(await page.$eval("#scroller", (scroller) => Math.round(scroller.scrollTop)), 100, "the view stays");
  await page.click("#newest");
  await title("lobby – racerd");
  assert.equal(await page.isVisible("#newest"), false);
  // New messages are announced, history is not.
  await page.waitForFunction(() => document.getElementById("spoken").textContent.includes("three"));
  assert.ok(!(await page.textContent("#spoken")).includes("old"));
});

test("a message that is too long is not sent, and the page says by how much", async (t) => {
  const server = await Server.start(t, "--max-message-size", "1KiB");
  const page = await enter(await profile(t), server.base, "lobby", "ann");
  const fault = (words) => page.waitForFunction((words) => new RegExp(words).test(document.getElementById("text-fault").textContent), words);
  await say(page, "ä".repeat(1000));
  await fault("^This message is 1,\\d\\d\\d bytes too long\\. Shorten it");
  assert.equal((await page.inputValue("#text")).length, 1000, "the text stays in the field");
  await page.fill("#text", "ä".repeat(400));
  await fault("^$");
  await page.press("#text", "Enter");
  await shows(page, ["ä".repeat(400)]);
});

test("everything works by keyboard", async (t) => {
  const server = await Server.start(t);
  for (let index = 0; index < 60; index += 1) await server.post("lobby", { text: `see https://example.org/${index}` });
  const page = await (await profile(t, { viewport: { width: 390, height: 844 } })).newPage();
  await page.goto(server.base);
  await page.keyboard.type("lobby");
  await page.keyboard.press("Tab");
  await page.keyboard.type("ann");
  await page.keyboard.press("Enter");
  await live(page);
  assert.equal(await page.evaluate(() => document.activeElement.id), "text");
  await page.keyboard.type("by hand");
  await page.keyboard.press("Enter");
  await until("said", async () => (await texts(page)).at(-1) === "by hand");
  // Before the field comes the log, which scrolls by keys.
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.href || document.activeElement.tagName);
  await page.keyboard.press("Shift+Tab");
  assert.match(await focused(), /^https:\/\/example.org\//);
  await page.focus("#scroller");
  const top = () => page.$eval("#scroller", (scroller) => scroller.scrollTop);
  const before = await top();
  await page.keyboard.press("PageUp");
  await until("scrolled", async () => (await top()) < before);
  assert.notEqual(await page.$eval("#scroller", (scroller) => getComputedStyle(scroller).outlineStyle), "none", "the focus is visible");
  // The drawer with the members opens and closes.
  await page.focus("#people-button");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#drawer[open]");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.getElementById("drawer").contains(document.activeElement)), true);
  await page.keyboard.press("Escape");
  await page.waitForSelector("#drawer:not([open])", { state: "attached" });
  assert.equal(await focused(), "people-button");
});

test("the page works under a proxy's path", async (t) => {
  const server = await Server.start(t);
  const proxy = await prefixProxy(t, server);
  const page = await enter(await profile(t), proxy.base, "lobby", "ann");
  assert.equal(page.url(), `${proxy.base}rooms/lobby`);
  await say(page, "from under a path");
  await shows(page, ["from under a path"]);
  await page.reload();
  await live(page);
  await shows(page, ["from under a path"]);
  await page.click("#leave");
  await page.waitForSelector("#start:not([hidden])");
  assert.equal(page.url(), proxy.base);
  assert.deepEqual(proxy.elsewhere.filter((url) => url !== "/favicon.ico"), []);
});
