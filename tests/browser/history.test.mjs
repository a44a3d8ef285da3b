// A long log: every message once and in order, and the view stays still while older messages are loaded.

import assert from "node:assert/strict";
import test from "node:test";
import { enter, profile, relay, Server, startBrowser, stopBrowser, until } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

/** 20,000 would take a minute and a half; the time of each page stays the same. */
const MANY = Number(process.env.RACERD_LOG_ROWS ?? 5000);
/** The rows near the view, and two elements for each fifty far from it. */
const MOST_ELEMENTS = 5000;
const FAST = ["--durability", "normal", "--request-rate", "0"];

/** Returns texts of different heights, so that a wrongly estimated height causes a jump. */
function text(index) {
  const words = `message ${index} `;
  if (index % 17 === 0) return Array.from({ length: 1 + (index % 9) }, (_, line) => `${words} line ${line}`).join("\n");
  return words.repeat(1 + (index % 13) * (index % 5 === 0 ? 6 : 1)).trim();
}

/** In the page: scrolls up by steps, and compares the positions of rows in view around each page of older messages. */
function scrollUp({ step, most }) {
  const scroller = document.getElementById("scroller");
  const log = document.getElementById("log");
  const rows = () => {
    const { top, bottom } = scroller.getBoundingClientRect();
    const chunks = [...log.children].filter((chunk) => {
      const box = chunk.getBoundingClientRect();
      return box.bottom > top && box.top < bottom;
    });
    return chunks.flatMap((chunk) => [...chunk.querySelectorAll(".message")]).filter((row) => {
      const box = row.getBoundingClientRect();
      return box.bottom > top && box.top < bottom;
    });
  };
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return (async () => {
    const loads = [];
    let worst = 0;
    let before = null;
    // The body of a row, because the name above it may go where pages meet.
    const said = () => rows().map((row) => row.querySelector(".body"));
    const sample = () => (before = new Map(said().map((body) => [body, body.getBoundingClientRect().top])));
    const compare = () => {
      for (const [row, top] of before) worst = Math.max(worst, Math.abs(row.getBoundingClientRect().top - top));
    };
    let slowest = 0;
    const observer = new MutationObserver((changes) => {
      if (!changes.some(({ target, addedNodes }) => target === log && addedNodes.length > 0)) return;
      compare();
      loads.push(log.children.length);
    });
    observer.observe(log, { childList: true });
    const isDone = () => document.getElementById("beginning").textContent === "This is the beginning.";
    for (let tries = 0; tries < most && !(isDone() && scroller.scrollTop === 0); tries += 1) {
      scroller.scrollTop -= step;
      // Anything loaded until the next step is loaded without scrolling.
      sample();
      const begun = performance.now();
      await frame();
      slowest = Math.max(slowest, performance.now() - begun);
      compare();
    }
    observer.disconnect();
    return { loads: loads.length, worst, slowest, atTop: scroller.scrollTop === 0 };
  })();
}

/**
 * In the page: scrolls down by steps; every row in view must move by exactly the step. Records each row's text and the
 * largest number of elements.
 */
function scrollDown({ step }) {
  const scroller = document.getElementById("scroller");
  const log = document.getElementById("log");
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return (async () => {
    let worst = 0;
    let most = 0;
    let isSorted = true;
    const seen = new Map();
    const note = () => {
      most = Math.max(most, log.getElementsByTagName("*").length);
      const rows = [...log.querySelectorAll(".message")].map((row) => [Number(row.dataset.seq), row.querySelector(".body").textContent]);
      isSorted &&= rows.every(([seq], index) => index === 0 || seq > rows[index - 1][0]);
      for (const [seq, text] of rows) seen.set(seq, text);
    };
    for (;;) {
      note();
      const { top } = scroller.getBoundingClientRect();
      const chunk = [...log.children].find((chunk) => chunk.getBoundingClientRect().bottom > top + 10);
      const row = [...chunk.children].find((row) => row.getBoundingClientRect().bottom > top + 10);
      const [from, at] = [row.getBoundingClientRect().top, scroller.scrollTop];
      scroller.scrollTop += step;
      const moved = scroller.scrollTop - at;
      await frame();
      worst = Math.max(worst, Math.abs(from - row.getBoundingClientRect().top - moved));
      if (moved < 1) return { worst, most, isSorted, rows: [...seen].sort(([a], [b]) => a - b) };
    }
  })();
}

test(`scrolling up to the first of ${MANY} messages and down again causes no jump`, async (t) => {
  const server = await Server.start(t, ...FAST);
  const wanted = Array.from({ length: MANY }, (_, index) => text(index + 1));
  await server.fill("long", wanted.map((text) => ({ text })));
  const page = await enter(await profile(t), server.base, "long", "ann");
  const up = await page.evaluate(scrollUp, { step: 900, most: 5000 });
  t.diagnostic(`up: ${JSON.stringify(up)}`);
  assert.ok(up.atTop);
  assert.ok(up.worst <= 1.5, `a row moved by ${up.worst} px`);
  assert.ok(up.loads >= MANY / 50 - 2, `${up.loads} pages`);
  const elements = () => page.evaluate(() => document.querySelectorAll("#log *").length);
  assert.ok((await elements()) < MOST_ELEMENTS, `${await elements()} elements at the beginning`);
  // Far rows were released and are rebuilt: each is there when it is passed, in order.
  const { worst, rows, isSorted, most } = await page.evaluate(scrollDown, { step: 777 });
  assert.deepEqual(rows, wanted.map((text, index) => [index + 1, text]), "every seq");
  assert.ok(isSorted, "once, in order");
  assert.ok(worst <= 1.5, `a row moved by ${worst} px more than was scrolled`);
  assert.ok(most < MOST_ELEMENTS, `${most} elements on the way down`);
  // The page still responds quickly: neither a key nor a message causes a long task.
  const took = await page.evaluate(async () => {
    const begun = performance.now();
    const text = document.getElementById("text");
    text.value = "x";
    text.dispatchEvent(new Event("input"));
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    return performance.now() - begun;
  });
  t.diagnostic(`a key with ${MANY} rows: ${Math.round(took)} ms to the second frame; ${await page.evaluate(() => document.querySelectorAll("*").length)} elements`);
});

test("after a change of width, the row that was in view stays in view", async (t) => {
  const server = await Server.start(t, ...FAST);
  await server.fill("long", Array.from({ length: 400 }, (_, index) => ({ text: text(index + 1) })));
  const page = await enter(await profile(t), server.base, "long", "ann");
  await page.evaluate(scrollUp, { step: 600, most: 12 });
  const top = () => page.evaluate(() => {
    const scroller = document.getElementById("scroller").getBoundingClientRect();
    const row = [...document.querySelectorAll("#log .message")].find((row) => row.getBoundingClientRect().bottom > scroller.top + 1);
    return Number(row.dataset.seq);
  });
  const before = await top();
  await page.setViewportSize({ width: 390, height: 760 });
  await until("the same row", async () => Math.abs((await top()) - before) <= 1);
  assert.ok((await page.evaluate(scrollUp, { step: 600, most: 20 })).worst <= 1.5);
  await page.setViewportSize({ width: 1100, height: 760 });
  assert.ok((await page.evaluate(scrollDown, { step: 555 })).worst <= 1.5);
});

test("a view at the end follows new messages, another one is not moved", async (t) => {
  const server = await Server.start(t, ...FAST);
  await server.fill("long", Array.from({ length: 120 }, (_, index) => ({ text: text(index + 1) })));
  const page = await enter(await profile(t), server.base, "long", "ann");
  const gap = () => page.$eval("#scroller", ({ scrollTop, scrollHeight, clientHeight }) => Math.round(scrollHeight - scrollTop - clientHeight));
  assert.ok((await gap()) <= 1);
  for (let index = 0; index < 60; index += 1) await server.post("long", { text: text(index) });
  await until("all", () => page.$eval("#log .chunk:last-child .message:last-child", (row) => row.dataset.seq === "180"));
  assert.ok((await gap()) <= 1);
  await page.setViewportSize({ width: 700, height: 400 });
  await until("the end, in a smaller window", async () => (await gap()) <= 1);
  // A thousand messages at once cause a layout per frame, not per message: with a long log, a layout is expensive.
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable");
  const layouts = async () => (await cdp.send("Performance.getMetrics")).metrics.find(({ name }) => name === "LayoutCount").value;
  const before = await layouts();
  await server.fill("long", Array.from({ length: 1000 }, (_, index) => ({ text: `burst ${index}` })));
  await until("all", () => page.$eval("#log .chunk:last-child .message:last-child", (row) => row.dataset.seq === "1180"));
  assert.ok((await layouts()) - before < 700, `${(await layouts()) - before} layouts`);
  await until("the end, after the burst", async () => (await gap()) <= 1);
});

test("an author is not shown again where two pages of history meet", async (t) => {
  const server = await Server.start(t, ...FAST);
  await server.fill("long", Array.from({ length: 120 }, (_, index) => ({ text: `${index + 1}` })));
  const page = await enter(await profile(t), server.base, "long", "ann");
  await page.evaluate(scrollUp, { step: 900, most: 100 });
  const named = () => page.$$eval("#log .message", (rows) => rows.filter((row) => row.querySelector(".who, .avatar") || row.classList.contains("first")).map((row) => row.dataset.seq));
  assert.deepEqual(await named(), ["1"]);
});

test("messages that are no longer kept are reported at the beginning", async (t) => {
  const server = await Server.start(t, "--durability", "memory", "--tail-bytes", "4KiB", "--request-rate", "0");
  await server.fill("short", Array.from({ length: 300 }, (_, index) => ({ text: `message ${index + 1}` })));
  const page = await enter(await profile(t), server.base, "short", "ann");
  await page.waitForFunction(() => document.getElementById("beginning").textContent === "Older messages are no longer kept.");
  const first = await page.$eval("#log .message", (row) => Number(row.dataset.seq));
  assert.ok(first > 1 && first < 300);
  assert.equal(await page.$$eval("#log .message", (rows) => rows.at(-1).dataset.seq), "300");
});

test("messages pruned during a lost connection are reported as a hole", async (t) => {
  const server = await Server.start(t, "--durability", "memory", "--tail-bytes", "4KiB", "--request-rate", "0");
  const line = await relay(t, server);
  const page = await enter(await profile(t), line.base, "short", "ann");
  await server.post("short", { text: "message 0" });
  await until("heard", () => page.$$eval("#log .message", (rows) => rows.length === 1));
  line.cut();
  await server.fill("short", Array.from({ length: 300 }, (_, index) => ({ text: `message ${index + 1}` })));
  line.mend();
  await page.waitForSelector("#log .hole");
  await until("the last", () => page.$$eval("#log .message", (rows) => rows.at(-1).dataset.seq === "301"));
  const seqs = await page.$$eval("#log .message", (rows) => rows.map((row) => Number(row.dataset.seq)));
  assert.equal(await page.textContent("#log .hole"), `${seqs[1] - 2} messages are no longer kept.`);
  assert.deepEqual(seqs, [1, ...Array.from({ length: 302 - seqs[1] }, (_, index) => seqs[1] + index)]);
});

test("far rows are released: the selection stays, the browser's search finds the rest, and new messages are counted", async (t) => {
  const server = await Server.start(t, ...FAST);
  await server.fill("long", Array.from({ length: 1000 }, (_, index) => ({ text: text(index + 1) })));
  const page = await enter(await profile(t), server.base, "long", "ann");
  const row = (seq) => page.$(`#log [data-seq="${seq}"]`);
  // Scroll up to the first, with one of the newest selected.
  await page.evaluate(() => {
    const last = document.querySelector('#log [data-seq="990"] .body');
    getSelection().selectAllChildren(last);
  });
  await page.evaluate(scrollUp, { step: 3000, most: 400 });
  assert.equal(await page.evaluate(() => getSelection().toString()), text(990));
  assert.ok(await row(1));
  assert.equal(await row(500), null, "released");
  assert.ok(await row(990), "selected");
  for (const said of ["one", "two"]) await server.post("long", { text: said });
  await page.waitForFunction(() => document.getElementById("newest").textContent === "2 new messages");
  // The search finds released text, and where it moves the view, rows are built.
  const found = await page.evaluate(() => {
    document.activeElement.blur();
    getSelection().removeAllRanges();
    const found = window.find("message 501 message 501", false, false, true);
    const chunk = getSelection().anchorNode.parentElement.closest(".chunk");
    const wasGone = chunk.querySelector(".message") === null;
    getSelection().removeAllRanges();
    chunk.scrollIntoView();
    return [found, wasGone];
  });
  assert.deepEqual(found, [true, true]);
  await until("the row", () => row(501));
  // The button moves to the end, where the counted messages are seen.
  await page.click("#newest");
  await page.waitForSelector('#log [data-seq="1002"]');
  assert.ok((await page.$eval("#scroller", ({ scrollTop, scrollHeight, clientHeight }) => scrollHeight - scrollTop - clientHeight)) <= 1);
  await page.$eval("#scroller", (scroller) => (scroller.scrollTop -= 2000));
  await page.waitForSelector("#newest:not([hidden])");
  assert.equal(await page.textContent("#newest"), "Newest", "seen messages no longer count");
  await server.post("long", { text: "three" });
  await page.waitForFunction(() => document.getElementById("newest").textContent === "1 new message");
});

test("a message higher than the screen is folded, and its first line stays in place", async (t) => {
  const server = await Server.start(t, ...FAST);
  await server.post("long", { text: "short\n".repeat(20).trim() });
  await server.post("long", { text: "\n".repeat(15_000) + "end" });
  await server.post("long", { text: "after" });
  const page = await enter(await profile(t), server.base, "long", "ann");
  const height = (seq) => page.$eval(`#log [data-seq="${seq}"]`, (row) => row.getBoundingClientRect().height);
  assert.ok((await height(2)) < 760, `${await height(2)} px`);
  assert.equal(await page.$$eval("#log .more:not([hidden])", (all) => all.map((button) => button.textContent)).then(String), "Show more,Show more".slice(0, (await height(1)) > 400 ? 19 : 9));
  const more = page.locator('#log [data-seq="2"] .more');
  assert.equal(await more.getAttribute("aria-expanded"), "false");
  const top = () => page.$eval('#log [data-seq="2"]', (row) => row.getBoundingClientRect().top);
  const before = await top();
  await more.click();
  assert.ok((await height(2)) > 100_000);
  assert.ok(Math.abs((await top()) - before) < 2, "it unfolds downwards");
  await page.$eval("#scroller", (scroller) => (scroller.scrollTop = 200_000));
  await page.$eval("#scroller", (scroller) => (scroller.scrollTop = scroller.scrollHeight));
  await until("after", async () => (await page.textContent("#log .message:last-child .body")) === "after");
  await page.$eval('#log [data-seq="2"] .more', (button) => button.click());
  assert.ok((await height(2)) < 760);
  assert.ok((await top()) >= 0, "folded again, it is still in view");
});
