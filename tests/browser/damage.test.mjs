// A room whose history is damaged on the server's disk: it is entered, what can be read is shown, and what cannot is said.

import assert from "node:assert/strict";
import test from "node:test";
import { enter, live, profile, say, Server, startBrowser, stopBrowser, texts, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const MANY = 200;
const DAMAGED = /^Part of this room's history is damaged and cannot be read \((\d+) messages\)\.$/;

/** A room of `MANY` messages, with the page of the database in which each of these stands damaged under the server. */
async function damagedRoom(t, ...damaged) {
  const server = await Server.start(t, "--request-rate", "0");
  await server.fill("r", Array.from({ length: MANY }, (_, index) => ({ text: `number ${index + 1} ${"x".repeat(150)}` })));
  // From now on it reads the file, and not what it knows.
  await server.stop();
  await server.restart();
  for (const number of damaged) await server.damage(`number ${number} x`);
  return server;
}

const notes = (page) => page.$$eval("#log .note.damaged", (all) => all.map((note) => note.textContent));

/** The numbers of the messages, near the view and far from it, and how many more stand behind each note. */
async function shown(page) {
  const lines = await page.$$eval("#log .chunk", (chunks) => chunks.flatMap((chunk) => (
    chunk.classList.contains("gone") ? chunk.textContent.split("\n") : [...chunk.querySelectorAll(".body, .note")].map(({ textContent }) => textContent)
  )));
  const found = (pattern) => lines.map((line) => pattern.exec(line)?.[1]).filter(Boolean).map(Number);
  return { numbers: found(/^number (\d+) x/), lost: found(DAMAGED) };
}

test("a room whose newest messages are damaged is entered, says so, and goes on; over a reload, too", async (t) => {
  const server = await damagedRoom(t, 180);
  const page = await enter(await profile(t), server.base, "r", "ann");
  const { numbers, lost } = await until("the note", async () => {
    const seen = await shown(page);
    return seen.lost.length === 1 && seen;
  });
  assert.ok(lost[0] >= 2 && lost[0] < 40, `${lost}`);
  assert.ok(!numbers.includes(180) && numbers.at(-1) === MANY, `${numbers}`);
  await say(page, "on");
  await until("it is heard", async () => (await texts(page)).at(-1) === "on");
  await page.reload();
  await live(page);
  await until("the note", async () => (await notes(page)).length === 1);
  assert.equal((await texts(page)).at(-1), "on");
  assert.equal(await page.textContent("#text-fault"), "");
});

test("older messages are loaded over a damaged stretch: each that can be read once, in order, and one line for the stretch", async (t) => {
  const server = await damagedRoom(t, 100, 3);
  const page = await enter(await profile(t), server.base, "r", "ann");
  // Each page of older messages comes as soon as the beginning is near.
  await until("the beginning", async () => {
    await page.$eval("#scroller", (scroller) => (scroller.scrollTop = 0));
    return (await page.textContent("#beginning")) === "This is the beginning.";
  });
  const { numbers, lost } = await shown(page);
  assert.equal(lost.length, 2, `${lost}`);
  assert.equal(numbers.length + lost[0] + lost[1], MANY, "none is missing");
  assert.deepEqual(numbers, [...numbers].sort((one, other) => one - other));
  assert.ok(!numbers.includes(100) && !numbers.includes(3) && numbers.includes(60), `${numbers}`);
  const [first] = await page.$$eval("#log li", (rows) => rows.map((row) => row.className));
  assert.equal(first, "note damaged", "the beginning itself is damaged");
});
