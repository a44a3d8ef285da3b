// The library's cryptography by itself: vectors shared with Rust and from the Noise community, and messages that must
// not open.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { Cipher, newPrivate, privateKey, rawPublic, respond } from "./noise.mjs";
import { library } from "./support.mjs";

const { load, remove } = await library();
const { base64url, fromBase64url, isKey, newKey } = await load("racerd/bytes.js");
const { RoomCipher } = await load("racerd/room_key.js");
const { CipherState, Handshake, REKEY_EVERY } = await load("racerd/noise.js");
test.after(remove);

const vectors = async (name) => JSON.parse(await readFile(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));
const flipped = (bytes, at) => Uint8Array.from(bytes, (byte, index) => (index === at ? byte ^ 1 : byte));

test("bodies are sealed and opened as the shared vectors say", async () => {
  const all = await vectors("room_key");
  assert.ok(all.length >= 6);
  for (const { key, room, k, nonce, body, c } of all) {
    const cipher = new RoomCipher(key, room);
    const sealed = { e2e: 1, k, n: nonce, c };
    assert.deepEqual(cipher.seal(JSON.parse(body), k, fromBase64url(nonce)), sealed);
    assert.deepEqual(cipher.open(sealed), JSON.parse(body));
    const long = JSON.stringify(cipher.blank(JSON.parse(body))).length - JSON.stringify(sealed).length;
    assert.equal(long, 24 - k.length, "a placeholder is as long as the sealed body");
  }
});

test("a body opens only in its room, under its key, and unaltered", async () => {
  const [first] = await vectors("room_key");
  const { key, room, k, nonce: n, c } = first;
  const wrong = { code: "wrong_key" };
  assert.deepEqual(new RoomCipher(key, room).open({ k, n, c }), { text: "hello" });
  assert.throws(() => new RoomCipher(newKey(), room).open({ k, n, c }), wrong);
  assert.throws(() => new RoomCipher(key, `${room}2`).open({ k, n, c }), wrong);
  const cipher = new RoomCipher(key, room);
  assert.throws(() => cipher.open({ k: `${k}1`, n, c }), wrong);
  for (const [name, value] of Object.entries({ n, c })) {
    const bytes = fromBase64url(value);
    for (let at = 0; at < bytes.length; at += 1) {
      assert.throws(() => cipher.open({ k, n, c, [name]: base64url(flipped(bytes, at)) }), wrong, `${name} ${at}`);
    }
    for (const bad of ["", value.slice(0, -4), `${value}AAAA`, `${value}=`, `${value} `, "§", "A"]) {
      assert.throws(() => cipher.open({ k, n, c, [name]: bad }), wrong, `${name} ${bad}`);
    }
  }
  for (const key of ["", "short", `${newKey()}A`, newKey().slice(1)]) assert.throws(() => new RoomCipher(key, room), RangeError);
});

test("a sealed body that is not JSON is refused, even with the right key", async () => {
  const { hkdf, sha256, xchacha20poly1305 } = await load("racerd/noble.js");
  const key = newKey();
  const derived = hkdf(sha256, fromBase64url(key), undefined, Buffer.from("racerd e2e 1 r"), 32);
  const seal = (bytes) => base64url(xchacha20poly1305(derived, new Uint8Array(24), Buffer.from("racerd e2e 1\0r\0k")).encrypt(bytes));
  const open = (bytes) => new RoomCipher(key, "r").open({ k: "k", n: base64url(new Uint8Array(24)), c: seal(bytes) });
  assert.equal(open(Buffer.from("7")), 7);
  for (const bytes of [Buffer.from(""), Buffer.from("{"), Buffer.from([0x22, 0xff, 0x22])]) assert.throws(() => open(bytes), { code: "wrong_key" });
});

test("of two messages with the same body, the later is the repeat, in whatever order they are read", () => {
  const cipher = new RoomCipher(newKey(), "r");
  const [one, two] = ["k1", "k2"].map((k) => cipher.seal({ text: k }, k));
  const first = { said: { text: "k1" }, repeat: undefined };
  assert.deepEqual(cipher.hear(one, 7), first);
  assert.deepEqual(cipher.hear(one, 7), first, "the same message, read again");
  assert.throws(() => cipher.hear(one, 8), { code: "repeat" });
  assert.throws(() => cipher.hear(cipher.seal({ text: "another" }, "k1"), 9), { code: "repeat" });
  // History is read backwards.
  assert.deepEqual(cipher.hear(one, 3), { ...first, repeat: 7 });
  assert.deepEqual(cipher.hear(one, 1), { ...first, repeat: 3 });
  assert.throws(() => cipher.hear(one, 7), { code: "repeat" });
  // A body that does not open does not count as the original.
  assert.throws(() => cipher.hear({ ...one, k: "k3" }, 11), { code: "wrong_key" });
  assert.deepEqual(cipher.hear(cipher.seal(3, "k3"), 12).said, 3);
  // A signal with a message's body does not make the message a repeat, before or after; a message's body is refused as
  // a signal.
  assert.deepEqual(cipher.hear(two).said, { text: "k2" }, "a signal");
  assert.throws(() => cipher.hear(two), { code: "repeat" });
  assert.deepEqual(cipher.hear(two, 10).said, { text: "k2" });
  assert.throws(() => cipher.hear(one), { code: "repeat" });
  assert.deepEqual(cipher.hear(one, 1), first);
  cipher.forget();
  assert.deepEqual(cipher.hear(one, 20), first);
});

test("each key has one spelling only", () => {
  const made = newKey();
  assert.ok(isKey(made) && made.length === 43);
  assert.notEqual(made, newKey());
  assert.deepEqual(fromBase64url(base64url(Uint8Array.from({ length: 256 }, (_, at) => at))), Uint8Array.from({ length: 256 }, (_, at) => at));
  // The last character has two bits that must be 0.
  for (const bad of ["", made.slice(1), `${made}=`, `${made.slice(0, 42)}B`, `+${made.slice(1)}`, undefined, 3]) assert.ok(!isKey(bad), String(bad));
  for (const bad of ["AB", "A", "AA==", "A+", " AA", "AA\n"]) assert.throws(() => fromBase64url(bad), undefined, bad);
});

test("NK follows the Noise community's vectors", async () => {
  const hex = (text) => Buffer.from(text, "hex");
  const all = await vectors("noise_nk");
  assert.deepEqual(all.map(({ source }) => source), ["cacophony", "snow"]);
  for (const vector of all) {
    const [first, second, ...rest] = vector.messages;
    const initiator = new Handshake(hex(vector.init_remote_static), hex(vector.init_prologue), hex(vector.init_ephemeral));
    assert.deepEqual(Buffer.from(initiator.write(hex(first.payload))), hex(first.ciphertext));
    const { payload, sending, receiving } = initiator.read(hex(second.ciphertext));
    assert.deepEqual(Buffer.from(payload), hex(second.payload));
    rest.forEach(({ payload, ciphertext }, index) => {
      if (index % 2 === 0) assert.deepEqual(Buffer.from(sending.encrypt(hex(payload))), hex(ciphertext));
      else assert.deepEqual(Buffer.from(receiving.decrypt(hex(ciphertext))), hex(payload));
    });
    assert.ok(rest.length >= 2);
    // The tests' own server side, too, because other tests rely on it.
    const other = respond(hex(first.ciphertext), {
      secret: privateKey(hex(vector.resp_static)), prologue: hex(vector.init_prologue), ephemeral: privateKey(hex(vector.resp_ephemeral)), payload: hex(second.payload),
    });
    assert.deepEqual([other.asked, other.answer], [hex(first.payload), hex(second.ciphertext)]);
  }
});

test("a handshake with another server, another prologue, or an altered answer fails", () => {
  const secret = newPrivate();
  const prologue = Buffer.from("p");
  const fresh = () => new Handshake(rawPublic(secret), prologue);
  assert.throws(() => respond(Buffer.from(fresh().write()), { secret: newPrivate(), prologue }));
  assert.throws(() => respond(Buffer.from(fresh().write()), { secret, prologue: Buffer.from("q") }));
  const initiator = fresh();
  const asked = initiator.write();
  assert.equal(asked.length, 48);
  const { answer } = respond(Buffer.from(asked), { secret, prologue });
  assert.equal(answer.length, 48);
  for (let at = 0; at < answer.length; at += 1) {
    // Even the last bit of the point, which the curve ignores: the hash covers it.
    const again = fresh();
    const { answer } = respond(Buffer.from(again.write()), { secret, prologue });
    assert.throws(() => again.read(flipped(answer, at)), undefined, `byte ${at}`);
  }
  for (const bad of [answer.subarray(0, 47), answer.subarray(0, 31), new Uint8Array(0), new Uint8Array(48)]) assert.throws(() => initiator.read(bad));
  assert.throws(() => new Handshake(new Uint8Array(32), prologue).write(), undefined, "a key that makes all shared secrets zero");
});

test("garbage does not advance the counter, and each direction rekeys after 65,536 messages", () => {
  const key = new Uint8Array(32).fill(7);
  const ours = { sending: new CipherState(key, REKEY_EVERY), receiving: new CipherState(key, REKEY_EVERY) };
  const theirs = new Cipher(key, 65_536);
  assert.equal(REKEY_EVERY, 65_536);
  const keys = new Set();
  for (let count = 0; count <= 2 * 65_536; count += 1) {
    const isEdge = count % 65_536 < 2 || count % 65_536 > 65_533;
    const plaintext = Buffer.from(`${count}\n`);
    const sealed = ours.sending.encrypt(plaintext);
    if (isEdge) {
      keys.add(theirs.key.toString("hex"));
      assert.deepEqual(Buffer.from(sealed), theirs.encrypt(plaintext), `message ${count}`);
      for (const bad of [new Uint8Array(0), sealed.subarray(0, 15), flipped(sealed, 0), flipped(sealed, sealed.length - 1)]) {
        assert.throws(() => ours.receiving.decrypt(bad));
      }
    }
    const opened = ours.receiving.decrypt(sealed);
    if (isEdge) {
      assert.deepEqual(Buffer.from(opened), plaintext);
      assert.throws(() => ours.receiving.decrypt(sealed), undefined, "opens once only");
    }
    theirs.next();
  }
  assert.equal(keys.size, 3);
});
