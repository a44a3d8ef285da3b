// Looks and accessibility: axe-core and the width of the screen in every state, and screenshots in target/browser/ (two
// of them are committed in screenshots/).

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { sealedProxy } from "./noise.mjs";
import { enter, Member, profile, relay, require, say, Server, startBrowser, stopBrowser, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const SHOTS = path.join(process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../target", import.meta.url)), "browser");
await mkdir(SHOTS, { recursive: true });
const shot = (page, name) => page.screenshot({ path: path.join(SHOTS, `${name}.png`) });

const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
const SMALL = { viewport: { width: 320, height: 568 }, isMobile: true, hasTouch: true };

const AXE = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");

/** Asserts that axe-core finds nothing serious or critical. */
async function isAccessible(page, state) {
  // Evaluated by the test, so that the page's policy need not allow it.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const words = found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
  assert.deepEqual(words, [], state);
}

/** Asserts that nothing is wider than the screen. */
async function fits(page, state) {
  const wide = await page.evaluate(() => {
    const { clientWidth, scrollWidth } = document.documentElement;
    const scroller = document.getElementById("scroller");
    const over = [...document.querySelectorAll("body *")].filter((made) => made.checkVisibility() && !made.closest(".unseen, svg")
      && made.getBoundingClientRect().right > clientWidth + 0.5 && getComputedStyle(made.parentElement).overflow !== "hidden");
    return [scrollWidth > clientWidth, scroller.scrollWidth > scroller.clientWidth, over.map(({ outerHTML }) => outerHTML.slice(0, 100))];
  });
  assert.deepEqual(wide, [false, false, []], state);
}

/** Waits until all animations have finished. */
function comesToRest(page) {
  return page.evaluate(() => Promise.all(document.getAnimations().map(({ finished }) => finished)));
}

const TALK = [
  [-1467, "maya", "Has anyone looked at the greenhouse sensor? It says 41 °C since noon."],
  [-1462, "jonas", "That's the one in the sun. I'll move it behind the beam tomorrow."],
  [-1459, "maya", "Thanks! The tomatoes were getting worried."],
  [-58, "jonas", "Moved it. 24.5 °C now, which sounds more like a greenhouse and less like an oven."],
  [-57, "jonas", "The wiring is on the wiki: https://wiki.example.org/greenhouse/sensors"],
  [-41, "Zoë", "Lovely. Could it post here when it gets below 5 °C at night?"],
  [-40, "maya", "It can, it only has to POST to this room:"],
  [-40, "maya", "curl garden.example/rooms/greenhouse/messages \\\n  -H 'Content-Type: application/json' -d '{\"text\":\"4.5 °C, brrr\"}'"],
  [-12, "Zoë", "Oh nice, then I'll set that up on the Pi this evening."],
  [-3, "jonas", "Shout if the old cable gives you trouble, there's a spare one in the shed."],
];

/** Opens a room with that talk in it, with plausible times. */
async function talk(t, options, name = "Zoë") {
  const server = await Server.start(t);
  for (const [, author, text] of TALK) await server.post("greenhouse", { text }, author);
  const context = await profile(t, options);
  await context.addInitScript((name) => {
    if (location.protocol !== "about:") sessionStorage.setItem("racerd.members", JSON.stringify([`m-${name}`]));
  }, name);
  await context.routeWebSocket(/\/ws/, (page) => {
    const up = page.connectToServer();
    up.onMessage((text) => {
      const value = JSON.parse(text);
      if (value.type === "message" && value.seq <= TALK.length) {
        value.at += TALK[value.seq - 1][0] * 60_000;
        value.from.member = `m-${value.from.name}`;
      }
      page.send(JSON.stringify(value));
    });
  });
  const members = [];
  for (const other of ["jonas", "maya"]) members.push(await Member.join(server, "greenhouse", other));
  const page = await enter(context, server.base, "greenhouse", name);
  await until("all", () => page.$$eval("#log .message", (rows) => rows.length === 10));
  await say(page, "Will do, thank you!");
  await page.waitForSelector("#log .sent");
  members[1].say({ type: "signal", body: { typing: true } });
  await page.waitForSelector("#typing bdi");
  return { server, page, context, members };
}

test("the start view", async (t) => {
  const server = await Server.start(t);
  for (const [name, options] of [["start-light", { colorScheme: "light" }], ["start-dark", { colorScheme: "dark" }], ["start-small", SMALL]]) {
    const context = await profile(t, options);
    await context.addInitScript(() => {
      if (location.protocol === "about:") return;
      localStorage.setItem("racerd.rooms", JSON.stringify(["greenhouse", "lobby", "a-room-with-quite-a-long-name-that-goes-on-and-on-until-64-chars"]));
    });
    const page = await context.newPage();
    await page.goto(server.base);
    await page.waitForSelector("#recent:not([hidden])");
    await isAccessible(page, name);
    await fits(page, name);
    await page.fill("#room-field", "no room");
    await page.click("#enter button");
    await isAccessible(page, `${name} with faults`);
    await fits(page, `${name} with faults`);
    await shot(page, name);
  }
});

for (const [name, options] of [
  ["wide-light", { viewport: { width: 1200, height: 760 }, colorScheme: "light" }],
  ["wide-dark", { viewport: { width: 1200, height: 760 }, colorScheme: "dark" }],
  ["phone-light", { ...PHONE, colorScheme: "light" }],
  ["phone-dark", { ...PHONE, colorScheme: "dark" }],
  ["small", { ...SMALL, colorScheme: "light" }],
]) {
  test(`a room: ${name}`, async (t) => {
    const { page } = await talk(t, options);
    await shot(page, name);
    await isAccessible(page, name);
    await fits(page, name);
    if (!options.isMobile) return;
    await page.click("#people-button");
    await page.waitForSelector("#drawer[open]");
    await comesToRest(page);
    await isAccessible(page, `${name}, members`);
    await fits(page, `${name}, members`);
    await shot(page, `${name}-members`);
    await page.click("#drawer > button");
    assert.equal(await page.isVisible("#drawer"), false);
  });
}

test("an empty room", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await profile(t, PHONE), server.base, "empty", "ann");
  assert.equal(await page.textContent("#beginning"), "Nothing has been said here yet. Say hello!");
  await isAccessible(page, "empty");
  await shot(page, "empty");
});

for (const [name, options] of [["lost-light", {}], ["lost-dark", { ...PHONE, colorScheme: "dark" }]]) {
  test(`troubles: ${name}`, async (t) => {
    const server = await Server.start(t, "--durability", "memory");
    const line = await relay(t, server);
    const page = await enter(await profile(t, options), line.base, "lobby", "ann");
    await say(page, "Does this arrive?");
    await page.waitForSelector("#log .sent");
    line.losesDown = true;
    await say(page, "And this?");
    await until("stored", async () => (await server.bodies("lobby")).length === 2);
    await server.kill();
    line.mend();
    await server.restart();
    await page.waitForSelector("#unsent .failed");
    await server.stop();
    await page.waitForSelector("#banner button:not([hidden])");
    await say(page, "Said while it is away.");
    await comesToRest(page);
    await shot(page, name);
    await isAccessible(page, name);
    await fits(page, name);
  });
}

for (const [name, options] of [["elsewhere-light", {}], ["elsewhere-dark", { ...PHONE, colorScheme: "dark" }]]) {
  test(`waiting and failed messages elsewhere: ${name}`, async (t) => {
    const server = await Server.start(t, "--durability", "memory");
    const line = await relay(t, server);
    const context = await profile(t, options);
    const gone = await enter(context, line.base, "greenhouse", "Zoë");
    line.losesDown = true;
    await say(gone, "Was this stored? Nobody knows, since the server forgot all of it.");
    await until("stored", async () => (await server.bodies("greenhouse")).length === 1);
    await gone.close();
    await server.kill();
    line.mend();
    await server.restart();
    const other = await enter(context, line.base, "r".repeat(64), "W".repeat(32));
    await other.waitForSelector("#elsewhere.failed");
    line.cut();
    await other.waitForSelector("#banner:not([hidden])");
    await say(other, `https://example.org/${"a".repeat(200)}`);
    await other.waitForSelector("#unsent li");
    await other.click("#leave");
    for (const [state, isStart] of [["start", true], ["room", false]]) {
      if (!isStart) {
        await other.fill("#room-field", "b");
        await other.fill("#name-field", "Zoë");
        await other.press("#name-field", "Enter");
      }
      await other.waitForFunction(() => /1 message not sent, 1 message waiting$/.test(document.querySelector("#elsewhere summary").textContent));
      await other.$eval("#elsewhere", (elsewhere) => (elsewhere.open = true));
      const colours = await other.$$eval("#elsewhere .state", (all) => all.map((state) => getComputedStyle(state).color));
      assert.notEqual(colours[0], colours[1], "a waiting message does not look like a failed one");
      await isAccessible(other, `${name}, ${state}`);
      await fits(other, `${name}, ${state}`);
      await shot(other, `${name}-${state}`);
    }
  });
}

for (const [name, options] of [["kept-light", {}], ["kept-dark", { ...PHONE, colorScheme: "dark" }], ["kept-small", SMALL]]) {
  test(`a folded message, blocked storage, a room without its key: ${name}`, async (t) => {
    const server = await Server.start(t);
    await server.post("lobby", { text: Array.from({ length: 60 }, (_, line) => `${line + 1}. one more line of a long list`).join("\n") }, "jonas");
    await server.post("lobby", { text: "Sorry for the wall of text." }, "jonas");
    const context = await profile(t, options);
    await context.addInitScript(() => {
      for (const storage of ["localStorage", "sessionStorage"]) Object.defineProperty(window, storage, { get() { throw new DOMException("refused", "SecurityError"); } });
    });
    const page = await context.newPage();
    await page.goto(server.base);
    await page.waitForSelector("#name-keeping:not([hidden])");
    await isAccessible(page, `${name}, the start`);
    await fits(page, `${name}, the start`);
    await shot(page, `${name}-start`);
    await page.fill("#room-field", "lobby");
    await page.fill("#name-field", "Zoë");
    await page.press("#name-field", "Enter");
    await page.waitForSelector("#log .more:not([hidden])");
    await isAccessible(page, name);
    await fits(page, name);
    await shot(page, name);
    await page.goto(`${server.base}rooms/e2e.nokey`);
    await page.fill("#name-field", "Zoë");
    await page.press("#name-field", "Enter");
    await until("locked", () => page.isDisabled("#text"));
    await page.waitForFunction(() => /Nothing/.test(document.getElementById("beginning").textContent));
    await isAccessible(page, `${name}, locked`);
    await fits(page, `${name}, locked`);
    await shot(page, `${name}-locked`);
  });
}

test("long names and texts fit on 320 pixels", async (t) => {
  const server = await Server.start(t);
  const long = "W".repeat(32);
  for (const text of ["x".repeat(3000), `https://example.org/${"a".repeat(500)}`, "𒐫".repeat(400), "a\tb\t".repeat(60)]) {
    await server.post("r".repeat(64), { text }, long);
  }
  await server.post("r".repeat(64), { deep: { json: "y".repeat(400) } }, long);
  const page = await enter(await profile(t, SMALL), server.base, "r".repeat(64), long);
  await until("all", () => page.$$eval("#log .message", (rows) => rows.length === 5));
  await fits(page, "320");
  await shot(page, "small-long");
  await page.fill("#text", "line\n".repeat(60));
  assert.ok((await page.$eval("#text", (text) => text.clientHeight)) <= 568 * 0.41, "the field leaves room for the log");
  await page.click("#people-button");
  await page.waitForSelector("#drawer[open]");
  await comesToRest(page);
  await fits(page, "320, members");
});

test("with reduced motion nothing moves", async (t) => {
  const server = await Server.start(t);
  const page = await enter(await profile(t, { ...PHONE, reducedMotion: "reduce" }), server.base, "lobby", "ann");
  await page.click("#people-button");
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
});

for (const [name, options] of [
  ["encrypted-light", { viewport: { width: 1200, height: 760 }, colorScheme: "light" }],
  ["encrypted-dark", { ...PHONE, colorScheme: "dark" }],
  ["encrypted-small", { ...SMALL, colorScheme: "light" }],
]) {
  test(`an encrypted room: ${name}`, async (t) => {
    const server = await Server.start(t);
    const proxy = await sealedProxy(t, server);
    const context = await profile(t, options);
    const room = "e2e.r".padEnd(26, "W");
    const page = await context.newPage();
    // The longest room name, with messages under two keys.
    await page.goto(`${proxy.base}rooms/${room}#pin=${proxy.pin}&k=${"A".repeat(43)}`);
    await page.fill("#name-field", "Zoë");
    await page.press("#name-field", "Enter");
    await page.waitForFunction(() => /Encrypted, Sealed/.test(document.getElementById("lock").textContent));
    await until("open", () => page.isHidden("#banner"));
    await say(page, "Under the first key.");
    await page.waitForSelector("#log .sent");
    await page.goto("about:blank");
    await page.goto(`${proxy.base}rooms/${room}#pin=${proxy.pin}&k=${"A".repeat(42)}E`);
    await page.waitForSelector("#log .unreadable");
    await say(page, "Under the second key.");
    await page.waitForSelector("#log .sent");
    await isAccessible(page, name);
    await fits(page, name);
    await shot(page, name);
    await page.click("#lock");
    await comesToRest(page);
    await isAccessible(page, `${name}, the lock`);
    await fits(page, `${name}, the lock`);
    await shot(page, `${name}-lock`);
  });
}
