// The page says why the server refuses its socket, with the reason that the refused upgrade carries, and a plain GET of
// its URL. (tests/server/refusals.rs tests that both agree for all refusals.)

import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { newPrivate, rawPublic, sealedServer } from "./noise.mjs";
import { live, prefixProxy, profile, say, Server, shows, startBrowser, stopBrowser, until, WebSocket } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

const CLIENT = "192.0.2.7";
const PINNED_ONLY = "This server can only be reached by its link with the pin. Ask the person who gave you this address for that link.";

/** Returns the answer to a refused upgrade of this URL; null if it is accepted. */
function upgradeSays(url, headers = {}, protocols = []) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/, "ws"), protocols, { headers });
    socket.on("error", reject);
    socket.on("open", () => {
      socket.terminate();
      resolve(null);
    });
    socket.on("unexpected-response", async (request, answer) => {
      let text = "";
      for await (const part of answer) text += part;
      resolve({ status: answer.statusCode, ...JSON.parse(text) });
    });
  });
}

const getSays = async (url) => (await fetch(url)).json();

/** Opens the page at this address under a name; its socket may be refused. */
async function opens(t, url) {
  const context = await profile(t, { expects: (text) => /status of 4\d\d|status of 503/.test(text) });
  const page = await context.newPage();
  await page.goto(url);
  await page.fill("#name-field", "ann");
  await page.press("#name-field", "Enter");
  return page;
}

const banner = (page) => page.textContent("#banner span");
const says = (page, words) => until(words, async () => (await banner(page)).startsWith(words));

const isSocket = (path) => /\/ws(\?|$)/.test(path);

for (const [what, args, change, isFinal] of [
  ["host", [], (headers, path) => (isSocket(path) ? { ...headers, host: "evil.example" } : headers), true],
  // As behind a proxy that replaces the Host header.
  ["origin", [], (headers) => ({ ...headers, host: "127.0.0.1:1" }), true],
  ["full", ["--trusted-proxy", "127.0.0.1", "--max-connections-per-address", "1"], (headers) => ({ ...headers, "x-forwarded-for": CLIENT }), false],
  ["rate", ["--trusted-proxy", "127.0.0.1", "--handshake-rate-per-address", "1"], (headers) => ({ ...headers, "x-forwarded-for": CLIENT }), false],
]) {
  test(`refused (${what}): the page shows the reason that the upgrade's answer and a plain GET give`, async (t) => {
    const server = await Server.start(t, ...args);
    const proxy = await prefixProxy(t, server, change);
    const socket = `${proxy.base}rooms/lobby/ws`;
    const { origin } = new URL(proxy.base);
    if (what === "full") {
      const held = new WebSocket(socket.replace("http", "ws"));
      await once(held, "open");
      t.after(() => held.terminate());
    }
    if (what === "rate") {
      // Use up the rate.
      let isOver = false;
      const taken = (async () => {
        while (!isOver) await fetch(socket).then((answer) => answer.text(), () => (isOver = true));
      })();
      t.after(() => {
        isOver = true;
        return taken;
      });
      await until("none left", async () => (await getSays(socket)).status === 429);
    }
    const page = await opens(t, `${proxy.base}rooms/lobby`);
    let told, offered;
    await until("the reason", async () => {
      // Between two requests that use up the rate, the page's socket may be let through.
      if (what === "rate" && /^\d/.test(await page.textContent("#people-count"))) await page.reload();
      [told, offered] = [await banner(page), await page.textContent("#banner button")];
      return /^Refused/.test(told);
    });
    let upgrade, get;
    // As may one of these.
    await until("the same refusal", async () => {
      [upgrade, get] = [await upgradeSays(socket, { Origin: origin }), await getSays(`${socket}?origin=${origin}`)];
      return what !== "rate" || (upgrade?.status === 429 && get.status === 429);
    });
    assert.equal(upgrade.detail, get.detail);
    assert.ok(told.startsWith(`${isFinal ? "Refused" : "Refused for now"}: ${upgrade.detail}.`), told);
    assert.equal(offered, isFinal ? "Try again" : "Now");
  });
}

test("a server that is only reached sealed: without the pin the page says so and stops; with the pin it connects", async (t) => {
  const { server, pin } = await sealedServer(t, "--require-sealed");
  assert.equal((await upgradeSays(`${server.base}ws`)).code, "sealed_only");
  assert.equal((await getSays(`${server.base}ws`)).code, "sealed_only");
  const page = await opens(t, `${server.base}rooms/lobby`);
  await says(page, PINNED_ONLY);
  assert.equal(await page.textContent("#banner button"), "Try again");
  const ann = await opens(t, `${server.base}rooms/lobby#pin=${pin}`);
  await live(ann);
  await say(ann, "sealed words");
  await shows(ann, ["sealed words"]);
});

test("a pin for a server without sealed connections: the page guesses why, in its own words, and tries again", async (t) => {
  const server = await Server.start(t);
  const page = await opens(t, `${server.base}rooms/lobby#pin=${rawPublic(newPrivate()).toString("base64url")}`);
  const words = /refuses the connection \(400\)\. Perhaps the server has no key for sealed connections\. Trying again in/;
  await until("the guess", async () => words.test(await banner(page)));
  // A program that asks by hand is told the reason.
  const upgrade = await upgradeSays(`${server.base}ws`, {}, ["racerd.v1.sealed"]);
  assert.equal(upgrade.detail, (await getSays(`${server.base}ws?subprotocol=racerd.v1.sealed`)).detail);
});
