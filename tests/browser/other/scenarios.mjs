// Short tests of what must work in every browser, driven by firefox.mjs or webkit.mjs. The tests in Chromium go into
// depth.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { sealedServer } from "../noise.mjs";
import { stored } from "../scenes.mjs";
import { relay, Server, until } from "../support.mjs";

const SHOTS = path.join(process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../../target", import.meta.url)), "browser");
const PHONE = { width: 390, height: 844 };
const KEYS = { right: "A".repeat(43), wrong: `${"A".repeat(42)}E` };

const text = (window, selector) => window.run((selector) => document.querySelector(selector)?.textContent ?? "", selector);
const value = (window, selector) => window.run((selector) => document.querySelector(selector).value, selector);
const isShown = (window, selector) => window.run((selector) => document.querySelector(selector)?.checkVisibility() ?? false, selector);
const texts = (window, selector = "#log .message .body") => window.run((selector) => [...document.querySelectorAll(selector)].map((made) => made.textContent), selector);
const member = (window) => window.run(() => JSON.parse(sessionStorage.getItem("racerd.members"))[0]);

/** Waits until an element's text is this, or matches. */
function reads(window, selector, wanted) {
  return until(`${selector}: ${wanted}`, async () => (wanted instanceof RegExp ? wanted.test(await text(window, selector)) : (await text(window, selector)) === wanted));
}

async function shows(window, wanted) {
  let seen;
  await until("the log", async () => JSON.stringify((seen = await texts(window))) === JSON.stringify(wanted)).catch(() => assert.deepEqual(seen, wanted));
}

const live = (window) => until("its room", () => window.run(() => /^\d/.test(document.getElementById("people-count").textContent)
  && document.getElementById("banner").hidden && document.getElementById("beginning").textContent !== "Loading…"));

async function enter(window, url, name) {
  await window.goto(url);
  await until("the start", () => isShown(window, "#enter"));
  await window.type("#name-field", name);
  await window.enter("#name-field");
  await live(window);
  return window;
}

async function say(window, words) {
  await window.type("#text", words);
  await window.enter("#text");
}

/** Asserts that nothing is wider than the window. */
async function fits(window) {
  assert.deepEqual(await window.run(() => [...document.querySelectorAll("body *")]
    .filter((made) => made.checkVisibility() && !made.closest(".unseen, svg") && made.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(({ outerHTML }) => outerHTML.slice(0, 100))), []);
}

/** Runs all tests with `Browser`. */
export async function testAll(Browser) {
  await mkdir(SHOTS, { recursive: true });
  const shot = (window, what) => window.shot(path.join(SHOTS, `${Browser.title.toLowerCase()}-${what}.png`));

  /** Starts a browser, and asserts at the end that its windows reported no errors. */
  async function browser(t, options) {
    const made = await Browser.start(t, options);
    t.diagnostic(await made.version);
    t.after(() => assert.deepEqual(made.complaints, [], "the page complained"));
    return made;
  }

  const check = (what, run) => test(`${Browser.title}: ${what}`, { timeout: 180_000 }, run);

  check("two windows talk; a reload keeps the member and the draft; scrolling loads history", async (t) => {
    const server = await Server.start(t, "--request-rate", "0");
    await server.fill("lobby", Array.from({ length: 120 }, (_, index) => ({ text: `${index + 1}` })));
    const made = await browser(t);
    const ann = await enter(await made.window(), `${server.base}rooms/lobby`, "ann");
    const bob = await made.window();
    await bob.goto(`${server.base}rooms/lobby`);
    await live(bob);
    assert.notEqual(await member(ann), await member(bob));
    await say(ann, "Hello from ann");
    await until("bob", async () => (await texts(bob)).at(-1) === "Hello from ann");
    await say(bob, "and from bob");
    await until("ann", async () => (await texts(ann)).at(-1) === "and from bob");
    const before = await member(ann);
    await ann.type("#text", "half a thought");
    await ann.reload();
    await live(ann);
    assert.equal(await member(ann), before);
    assert.equal(await value(ann, "#text"), "half a thought");
    await until("the beginning", async () => {
      await ann.run(() => (document.getElementById("scroller").scrollTop = 0) && null);
      return (await text(ann, "#beginning")) === "This is the beginning.";
    });
    await until("the first", async () => (await texts(ann))[0] === "1");
    await bob.close();
    await shot(ann, "history");
  });

  check("after kill -9 and a restart, the page is the same member, and messages sent meanwhile are stored once", async (t) => {
    const server = await Server.start(t);
    const ann = await enter(await (await browser(t)).window(), `${server.base}rooms/lobby`, "ann");
    const before = await member(ann);
    await say(ann, "before");
    await shows(ann, ["before"]);
    await server.kill();
    await reads(ann, "#banner", /Trying again/);
    await say(ann, "meanwhile");
    await reads(ann, "#unsent .body", "meanwhile");
    await server.restart();
    await shows(ann, ["before", "meanwhile"]);
    await live(ann);
    // This time the page closes, too, before the server is back.
    await server.kill();
    await reads(ann, "#banner", /Trying again/);
    await say(ann, "and gone");
    await reads(ann, "#unsent .body", "and gone");
    await ann.goto("about:blank");
    await server.restart();
    await ann.goto(`${server.base}rooms/lobby`);
    await live(ann);
    await shows(ann, ["before", "meanwhile", "and gone"]);
    assert.equal(await member(ann), before);
    assert.deepEqual(await stored(server, "lobby"), ["before", "meanwhile", "and gone"]);
  });

  check("a duplicated tab is another member; a closed tab's unsent messages are sent automatically", async (t) => {
    const server = await Server.start(t);
    const line = await relay(t, server);
    const made = await browser(t);
    const ann = await enter(await made.window(), `${line.base}rooms/lobby`, "ann");
    await say(ann, "first");
    await shows(ann, ["first"]);
    await ann.run(() => (document.getElementById("room-title").onclick = () => window.open(location.href)) && null);
    const copy = await made.opened(() => ann.click("#room-title"));
    await live(copy);
    await say(copy, "of the copy");
    await shows(copy, ["first", "of the copy"]);
    await shows(ann, ["first", "of the copy"]);
    assert.notEqual(await member(copy), await member(ann));
    const other = await made.window();
    await other.goto(`${line.base}rooms/other`);
    await live(other);
    line.losesDown = true;
    await say(copy, "stored");
    await until("stored", async () => (await stored(server, "lobby")).length === 3);
    line.holdsUp = true;
    await say(copy, "held");
    await reads(copy, "#unsent li:last-child .body", "held");
    line.cut();
    await reads(copy, "#banner", /Trying again/);
    await copy.close();
    line.mend();
    await until("sent", async () => (await stored(server, "lobby")).length === 4);
    assert.deepEqual(await stored(server, "lobby"), ["first", "of the copy", "stored", "held"]);
  });

  check("the room's key and the server's pin work, and others do not", async (t) => {
    const { server, pin } = await sealedServer(t);
    const line = await relay(t, server);
    const made = await browser(t);
    const at = (key) => `${line.base}rooms/e2e.room#pin=${pin}&k=${key}`;
    const ann = await enter(await made.window(), at(KEYS.right), "ann");
    assert.match(await text(ann, "#lock"), /Encrypted, Sealed/);
    await say(ann, "s3cret");
    await shows(ann, ["s3cret"]);
    const eve = await made.window();
    await eve.goto(at(KEYS.wrong));
    await live(eve);
    await shows(eve, ["Can't be read with this key"]);
    await ann.reload();
    await live(ann);
    await shows(ann, ["s3cret"]);
    const seen = Buffer.concat([...line.seen.up, ...line.seen.down]).toString("latin1");
    assert.doesNotMatch(seen, /s3cret|"e2e":1|"type":"(welcome|join|send)"/);
    await eve.goto("about:blank");
    await eve.goto(`${line.base}rooms/e2e.room#pin=${"A".repeat(43)}&k=${KEYS.right}`);
    await reads(eve, "#banner", /This server does not have the pinned key/);
    await eve.close();
    await shot(ann, "encrypted");
  });

  check("with blocked storage, the page says so before anything is typed, and works", async (t) => {
    const server = await Server.start(t);
    const window = await (await browser(t, { stores: false })).window();
    await window.goto(server.base);
    await until("said so", () => isShown(window, "#name-keeping"));
    await window.type("#room-field", "lobby");
    await window.type("#name-field", "ann");
    await window.enter("#name-field");
    await live(window);
    assert.equal(await isShown(window, "#keeping"), true);
    await say(window, "all the same");
    await shows(window, ["all the same"]);
    await window.click("#rename");
    await window.type("#name-field", "Anna");
    await window.enter("#name-field");
    await live(window);
    await say(window, "by another name");
    await shows(window, ["all the same", "by another name"]);
    assert.deepEqual(await stored(server, "lobby"), ["all the same", "by another name"]);
    await shot(window, "nothing-stored");
  });

  check("at a phone's width nothing is cut off, and the drawer opens", async (t) => {
    const server = await Server.start(t);
    await server.post("lobby", { text: `https://example.org/${"a".repeat(200)}` }, "W".repeat(32));
    await server.post("lobby", { text: Array.from({ length: 60 }, (_, line) => `${line + 1}. one more line`).join("\n") }, "jonas");
    await server.post("lobby", { text: "Sorry for the wall of text." }, "jonas");
    const window = await (await browser(t)).window(PHONE);
    await window.goto(`${server.base}rooms/lobby`);
    assert.deepEqual(await window.run(() => [innerWidth, innerHeight]), [PHONE.width, PHONE.height]);
    await fits(window);
    await enter(window, `${server.base}rooms/lobby`, "Zoë");
    await fits(window);
    assert.equal(await text(window, "#log .more:not([hidden])"), "Show more");
    await shot(window, "phone");
    await window.click("#people-button");
    await until("the drawer", () => isShown(window, "#drawer"));
    await window.run(() => Promise.all(document.getAnimations().map(({ finished }) => finished)).then(() => null));
    await fits(window);
    await shot(window, "phone-members");
    await window.click("#drawer > button");
    await until("closed", async () => !(await isShown(window, "#drawer")));
  });
}
