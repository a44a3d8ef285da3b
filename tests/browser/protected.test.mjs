// Encryption in the page: rooms by their link, servers by their pin, both at once; and refusals of wrong keys and pins.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import test from "node:test";
import { newPrivate, rawPublic, sealedProxy, sealedServer } from "./noise.mjs";
import { enter, library, live, Member, profile, relay, say, Server, shows, startBrowser, stopBrowser, texts, until } from "./support.mjs";

const { load, remove } = await library();
const { newKey } = await load("racerd.js");
const { base64url, fromBase64url } = await load("racerd/bytes.js");
const { hkdf, sha256, xchacha20poly1305 } = await load("racerd/noble.js");
test.before(startBrowser);
test.after(stopBrowser);
test.after(remove);

const NO_KEY = "Encrypted: the link you opened has no key";
const WRONG_KEY = "Encrypted with another key";

/** Seals a body as earlier pages did. */
function inFirstForm(roomKey, room, k, body) {
  const derived = hkdf(sha256, fromBase64url(roomKey), undefined, Buffer.from(`racerd e2e 1 ${room}`), 32);
  const nonce = new Uint8Array(24);
  const sealed = xchacha20poly1305(derived, nonce, Buffer.from(`racerd e2e 1\0${room}\0${k}`)).encrypt(Buffer.from(JSON.stringify(body)));
  return { e2e: 1, k, n: base64url(nonce), c: base64url(sealed) };
}

/** Opens a window of this profile at an address, under a name. */
async function open(context, url, name) {
  const page = await context.newPage();
  await page.goto(url);
  await page.waitForSelector("#start:not([hidden])");
  await page.fill("#name-field", name);
  await page.press("#name-field", "Enter");
  return page;
}

async function opened(context, url, name) {
  const page = await open(context, url, name);
  await live(page);
  return page;
}

/** Lists the URLs of all requests and sockets of a profile. */
function requests(context) {
  const urls = [];
  context.on("request", (request) => urls.push(request.url(), JSON.stringify(request.headers())));
  context.on("page", (page) => page.on("websocket", (socket) => urls.push(socket.url())));
  return urls;
}

test("in a room for encrypted messages only, a window without the key says so and sends nothing in the clear", async (t) => {
  const server = await Server.start(t);
  const page = await opened(await profile(t), `${server.base}rooms/e2e.plain`, "ann");
  assert.match(await page.textContent("#text-fault"), /This room is encrypted/);
  assert.equal(await page.isDisabled("#text"), true);
  assert.equal(await page.textContent("#beginning"), "Nothing has been said here yet.");
  const history = await (await fetch(`${server.base}rooms/e2e.plain/messages`)).json();
  assert.equal(history.messages.length, 0);
});

test("the first refusal locks a room for encrypted messages only, and the draft stays", async (t) => {
  const server = await Server.start(t, "--encrypted-rooms", "vault");
  const page = await opened(await profile(t), `${server.base}rooms/vault`, "ann");
  assert.equal(await page.textContent("#beginning"), "Nothing has been said here yet. Say hello!");
  // The typing notification is refused already.
  await page.fill("#text", "in the clear");
  await until("locked", () => page.isDisabled("#text"));
  assert.equal(await page.inputValue("#text"), "in the clear");
  assert.match(await page.textContent("#text-fault"), /This room is encrypted/);
  assert.equal(await page.textContent("#beginning"), "Nothing has been said here yet.");
  assert.equal((await server.bodies("vault")).length, 0);
});

test("a button makes an encrypted room and copies its link when asked; only windows with the link can read it", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t, { permissions: ["clipboard-read", "clipboard-write"] });
  const urls = requests(context);
  const ann = await context.newPage();
  await ann.goto(server.base);
  await ann.click("#new-encrypted");
  assert.match(await ann.textContent("#name-fault"), /Enter a name/);
  await ann.fill("#name-field", "ann");
  await ann.evaluate(() => navigator.clipboard.writeText("before"));
  await ann.click("#new-encrypted");
  await live(ann);
  const link = ann.url();
  const [, room, key] = /\/rooms\/(e2e\.[A-Za-z0-9_-]{22})#k=([A-Za-z0-9_-]{43})$/.exec(link);
  await ann.waitForSelector("#protection[open]");
  assert.equal(await ann.inputValue("#link-field"), link);
  assert.equal(await ann.evaluate(() => navigator.clipboard.readText()), "before", "nothing is copied unasked");
  await ann.click("#copy-link");
  await until("copied", async () => (await ann.evaluate(() => navigator.clipboard.readText())) === link);
  await until("said so", async () => (await ann.textContent("#copied")) === "Copied.");
  await ann.click("#protection-close");
  await say(ann, "the secret is 42");
  await shows(ann, ["the secret is 42"]);

  const bob = await opened(await profile(t), link, "bob");
  await shows(bob, ["the secret is 42"]);
  await say(bob, "I know it too");
  for (const page of [ann, bob]) await shows(page, ["the secret is 42", "I know it too"]);
  const eve = await opened(await profile(t), `${server.base}rooms/${room}#k=${newKey()}`, "eve");
  await shows(eve, [WRONG_KEY, WRONG_KEY]);
  await say(ann, "live");
  await shows(eve, [WRONG_KEY, WRONG_KEY, WRONG_KEY]);
  // Members with the key see who is typing.
  await ann.type("#text", "hm");
  await until("typing", async () => /ann/.test(await bob.textContent("#typing")));
  assert.equal(await eve.textContent("#typing"), "");

  const history = await (await fetch(`${server.base}rooms/${room}/messages?limit=50`)).text();
  assert.equal(JSON.parse(history).messages.length, 3);
  assert.doesNotMatch(history, /secret|know|live/);
  assert.ok(urls.length > 10);
  assert.ok(urls.every((url) => !url.includes(key)), "no request contains the key");

  // A reload, another name, another room.
  await ann.reload();
  await live(ann);
  await shows(ann, ["the secret is 42", "I know it too", "live"]);
  await ann.click("#rename");
  await ann.fill("#name-field", "Anna");
  await ann.press("#name-field", "Enter");
  await live(ann);
  assert.equal(ann.url(), link);
  await shows(ann, ["the secret is 42", "I know it too", "live"]);
  await ann.click("#leave");
  assert.equal(ann.url(), server.base);
  await ann.waitForSelector("#start:not([hidden])");
  assert.deepEqual(await ann.$$eval("#recent a", (all) => all.map((link) => link.textContent)), [], "the key is not stored");
  assert.doesNotMatch(await ann.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage })), new RegExp(key));
});

test("without the key, a window shows that messages are encrypted, and sends nothing in the clear", async (t) => {
  const server = await Server.start(t);
  const key = newKey();
  const ann = await opened(await profile(t), `${server.base}rooms/e2e.r#k=${key}`, "ann");
  await say(ann, "hidden");
  await shows(ann, ["hidden"]);
  const bob = await opened(await profile(t), `${server.base}rooms/e2e.r`, "bob");
  await shows(bob, [NO_KEY]);
  assert.match(await bob.textContent("#text-fault"), /open it with its full link/);
  assert.equal(await bob.isDisabled("#text"), true);
  await say(ann, "last");
  await shows(bob, [NO_KEY, NO_KEY]);
  assert.equal((await server.bodies("e2e.r")).length, 2);
  // The full link in the same window.
  await bob.evaluate((key) => (location.hash = `k=${key}`), key);
  await shows(bob, ["hidden", "last"]);
  assert.match(await bob.textContent("#lock"), /Encrypted/);
});

test("unencrypted messages in an encrypted room are marked, and repeats are named", async (t) => {
  const server = await Server.start(t, "--keep-messages", "1");
  const ann = await opened(await profile(t), `${server.base}rooms/r#k=${newKey()}`, "ann");
  await say(ann, "sealed");
  await shows(ann, ["sealed"]);
  const [sealed] = await server.bodies("r");
  const repeat = async () => (await fetch(`${server.base}rooms/r/messages`, {
    method: "POST", headers: { "Content-Type": "application/json", "Idempotency-Key": sealed.k }, body: JSON.stringify(sealed),
  })).status;
  assert.equal(await repeat(), 422, "the server still has the original");
  await server.post("r", { text: "plain" });
  await until("the first to go", async () => (await server.bodies("r")).length === 1);
  assert.equal(await repeat(), 201);
  await shows(ann, ["sealed", "plain", "Repeat of an earlier message"]);
  assert.deepEqual(await ann.$$eval("#log .mark", (all) => all.map((mark) => mark.textContent)), ["Not encrypted"]);
});

test("what is to be distrusted in an encrypted room, what is missing there, and when it was written are shown", async (t) => {
  const server = await Server.start(t);
  const roomKey = newKey();
  const { RoomCipher, Stream } = await load("racerd/room_key.js");
  const cipher = new RoomCipher(roomKey, "e2e.marks");
  let keys = 0;
  const say = async (text, { stream, name = "bob", as = name, sent, counter = stream.counter }) => {
    stream.counter = counter;
    const body = cipher.seal({ text }, `a key of the tests, no. ${(keys += 1)}`, { kind: "message", name, stream, sent });
    const answer = await fetch(`${server.base}rooms/e2e.marks/messages?name=${as}`, {
      method: "POST", headers: { "Content-Type": "application/json", "Idempotency-Key": body.k }, body: JSON.stringify(body),
    });
    assert.equal(answer.status, 201, await answer.text());
  };
  const [bobs, eves] = [new Stream(), new Stream()];
  await say("good morning", { stream: bobs });
  await say("pay eve", { stream: eves, name: "eve", as: "bob" });
  await say("later", { stream: bobs, counter: 3, sent: Date.now() - 3 * 86_400_000 });
  await say("earlier", { stream: bobs, counter: 1 });
  await say("twice", { stream: bobs, counter: 1 });
  const ann = await opened(await profile(t), `${server.base}rooms/e2e.marks#k=${roomKey}`, "ann");
  await shows(ann, ["good morning", "pay eve", "later", "earlier", "Repeat of an earlier message"]);
  const marks = await ann.$$eval("#log .message", (rows) => rows.map((row) => [...row.querySelectorAll(".marks .badge")].map(({ textContent }) => textContent)));
  assert.deepEqual(marks[0], []);
  assert.deepEqual(marks[1], ["Signed by “eve”"]);
  assert.equal(marks[2][0], "2 messages before this one are missing");
  assert.match(marks[2][1], /^Written .+ by its author's clock$/);
  assert.deepEqual(marks.slice(3), [["Out of order: written before a message above"], []]);
});

test("the outbox stores sealed bodies, which are shown and sent after a reload", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const ann = await opened(await profile(t), `${line.base}rooms/e2e.r#k=${newKey()}`, "ann");
  await say(ann, "before");
  await shows(ann, ["before"]);
  line.holdsUp = true;
  await say(ann, "kept a secret");
  const entries = () => ann.evaluate(() => new Promise((resolve) => {
    const open = indexedDB.open("racerd");
    open.onsuccess = () => {
      const all = open.result.transaction("entries").objectStore("entries").getAll();
      all.onsuccess = () => {
        open.result.close();
        resolve(all.result);
      };
    };
  }));
  await until("kept", async () => (await entries()).length === 1);
  const [{ key, body }] = await entries();
  assert.deepEqual([Object.keys(body), body.k], [["e2e", "i", "k", "n", "c"], key]);
  assert.doesNotMatch(JSON.stringify(await entries()), /secret/);
  line.cut();
  line.mend();
  await ann.reload();
  await live(ann);
  await shows(ann, ["before", "kept a secret"]);
  await until("sent", async () => (await entries()).length === 0);
  assert.deepEqual((await server.bodies("e2e.r")).length, 2);
});

test("what an earlier page sealed in the old form is sealed anew if it was never sent, and otherwise not sent", async (t) => {
  const server = await Server.start(t);
  const roomKey = newKey();
  const line = await relay(t, server);
  const ann = await opened(await profile(t), `${line.base}rooms/e2e.r#k=${roomKey}`, "ann");
  line.holdsUp = true;
  for (const text of ["never sent", "perhaps sent"]) await say(ann, text);
  const change = (olds) => ann.evaluate((olds) => new Promise((resolve) => {
    const open = indexedDB.open("racerd");
    open.onsuccess = () => {
      const store = open.result.transaction("entries", "readwrite").objectStore("entries");
      const found = [];
      store.openCursor().onsuccess = ({ target: { result: cursor } }) => {
        if (!cursor) return open.result.close(), resolve(found);
        found.push(cursor.value);
        const old = olds[found.length - 1];
        // As an earlier page left them: one whose session never began, and one of the present session.
        if (old) cursor.update({ ...cursor.value, body: old, token: found.length === 1 ? null : cursor.value.token });
        cursor.continue();
      };
    };
  }), olds);
  await until("kept", async () => (await change([])).length === 2);
  const rows = await change([]);
  await change(rows.map(({ key }, at) => inFirstForm(roomKey, "e2e.r", key, { text: ["never sent", "perhaps sent"][at] })));
  line.cut();
  line.mend();
  await ann.reload();
  await live(ann);
  await shows(ann, ["never sent"]);
  await ann.waitForSelector("#unsent .failed");
  assert.match(await ann.innerText("#unsent"), /perhaps sent[^]*it is not known whether this was stored/);
  await ann.click("#unsent .failed button");
  await shows(ann, ["never sent", "perhaps sent"]);
  assert.deepEqual((await server.bodies("e2e.r")).map(({ e2e }) => e2e), [2, 2]);
  assert.deepEqual(await ann.$$eval("#log .marks .badge", (badges) => badges.map(({ textContent }) => textContent)), []);
});

test("a message from before the room had a key is not sent in the clear automatically", async (t) => {
  const server = await Server.start(t);
  const line = await relay(t, server);
  const page = await opened(await profile(t), `${line.base}rooms/r`, "ann");
  line.holdsUp = true;
  await say(page, "open words");
  line.cut();
  await page.waitForFunction(() => document.getElementById("banner").textContent.includes("Trying again"));
  line.mend();
  await page.evaluate((key) => (location.hash = `k=${key}`), newKey());
  await page.waitForSelector("#unsent .failed");
  assert.match(await page.innerText("#unsent"), /open words[^]*it was written before this room had a key/);
  await say(page, "sealed words");
  await shows(page, ["sealed words"]);
  await page.click("#unsent .failed button");
  await shows(page, ["sealed words", "open words"]);
  assert.deepEqual((await server.bodies("r")).map(({ e2e }) => e2e), [2, 2]);
});

test("the lock explains the protection, and copies the link, also over plain http", async (t) => {
  const outer = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal);
  const server = await Server.startAt(t, outer.address, "--open");
  const context = await profile(t, { permissions: ["clipboard-read"] });
  const page = await opened(context, `${server.base}rooms/e2e.r#k=${newKey()}`, "ann");
  assert.equal(await page.evaluate(() => globalThis.isSecureContext || navigator.clipboard !== undefined), false);
  await page.click("#lock");
  const words = await page.innerText("#protection");
  assert.match(words, /Encrypted room/);
  assert.match(words, /loaded over plain http and could have been altered on its way/);
  assert.doesNotMatch(words, /Sealed connection/);
  assert.equal(await page.inputValue("#link-field"), page.url());
  await page.click("#copy-link");
  await until("copied", async () => (await page.textContent("#copied")) === "Copied.");
  await page.click("#protection-close");
  await page.focus("#text");
  await page.keyboard.press("Control+V");
  assert.equal(await page.inputValue("#text"), page.url());
  // If copying fails, the link is selected, to be copied by hand.
  await page.evaluate(() => (document.execCommand = () => false));
  await page.click("#leave");
  await page.click("#new-encrypted");
  await page.waitForSelector("#protection[open]");
  await page.click("#copy-link");
  await until("failed", async () => /Copy it by hand/.test(await page.textContent("#copied")));
  assert.equal(await page.evaluate(() => getSelection().toString() || document.activeElement.value), page.url());
});

test("if the encryption code cannot be loaded, the page says so, sends nothing, and tries again", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const urls = requests(context);
  let isBroken = true;
  await context.route("**/racerd/noble.js", (route) => (isBroken ? route.abort() : route.continue()));
  const ann = await open(context, `${server.base}rooms/e2e.r#k=${newKey()}`, "ann");
  await until("said so", async () => /The encryption code could not be loaded/.test(await ann.innerText("#banner")));
  await say(ann, "waits");
  assert.deepEqual(urls.filter((url) => url.startsWith("ws:")), []);
  isBroken = false;
  await ann.click("#banner button");
  await live(ann);
  await shows(ann, ["waits"]);
  assert.deepEqual((await server.bodies("e2e.r")).map(({ e2e }) => e2e), [2]);
  // A page that does not need it does not load it.
  urls.length = 0;
  await enter(context, server.base, "plain", "ann");
  assert.deepEqual(urls.filter((url) => /noble|noise|sealed|room_key|reader|heard|lock/.test(url)), []);
});

test("a damaged link opens no room", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t);
  const urls = requests(context);
  await enter(context, server.base, "other", "ann");
  urls.length = 0;
  for (const [fragment, words] of [[`k=${newKey().slice(1)}`, /room's key/], ["k=", /room's key/], [`pin=${newKey()}A`, /server's key/], [`pin=&k=${newKey()}`, /server's key/],
    [`pim=${newKey()}`, /unknown part/], [`Pin=${newKey()}`, /unknown part/], [`K=${newKey()}`, /unknown part/], [`k=${newKey()}&k=${newKey()}`, /twice/]]) {
    const page = await context.newPage();
    await page.goto(`${server.base}rooms/e2e.r#${fragment}`);
    await until("said so", async () => words.test(await page.innerText("#link-fault")));
    assert.equal(await page.isVisible("#enter"), false);
    assert.equal(await page.isVisible("#room"), false);
    await page.close();
  }
  assert.deepEqual(urls.filter((url) => url.startsWith("ws:")), []);
});

// Sealed connections. The proxy has a key of its own; for a page with another pin it is a man in the middle.

test("with a pin the connection is sealed; with pin and key the room is encrypted, too", async (t) => {
  const server = await Server.start(t);
  const proxy = await sealedProxy(t, server);
  const context = await profile(t);
  const urls = requests(context);
  const ann = await opened(context, `${proxy.base}rooms/lobby#pin=${proxy.pin}`, "ann");
  assert.match(await ann.textContent("#lock"), /Sealed/);
  const bob = await Member.join(server, "lobby", "bob");
  await say(ann, "sealed words");
  await shows(ann, ["sealed words"]);
  await until("bob", () => bob.values.some(({ body }) => body?.text === "sealed words"));
  for (const frame of proxy.frames) assert.doesNotMatch(frame.toString("latin1"), /words|lobby|"ann"/);
  assert.deepEqual(urls.filter((url) => url.startsWith("ws:")), [`${proxy.base.replace("http", "ws")}ws`]);
  assert.ok(urls.every((url) => !url.includes(proxy.pin)), "no request contains the pin");
  // It stays in the addresses of other rooms.
  await ann.click("#leave");
  assert.equal(ann.url(), `${proxy.base}#pin=${proxy.pin}`);
  await ann.click("#new-encrypted");
  await live(ann);
  await ann.click("#protection-close");
  assert.match(ann.url(), new RegExp(`#pin=${proxy.pin}&k=[A-Za-z0-9_-]{43}$`));
  assert.match(await ann.textContent("#lock"), /Encrypted, Sealed/);
  await say(ann, "twice hidden");
  await shows(ann, ["twice hidden"]);
  assert.doesNotMatch(JSON.stringify(proxy.heard), /twice hidden/);
  const eve = await opened(await profile(t), ann.url().replace(/k=.*/, `k=${newKey()}`), "eve");
  await shows(eve, [WRONG_KEY]);
  await ann.reload();
  await live(ann);
  await shows(ann, ["twice hidden"]);
  await bob.leave();
});

test("sealed and encrypted with the real server; a wrong pin or key is refused", async (t) => {
  const { server, pin } = await sealedServer(t);
  const line = await relay(t, server);
  const key = newKey();
  const at = (base, pin, key) => `${base}rooms/e2e.two#pin=${pin}&k=${key}`;
  const ann = await opened(await profile(t), at(line.base, pin, key), "ann");
  const bob = await opened(await profile(t), at(server.base, pin, key), "bob");
  await say(ann, "s3cret from ann");
  await shows(bob, ["s3cret from ann"]);
  await say(bob, "s3cret from bob");
  await shows(ann, ["s3cret from ann", "s3cret from bob"]);
  await until("both", async () => /2 people/.test(await ann.textContent("#people-count")));
  assert.deepEqual(await ann.$$eval("#people li .name", (all) => all.map((name) => name.textContent).sort()), ["ann", "bob"]);
  line.cut();
  await ann.waitForFunction(() => document.getElementById("banner").textContent.includes("Trying again"));
  await say(bob, "s3cret meanwhile");
  await say(ann, "s3cret unsent");
  line.mend();
  await shows(ann, ["s3cret from ann", "s3cret from bob", "s3cret meanwhile", "s3cret unsent"]);
  await shows(bob, ["s3cret from ann", "s3cret from bob", "s3cret meanwhile", "s3cret unsent"]);
  await ann.reload();
  await live(ann);
  await shows(ann, ["s3cret from ann", "s3cret from bob", "s3cret meanwhile", "s3cret unsent"]);
  const eve = await opened(await profile(t), at(server.base, pin, newKey()), "eve");
  await shows(eve, [WRONG_KEY, WRONG_KEY, WRONG_KEY, WRONG_KEY]);
  const mallory = await open(await profile(t), at(server.base, rawPublic(newPrivate()).toString("base64url"), key), "mallory");
  await until("refused", async () => /This server does not have the pinned key/.test(await mallory.innerText("#banner")));
  assert.deepEqual(await texts(mallory), []);
  assert.doesNotMatch(await (await fetch(`${server.base}rooms/e2e.two/messages?limit=50`)).text(), /s3cret/);
  const seen = Buffer.concat([...line.seen.up, ...line.seen.down]).toString("latin1");
  assert.doesNotMatch(seen, /s3cret|"e2e":1|"type":"(welcome|join|send)"/);
});

test("a server without the pinned key: the page says so while it tries again, and sends nothing in the clear", async (t) => {
  const server = await Server.start(t);
  const proxy = await sealedProxy(t, server);
  const context = await profile(t);
  const urls = requests(context);
  const ann = await opened(context, `${proxy.base}rooms/lobby#pin=${proxy.pin}`, "ann");
  await ann.close();
  urls.length = 0;
  proxy.asked.length = proxy.heard.length = 0;
  const pin = rawPublic(newPrivate()).toString("base64url");
  const page = await context.newPage();
  await page.goto(`${proxy.base}rooms/lobby#pin=${pin}&k=${newKey()}`);
  await until("refused", async () => /This server does not have the pinned key.*Trying again in/.test(await page.innerText("#banner")));
  await say(page, "secret");
  await page.click("#banner button");
  await until("again", () => proxy.asked.filter((path) => path === "/ws").length === 2);
  await until("refused again", async () => /This server does not have the pinned key.*Trying again in/.test(await page.innerText("#banner")));
  assert.deepEqual(proxy.heard, []);
  assert.deepEqual(await texts(page), []);
  assert.deepEqual(new Set(urls.filter((url) => url.startsWith("ws:"))), new Set([`${proxy.base.replace("http", "ws")}ws`]));
  assert.deepEqual((await server.bodies("lobby")).length, 0);
});

test("the warning about a wrong key goes once the right one answers, and the page is where it was", async (t) => {
  const server = await Server.start(t);
  let isWrong = false;
  const proxy = await sealedProxy(t, server, { alter: (frame, number) => (isWrong && number === -1 ? Buffer.alloc(48, 7) : frame) });
  const line = await relay(t, { port: Number(new URL(proxy.base).port) });
  const page = await opened(await profile(t), `${line.base}rooms/lobby#pin=${proxy.pin}`, "ann");
  await say(page, "before");
  await shows(page, ["before"]);
  isWrong = true;
  // A close that anybody could have written.
  line.inject(Buffer.from([0x88, 2, 0x0f, 0xa3]));
  await until("lost", async () => /Trying again/.test(await page.innerText("#banner")));
  await page.click("#banner button");
  await until("warned", async () => /This server does not have the pinned key/.test(await page.innerText("#banner")));
  isWrong = false;
  await page.click("#banner button");
  await live(page);
  await until("gone", async () => !/pinned key/.test(await page.innerText("#banner")));
  await say(page, "after");
  await shows(page, ["before", "after"]);
});

test("no text becomes markup or a script, and no other page has a hold on this one", async (t) => {
  const server = await Server.start(t);
  const context = await profile(t, { expects: (text) => /Trusted(HTML|Script|TypePolicy)/.test(text) });
  const page = await context.newPage();
  const answer = await page.goto(server.base);
  assert.equal(answer.headers()["cross-origin-opener-policy"], "same-origin");
  const thrown = await page.evaluate(() => {
    const tries = [
      () => (document.body.innerHTML = "<p>hello"),
      () => (document.createElement("script").text = "1"),
      () => trustedTypes.createPolicy("own", { createHTML: (text) => text }),
    ];
    return tries.map((act) => { try { return String(act()); } catch (error) { return error.name; } });
  });
  assert.deepEqual(thrown, ["TypeError", "TypeError", "TypeError"]);
});
