// A room whose history is damaged on the server's disk: the page shows what can be read, and says what cannot.

import assert from "node:assert/strict";
import test from "node:test";
import { enter, live, profile, say, Server, startBrowser, stopBrowser, texts, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const MANY = 200;
const DAMAGED = /^Part of this room's history is damaged and cannot be read \((?:up to )?(\d+) messages\)\.$/;

/**
 * Makes a room of `MANY` messages of which `kept` are kept, and damages the database page of each of the `damaged`
 * ones.
 */
async function damagedRoom(t, damaged, kept = MANY) {
  const server = await Server.start(t, "--request-rate", "0", "--keep-messages", `${kept}`);
  await server.fill("r", Array.from({ length: MANY }, (_, index) => ({ text: `number ${index + 1} ${"x".repeat(150)}` })));
  await until("pruned", async () => (await server.history("r", "after=0&limit=1")).messages[0].seq === MANY - kept + 1);
  // After a restart the server reads the file, not its memory.
  await server.stop();
  await server.restart();
  // Pruning moves pages, so that the last copy need not be the current one.
  for (const number of damaged) await server.damage(`number ${number} x`, kept < MANY);
  return server;
}

/** Scrolls to the beginning, with as many pages of older messages as that takes. */
async function toBeginning(page, words) {
  await until("the beginning", async () => {
    await page.$eval("#scroller", (scroller) => (scroller.scrollTop = 0));
    return (await page.textContent("#beginning")) === words;
  });
}

const notes = (page) => page.$$eval("#log .note.damaged", (all) => all.map((note) => note.textContent));

/** Returns the numbers of the messages, near the view and far from it, and the number that each note gives. */
async function shown(page) {
  const lines = await page.$$eval("#log .chunk", (chunks) => chunks.flatMap((chunk) => (
    chunk.classList.contains("gone") ? chunk.textContent.split("\n") : [...chunk.querySelectorAll(".body, .note")].map(({ textContent }) => textContent)
  )));
  const found = (pattern) => lines.map((line) => pattern.exec(line)?.[1]).filter(Boolean).map(Number);
  return { numbers: found(/^number (\d+) x/), lost: found(DAMAGED) };
}

test("a room whose newest messages are damaged can be entered, read and written, also after a reload", async (t) => {
  const server = await damagedRoom(t, [180]);
  const page = await enter(await profile(t), server.base, "r", "ann");
  const { numbers, lost } = await until("the note", async () => {
    const seen = await shown(page);
    return seen.lost.length === 1 && seen;
  });
  assert.ok(lost[0] >= 2 && lost[0] < 40, `${lost}`);
  assert.ok(!numbers.includes(180) && numbers.at(-1) === MANY, `${numbers}`);
  await say(page, "on");
  await until("the message", async () => (await texts(page)).at(-1) === "on");
  await page.reload();
  await live(page);
  await until("the note", async () => (await notes(page)).length === 1);
  assert.equal((await texts(page)).at(-1), "on");
  assert.equal(await page.textContent("#text-fault"), "");
});

test("loading older messages passes a damaged stretch: readable messages once and in order, one note for the stretch", async (t) => {
  const server = await damagedRoom(t, [100, 3]);
  const page = await enter(await profile(t), server.base, "r", "ann");
  await toBeginning(page, "This is the beginning.");
  const { numbers, lost } = await shown(page);
  assert.equal(lost.length, 2, `${lost}`);
  assert.equal(numbers.length + lost[0] + lost[1], MANY, "none is missing");
  assert.deepEqual(numbers, [...numbers].sort((one, other) => one - other));
  assert.ok(!numbers.includes(100) && !numbers.includes(3) && numbers.includes(60), `${numbers}`);
  const [first] = await page.$$eval("#log li", (rows) => rows.map((row) => row.className));
  assert.equal(first, "note damaged", "the beginning itself is damaged");
});

test("the number of messages in a damaged beginning is an upper bound, because some of them may have been pruned before", async (t) => {
  const server = await damagedRoom(t, [151], 50);
  const page = await enter(await profile(t), server.base, "r", "ann");
  await toBeginning(page, "Older messages are no longer kept.");
  const { numbers, lost } = await shown(page);
  assert.equal(numbers.at(-1), MANY);
  const [note] = await notes(page);
  assert.match(note, / \(up to \d+ messages\)\.$/);
  assert.ok(lost[0] > numbers[0] - 151, `${lost} before ${numbers[0]}`);
});
