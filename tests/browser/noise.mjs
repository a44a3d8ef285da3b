// The server's side of a sealed socket, on Node's own crypto: a second implementation, to test the first. It can have
// another key than the pinned one, and alter what it sends.

import { createCipheriv, createDecipheriv, createHash, createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { Server, WebSocket } from "./support.mjs";

const NAME = "Noise_NK_25519_ChaChaPoly_SHA256";
const TAG = 16;
const KEY_HEAD = { private: Buffer.from("302e020100300506032b656e04220420", "hex"), public: Buffer.from("302a300506032b656e032100", "hex") };

const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const publicKey = (raw) => createPublicKey({ key: Buffer.concat([KEY_HEAD.public, raw]), format: "der", type: "spki" });
export const privateKey = (raw) => createPrivateKey({ key: Buffer.concat([KEY_HEAD.private, raw]), format: "der", type: "pkcs8" });
export const rawPublic = (key) => createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
export const newPrivate = () => generateKeyPairSync("x25519").privateKey;

/** A key and its counter. */
export class Cipher {
  constructor(key, every = Infinity) {
    Object.assign(this, { key: Buffer.from(key), every, n: 0n });
  }

  nonce(n = this.n) {
    const bytes = Buffer.alloc(12);
    bytes.writeBigUInt64LE(n, 4);
    return bytes;
  }

  encrypt(plaintext, ad = Buffer.alloc(0), nonce = this.nonce()) {
    const cipher = createCipheriv("chacha20-poly1305", this.key, nonce, { authTagLength: TAG }).setAAD(ad, { plaintextLength: plaintext.length });
    return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  decrypt(sealed, ad = Buffer.alloc(0)) {
    const cipher = createDecipheriv("chacha20-poly1305", this.key, this.nonce(), { authTagLength: TAG });
    const end = sealed.length - TAG;
    cipher.setAAD(ad, { plaintextLength: end }).setAuthTag(sealed.subarray(end));
    return Buffer.concat([cipher.update(sealed.subarray(0, end)), cipher.final()]);
  }

  /** Advances to the next message. */
  next() {
    this.n += 1n;
    if (this.n % BigInt(this.every) === 0n) this.key = this.encrypt(Buffer.alloc(32), undefined, this.nonce(2n ** 64n - 1n)).subarray(0, 32);
  }
}

/** Answers the first message; throws if it is for another server. */
export function respond(message, { secret, prologue, ephemeral = newPrivate(), payload = Buffer.alloc(0), every }) {
  let chain = Buffer.from(NAME);
  let hash = sha256(Buffer.from(NAME), prologue);
  const mix = (bytes) => (hash = sha256(hash, bytes));
  const mixKey = (shared) => {
    const both = Buffer.from(hkdfSync("sha256", shared, chain, "", 64));
    chain = both.subarray(0, 32);
    return new Cipher(both.subarray(32));
  };
  mix(rawPublic(secret));
  const theirs = message.subarray(0, 32);
  mix(theirs);
  const asked = mixKey(diffieHellman({ privateKey: secret, publicKey: publicKey(theirs) })).decrypt(message.subarray(32), hash);
  mix(message.subarray(32));
  const own = rawPublic(ephemeral);
  mix(own);
  const sealed = mixKey(diffieHellman({ privateKey: ephemeral, publicKey: publicKey(theirs) })).encrypt(payload, hash);
  mix(sealed);
  const both = Buffer.from(hkdfSync("sha256", Buffer.alloc(0), chain, "", 64));
  const [receiving, sending] = [both.subarray(0, 32), both.subarray(32)].map((key) => new Cipher(key, every));
  return { asked, answer: Buffer.concat([own, sealed]), receiving, sending, hash };
}

/** Starts a racerd with a key; returns it with its pin. */
export async function sealedServer(t, ...args) {
  const secret = newPrivate();
  const folder = await mkdtemp(path.join(tmpdir(), "racerd-sealed-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, "key");
  const raw = secret.export({ format: "der", type: "pkcs8" }).subarray(-32).toString("base64url");
  await writeFile(file, `racerd-sealed-1 ${raw}\n`, { mode: 0o600 });
  const server = await Server.start(t, "--sealed-key", file, ...args);
  return { server, pin: rawPublic(secret).toString("base64url") };
}

/**
 * Starts a proxy that speaks sealed to clients and in the clear to a racerd, whose page it serves, too. `alter(frame,
 * number)` returns the frame to send to the client instead (-1 is the handshake's), or null to drop it. `close(code)`
 * closes all sockets, as a server does.
 */
export async function sealedProxy(t, server, { secret = newPrivate(), alter = (frame) => frame } = {}) {
  const made = { pin: rawPublic(secret).toString("base64url"), asked: [], heard: [], frames: [], alter };
  const closes = new Set();
  made.close = (code) => closes.forEach((close) => close(code));
  const listener = http.createServer((request, response) => {
    made.asked.push(request.url);
    if (request.url.startsWith("/ws")) return response.writeHead(426).end();
    const { method, url: path, headers } = request;
    http.request({ host: "127.0.0.1", port: server.port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    }).end();
  });
  const sockets = new WebSocket.Server({ server: listener, handleProtocols: (offered) => offered.has("racerd.v1.sealed") && "racerd.v1.sealed" });
  sockets.on("connection", (down, request) => {
    made.asked.push(request.url);
    let noise = null;
    let up = null;
    down.on("error", () => {});
    down.on("close", () => up?.terminate());
    const open = (query) => {
      up = new WebSocket(`${server.base.replace("http", "ws")}ws${query}`);
      const say = (data) => {
        const frame = noise.sending.encrypt(Buffer.concat([data, Buffer.from("\n")]));
        noise.sending.next();
        const sent = made.alter(frame, Number(noise.sending.n) - 1);
        if (sent !== null) down.send(sent);
      };
      const close = (code) => {
        say(Buffer.from(JSON.stringify({ type: "closing", code, reason: "a reason" })));
        down.close(code);
      };
      up.on("message", say);
      up.on("close", (code) => {
        closes.delete(close);
        if (down.readyState === WebSocket.OPEN) close(code === 1005 || code === 1006 ? 1001 : code);
      });
      closes.add(close);
      up.on("error", () => down.terminate());
    };
    down.on("message", (data, isBinary) => {
      made.frames.push(data);
      if (!isBinary) return down.close(1008);
      try {
        if (!noise) {
          noise = respond(data, { secret, prologue: Buffer.from("racerd.v1.sealed"), every: 65_536 });
          down.send(made.alter(noise.answer, -1));
          return open("?name=sealed");
        }
        const lines = noise.receiving.decrypt(data).toString().split("\n");
        noise.receiving.next();
        if (lines.pop() !== "") throw new Error("no LF");
        made.heard.push(lines.map((line) => JSON.parse(line)));
        for (const line of lines) up.send(line);
      } catch {
        down.close(1008);
      }
    });
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  t.after(() => {
    for (const client of sockets.clients) client.terminate();
    listener.closeAllConnections();
    listener.close();
  });
  return Object.assign(made, { base: `http://127.0.0.1:${listener.address().port}/` });
}
