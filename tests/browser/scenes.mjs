// Scenes that several browser tests share: lost connections, and messages that wait.

import { say, until } from "./support.mjs";

/** Waits until the banner is shown and its text matches `words`. */
export const banner = (page, words) => page.waitForFunction((words) => {
  const banner = document.getElementById("banner");
  return !banner.hidden && new RegExp(words).test(banner.textContent);
}, words);

/** Waits until the page pauses before its next attempt to connect. */
export const waits = (page) => banner(page, "Trying again");

/**
 * Records each text of the banner from now on, since some are shown for a moment only. Returns a function that reads
 * them.
 */
export async function recordBanner(page) {
  await page.evaluate(() => {
    window.bannerTexts = [];
    const words = document.querySelector("#banner span");
    new MutationObserver(() => window.bannerTexts.push(words.textContent)).observe(words, { childList: true, characterData: true, subtree: true });
  });
  return () => page.evaluate(() => window.bannerTexts);
}

/** Returns the texts of a room's messages, as the server stored them. */
export const stored = async (server, room = "lobby") => (await server.bodies(room)).map(({ text }) => text);

/** Returns all rows of the browser's outbox. */
export const outbox = (page) => page.evaluate(() => new Promise((resolve) => {
  const open = indexedDB.open("racerd");
  open.onsuccess = () => {
    const all = open.result.transaction("entries").objectStore("entries").getAll();
    all.onsuccess = () => {
      open.result.close();
      resolve(all.result);
    };
  };
}));
export const inOutbox = (page, count) => until("in the outbox", async () => (await outbox(page)).length === count);

/** Waits until nothing unsent is shown below the log. */
export const nothingUnsent = (page) => until("nothing unsent", () => page.$$eval("#unsent li", (all) => all.length === 0));

/** Says “stored”, which the server stores and whose acknowledgement is lost, then “held”, which stays in the relay. */
export async function sayStoredAndHeld(page, line, server, room = "lobby") {
  line.losesDown = true;
  await say(page, "stored");
  await until("stored", async () => (await stored(server, room)).includes("stored"));
  line.holdsUp = true;
  await say(page, "held");
  await inOutbox(page, 2);
}

/** Kills and restarts a server that keeps its log in memory, so that it has another log, and mends the relay. */
export async function restartEmpty(server, line) {
  await server.kill();
  line.mend();
  await server.restart();
}

/**
 * Answers a client's requests of this type in the server's place, with the objects that `answer(request)` returns, if
 * any.
 */
export async function answerInstead(context, type, answer) {
  await context.routeWebSocket(/\/ws/, (page) => {
    const up = page.connectToServer();
    page.onMessage((text) => {
      const request = JSON.parse(text);
      const answers = request.type === type ? answer(request) : [];
      if (answers.length === 0) return up.send(text);
      for (const value of answers) page.send(JSON.stringify(value));
    });
  });
}
