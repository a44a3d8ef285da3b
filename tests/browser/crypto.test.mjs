// The library's cryptography by itself: vectors shared with Rust and from the Noise community, and messages that must
// not open.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { Cipher, newPrivate, privateKey, rawPublic, respond } from "./noise.mjs";
import { library } from "./support.mjs";

const { load, remove } = await library();
const { base64url, fromBase64url, isKey, newKey } = await load("racerd/bytes.js");
const { padded, RoomCipher, Stream } = await load("racerd/room_key.js");
const { Heard } = await load("racerd/heard.js");
const { RoomReader } = await load("racerd/reader.js");
const { CipherState, Handshake, REKEY_EVERY } = await load("racerd/noise.js");
test.after(remove);

const vectors = async (name) => JSON.parse(await readFile(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));
const flipped = (bytes, at) => Uint8Array.from(bytes, (byte, index) => (index === at ? byte ^ 1 : byte));

test("bodies are sealed and opened as another implementation says", async () => {
  const { opens, faults, padded: lengths } = await vectors("room_body");
  assert.ok(opens.length > 10 && faults.length > 25 && lengths.length > 200);
  for (const { key, room, kind, seed, counter, sent, name, body, sealed } of opens) {
    const cipher = new RoomCipher(key, room);
    const stream = new Stream(fromBase64url(seed));
    stream.counter = counter - 1;
    // Written by others, a body may be spelt otherwise; then it only opens.
    if (JSON.stringify(JSON.parse(body)) === body) {
      assert.deepEqual(cipher.seal(JSON.parse(body), sealed.k, { kind, name, sent, nonce: fromBase64url(sealed.n), stream }), sealed);
    }
    const { fingerprint, ...opened } = cipher.open(sealed, kind);
    assert.deepEqual(opened, { body: JSON.parse(body), name, sent, stream: base64url(stream.id), counter });
    assert.equal(fromBase64url(fingerprint).length, 16);
    const long = JSON.stringify(cipher.blank(JSON.parse(body), name)).length - JSON.stringify({ ...sealed, k: "" }).length;
    assert.equal(long, 24, "a placeholder is as long as the sealed body");
  }
  for (const { fault, why, key, room, kind, sealed } of faults) {
    assert.throws(() => new RoomCipher(key, room).open(sealed, kind), { code: fault }, why);
  }
  for (const [length, expected] of lengths) assert.equal(padded(length), expected, String(length));
});

test("what earlier clients sealed still opens, in its room, under its key, and unaltered", async () => {
  const all = await vectors("room_key");
  assert.ok(all.length >= 6);
  for (const { key, room, k, nonce: n, body, c } of all) {
    assert.deepEqual(new RoomCipher(key, room).open({ e2e: 1, k, n, c }, "message"), { body: JSON.parse(body) });
  }
  const [{ key, room, k, nonce: n, c }] = all;
  const opens = (cipher, sealed) => cipher.open({ e2e: 1, k, n, c, ...sealed }, "message");
  const wrong = { code: "wrong_key" };
  assert.throws(() => opens(new RoomCipher(newKey(), room)), wrong);
  assert.throws(() => opens(new RoomCipher(key, `${room}2`)), wrong);
  const cipher = new RoomCipher(key, room);
  assert.throws(() => opens(cipher, { k: `${k}1` }), wrong);
  for (const [name, value] of Object.entries({ n, c })) {
    const bytes = fromBase64url(value);
    for (let at = 0; at < bytes.length; at += 1) {
      assert.throws(() => opens(cipher, { [name]: base64url(flipped(bytes, at)) }), wrong, `${name} ${at}`);
    }
    for (const bad of ["", value.slice(0, -4), `${value}AAAA`, `${value}=`, `${value} `, "§", "A"]) {
      assert.throws(() => opens(cipher, { [name]: bad }), wrong, `${name} ${bad}`);
    }
  }
  for (const key of ["", "short", `${newKey()}A`, newKey().slice(1)]) assert.throws(() => new RoomCipher(key, room), RangeError);
});

test("every altered bit of a sealed body shows, and what is no JSON is no message", () => {
  const cipher = new RoomCipher(newKey(), "r");
  const sealed = cipher.seal({ text: "hello" }, "k", { kind: "message", name: "ann" });
  assert.equal(cipher.open(sealed, "message").name, "ann");
  for (const [name, code] of [["i", "other_key"], ["n", "altered"], ["c", "altered"]]) {
    const bytes = fromBase64url(sealed[name]);
    for (let at = 0; at < bytes.length; at += 1) {
      assert.throws(() => cipher.open({ ...sealed, [name]: base64url(flipped(bytes, at)) }, "message"), { code }, `${name} ${at}`);
    }
  }
});

// What a reader marks.

/** Returns a reader of room "r", and what seals for it; each author is a stream. */
function room() {
  const key = newKey();
  const cipher = new RoomCipher(key, "r");
  let keys = 0;
  const author = (name) => {
    const streams = { message: new Stream(), signal: new Stream() };
    return (text, kind = "message") => cipher.seal({ text }, `k${(keys += 1)}`, { kind, name, stream: streams[kind] });
  };
  const reader = new RoomReader(key, "r");
  const hear = (seq, body, name = "ann") => {
    const { fields, changes } = reader.message({ seq, from: { name }, body });
    return [fields.unreadable ?? fields.body?.text, ...(fields.marks ?? []), ...(fields.missing ? [fields.missing] : []), ...changes];
  };
  return { author, cipher, hear, key, reader };
}

/** Seals a body of version 1, as earlier clients did. */
async function first(key, k, text) {
  const { hkdf, sha256, xchacha20poly1305 } = await load("racerd/noble.js");
  const derived = hkdf(sha256, fromBase64url(key), undefined, Buffer.from("racerd e2e 1 r"), 32);
  const c = xchacha20poly1305(derived, new Uint8Array(24), Buffer.from(`racerd e2e 1\0r\0${k}`)).encrypt(Buffer.from(JSON.stringify({ text })));
  return { e2e: 1, k, n: base64url(new Uint8Array(24)), c: base64url(c) };
}

test("a signal is no message, a message no signal, and neither is heard twice", () => {
  const { author, hear, reader } = room();
  const say = author("ann");
  const [message, signal, next] = [say("one"), say("typing", "signal"), say("two", "signal")];
  assert.deepEqual(hear(1, signal), ["altered"], "a captured signal, stored as a message");
  const from = { name: "ann" };
  assert.equal(reader.signal({ from, body: message }), null, "a captured message as a signal");
  assert.deepEqual(hear(2, message), ["one"]);
  assert.deepEqual(reader.signal({ from, body: signal }), { said: { text: "typing" } });
  assert.equal(reader.signal({ from, body: signal }), null);
  assert.equal(reader.signal({ from: { name: "eve" }, body: next }), null, "under another name");
  assert.deepEqual(reader.signal({ from, body: next }), { said: { text: "two" } });
  assert.equal(reader.signal({ from, body: { typing: true } }), null);
});

test("of two messages with the same body, the later is the repeat, in whatever order they are read", () => {
  const { author, hear } = room();
  const one = author("ann")("one");
  assert.deepEqual(hear(7, one), ["one"]);
  assert.deepEqual(hear(7, one), ["one"], "the same message, read again");
  assert.deepEqual(hear(8, one), ["repeat"]);
  // History is read backwards.
  assert.deepEqual(hear(3, one), ["one", { seq: 7, body: null, unreadable: "repeat" }]);
  assert.deepEqual(hear(1, one), ["one", { seq: 3, body: null, unreadable: "repeat" }]);
  assert.deepEqual(hear(7, one), ["repeat"]);
});

test("another name than the author's, another order than the author's, and holes show", () => {
  const { author, hear } = room();
  const [say, other] = [author("ann"), author("bob")];
  const bodies = Array.from({ length: 7 }, (_, at) => say(`${at + 1}`));
  assert.deepEqual(hear(10, bodies[1]), ["2"], "a reader may begin anywhere");
  assert.deepEqual(hear(11, other("x")), ["x", "name"]);
  assert.deepEqual(hear(12, bodies[4]), ["5", 2]);
  assert.deepEqual(hear(13, bodies[3]), ["4", "out_of_order"]);
  assert.deepEqual(hear(14, bodies[5]), ["6"]);
  assert.deepEqual(hear(9, bodies[0]), ["1"]);
  assert.deepEqual(hear(8, bodies[6]), ["7", ...[9, 10, 12, 14].map((seq) => ({ seq, marks: ["out_of_order"], missing: 0 }))]);
});

test("what was heard before a new log is known in it; other bytes under its counter are a repeat", () => {
  const { author, cipher, hear, reader } = room();
  const say = author("ann");
  const [one, two] = [say("one"), say("two")];
  hear(5, one);
  hear(6, two);
  reader.restart();
  assert.deepEqual(hear(1, one), ["one", "again"]);
  assert.deepEqual(hear(2, one), ["repeat"]);
  const stream = new Stream();
  const twice = [1, 2].map((n) => {
    stream.counter = 0;
    return cipher.seal({ text: n }, `twice ${n}`, { kind: "message", name: "ann", stream });
  });
  assert.deepEqual(hear(3, twice[0]), [1]);
  assert.deepEqual(hear(4, twice[1]), ["repeat"]);
  reader.restart();
  assert.deepEqual(hear(1, twice[1]), ["repeat"]);
  assert.deepEqual(hear(2, twice[0]), [1, "again"]);
});

test("the old form is marked above the first message of the new one, in whatever order they are read", async () => {
  const { author, hear, key, reader } = room();
  const old = await Promise.all([1, 2, 3, 4].map((n) => first(key, `old ${n}`, `old ${n}`)));
  assert.deepEqual(hear(8, old[0]), ["old 1"]);
  assert.deepEqual(hear(9, old[1]), ["old 2"]);
  assert.deepEqual(hear(10, old[1]), ["repeat"]);
  assert.deepEqual(reader.signal({ from: { name: "ann" }, body: old[3] }), { said: { text: "old 4" } });
  assert.equal(reader.signal({ from: { name: "ann" }, body: old[3] }), null);
  const [one, two] = [author("ann")("one"), author("bob")("two")];
  assert.deepEqual(hear(12, one), ["one"]);
  assert.deepEqual(hear(13, old[2]), ["old 3", "old_form"]);
  assert.deepEqual(hear(8, two, "bob"), ["two", ...[8, 9].map((seq) => ({ seq, marks: ["old_form"], missing: 0 }))].slice(0, 3));
  assert.equal(reader.signal({ from: { name: "ann" }, body: await first(key, "s", "s") }), null);
  reader.restart();
  assert.deepEqual(hear(1, old[0]), ["old 1", "again", "old_form"]);
});

test("marks do not depend on the order in which the log is read, and the oldest are forgotten", () => {
  let seed = 1;
  const random = (below) => ((seed = (seed * 48_271) % 2_147_483_647) % below);
  for (let round = 0; round < 300; round += 1) {
    const log = Array.from({ length: 12 }, (_, at) => ({ seq: at + 1, stream: `s${random(2)}`, counter: 1 + random(9) }));
    for (const message of log) message.fingerprint = `${message.counter}`;
    const read = (messages) => {
      const [heard, told] = [new Heard(), new Map()];
      for (const message of messages) {
        const { row, isRepeat, changed, repeats } = heard.message(message);
        told.set(message.seq, isRepeat ? "repeat" : { marks: [...row.marks], missing: row.missing });
        for (const { seq, marks, missing } of changed) told.set(seq, { marks: [...marks], missing });
        for (const seq of repeats) told.set(seq, "repeat");
      }
      return log.map(({ seq }) => told.get(seq));
    };
    const forward = read(log);
    assert.deepEqual(read([...log].reverse()), forward, JSON.stringify(log));
    assert.deepEqual(read([...log].sort(() => random(3) - 1)), forward, JSON.stringify(log));
  }
  const heard = new Heard(10);
  for (let counter = 1; counter <= 1000; counter += 1) {
    assert.deepEqual(heard.message({ seq: counter, stream: "s", counter, fingerprint: "" }).row.missing, 0);
    assert.ok(heard.first({ seq: counter, k: `${counter}` }).row);
  }
  assert.ok(heard.message({ seq: 1001, stream: "s", counter: 991, fingerprint: "" }).isRepeat);
  assert.deepEqual(heard.message({ seq: 1002, stream: "s", counter: 900, fingerprint: "" }).row.marks, ["out_of_order"], "forgotten, and still too late");
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
