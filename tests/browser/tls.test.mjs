// The page over https, with a certificate that the user accepted: page and socket share the port.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { enter, profile, say, Server, shows, startBrowser, stopBrowser } from "./support.mjs";

test.before(startBrowser);
test.after(stopBrowser);

test("two windows talk over wss, also after a restart", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "racerd-tls-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const server = await Server.start(t, "--tls-self-signed", folder);
  assert.ok(server.base.startsWith("https://"), server.base);
  const opened = [];
  const window = async (name) => {
    const context = await profile(t, { ignoreHTTPSErrors: true });
    context.on("page", (page) => page.on("websocket", (socket) => opened.push(socket.url())));
    return enter(context, server.base, "lobby", name);
  };
  const [ann, bob] = [await window("ann"), await window("bob")];
  await say(ann, "hello");
  await shows(bob, ["hello"]);
  // An https page is a secure context, with the interfaces that browsers reserve for those.
  assert.ok(await ann.evaluate(() => isSecureContext && crypto.subtle !== undefined));
  await server.stop();
  await server.restart();
  await say(bob, "again");
  await shows(ann, ["hello", "again"]);
  assert.ok(opened.length >= 4 && opened.every((url) => url.startsWith("wss://")), opened.join(" "));
});

test("a certificate that nobody accepted is refused", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "racerd-tls-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const server = await Server.start(t, "--tls-self-signed", folder);
  const page = await (await profile(t)).newPage();
  await assert.rejects(page.goto(server.base), /ERR_CERT_AUTHORITY_INVALID/);
});
