// Servers, browsers and helpers for the browser tests. Tests wait for conditions, never for time to pass.
//
// Environment: RACERD is the binary; RACERD_NODE_PATH is the node_modules folder with playwright-core, axe-core and ws;
// CHROMIUM is the browser, by default /usr/bin/chromium. tests/run sets them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";

for (const name of ["RACERD", "RACERD_NODE_PATH"]) {
  assert.ok(process.env[name], `${name} is not set: run tests/run, or set what \`tests/run --env\` prints`);
}
export const require = createRequire(`${process.env.RACERD_NODE_PATH}/`);
export const WebSocket = require("ws");
const { chromium } = require("playwright-core");

const SOON = 20_000;
/** The size of a database's pages. */
const PAGE_BYTES = 2048;

/** Waits until `look` returns something true. Returns that. */
export async function until(what, look, most = SOON) {
  const end = Date.now() + most;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(Date.now() < end, `${what} did not come about within ${most} ms`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Makes the client library's files importable as they are served; `load(path)` imports one of them. */
export async function library() {
  const folder = await mkdtemp(path.join(tmpdir(), "racerd-client-"));
  const source = new URL("../../src/web/", import.meta.url);
  await cp(new URL("racerd", source), path.join(folder, "racerd"), { recursive: true });
  await cp(new URL("racerd.js", source), path.join(folder, "racerd.js"));
  // Node treats them as modules only if a package says so.
  await writeFile(path.join(folder, "package.json"), '{"type":"module"}');
  return { load: (file) => import(path.join(folder, file)), remove: () => rm(folder, { recursive: true }) };
}

// Servers.

/**
 * The next port to try. All are below those that the kernel gives to whoever asks for any, and those of test files that run
 * beside each other differ: while a server is down, nobody takes the port to which it comes back. (Browsers refuse 10080.)
 */
let nextPort = 12_000 + 32 * (process.pid % 640);

export class Server {
  #folder;
  #arguments;
  #child;
  #gone;
  /** The address to listen at. */
  host = "127.0.0.1";
  port = 0;
  scheme = "http";
  log = "";

  /** Starts a server with its own database; it ends with the test `t`. */
  static async start(t, ...args) {
    return Server.startAt(t, "127.0.0.1", ...args);
  }

  /** Starts a server at an address other than loopback. */
  static async startAt(t, host, ...args) {
    const server = new Server();
    server.host = host;
    server.#folder = await mkdtemp(path.join(tmpdir(), "racerd-browser-"));
    server.#arguments = args;
    t.after(async () => {
      await server.kill();
      await rm(server.#folder, { recursive: true, force: true });
    });
    await server.restart();
    return server;
  }

  get base() {
    return `${this.scheme}://${this.host}:${this.port}/`;
  }

  /** Starts the server again, on the same port and database. */
  async restart() {
    const chooses = this.port === 0;
    let listens = false;
    while (!listens) {
      if (chooses) this.port = nextPort++;
      listens = await this.#serve();
      const isTaken = this.log.includes("another program listens there");
      assert.ok(listens || (chooses && isTaken), `the server did not start: ${this.log}`);
      if (!listens) this.log = "";
    }
  }

  /** Whether it came to listen. */
  async #serve() {
    const args = ["serve", "--listen", `${this.host}:${this.port}`, "--data", path.join(this.#folder, "racerd.db"), ...this.#arguments];
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("RACERD")));
    // Behind TLS or another name guests would have to be let in by each test.
    if (!args.includes("--guests")) env.RACERD_GUESTS = "all";
    const child = spawn(process.env.RACERD, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    this.#gone = once(child, "exit");
    child.stderr.on("data", (data) => (this.log += data));
    for await (const line of readline.createInterface({ input: child.stdout })) {
      const found = /(https?):\/\/[^:]+:(\d+)/.exec(line);
      if (found) {
        this.scheme = found[1];
        return true;
      }
    }
    await this.#gone;
    return false;
  }

  /** Makes it read its settings again. */
  reload() {
    this.#child.kill("SIGHUP");
  }

  async kill() {
    return this.#end("SIGKILL");
  }

  async stop() {
    return this.#end("SIGTERM");
  }

  async #end(signal) {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal);
    await this.#gone;
  }

  /**
   * Overwrites the page of the running server's database in which this text stands. Pages keep old content: after a
   * split the last page with the text is the current one; `everywhere` overwrites all of them.
   */
  async damage(text, everywhere = false) {
    const file = await open(path.join(this.#folder, "racerd.db"), "r+");
    const bytes = await file.readFile();
    let at = bytes.lastIndexOf(text);
    assert.ok(at > 0, `“${text}” is not in the database`);
    for (; at > 0; at = everywhere ? bytes.lastIndexOf(text, at - 1) : -1) {
      await file.write(Buffer.alloc(PAGE_BYTES, 0xa5), 0, PAGE_BYTES, at - (at % PAGE_BYTES));
    }
    await file.close();
  }

  /** Publishes by HTTP. Returns the seq. */
  async post(room, body, name = "poster") {
    const answer = await fetch(`${this.base}rooms/${room}/messages?name=${encodeURIComponent(name)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    assert.equal(answer.status, 201, await answer.clone().text());
    return (await answer.json()).seq;
  }

  /** Returns a page of a room's history. Whoever waits for it by asking again and again is put off by the request rate. */
  async history(room, query) {
    for (;;) {
      const answer = await fetch(`${this.base}rooms/${room}/messages?${query}`);
      if (answer.status !== 429) {
        assert.equal(answer.status, 200, await answer.clone().text());
        return answer.json();
      }
      await new Promise((resolve) => setTimeout(resolve, 1000 * Number(answer.headers.get("Retry-After"))));
    }
  }

  /** Returns all bodies of a room. */
  async bodies(room) {
    const all = [];
    for (;;) {
      const page = await this.history(room, `after=${all.length}&limit=200`);
      all.push(...page.messages.map((message) => message.body));
      if (!page.more) return all;
    }
  }

  /** Sends all of these over one socket, as fast as the server accepts them. */
  async fill(room, bodies, name = "filler") {
    const member = await Member.join(this, room, name);
    let sent = 0;
    let acknowledged = 0;
    await new Promise((resolve, reject) => {
      const more = () => {
        while (sent < bodies.length && sent - acknowledged < 32) {
          sent += 1;
          member.say({ type: "send", id: sent, body: bodies[sent - 1] });
        }
      };
      member.heard = (value) => {
        if (value.type === "error") reject(new Error(value.message));
        if (value.type !== "ack") return;
        acknowledged += 1;
        if (acknowledged === bodies.length) resolve();
        else more();
      };
      more();
    });
    await member.leave();
  }
}

/** A member without a browser. */
export class Member {
  values = [];
  heard = null;

  static async join(server, room, name) {
    const member = new Member();
    const url = `${server.base.replace("http", "ws")}rooms/${room}/ws?name=${encodeURIComponent(name)}`;
    member.socket = new WebSocket(url);
    member.socket.on("message", (data) => {
      const value = JSON.parse(data);
      member.values.push(value);
      member.heard?.(value);
    });
    await until("joined", () => member.values.some((value) => value.type === "joined"));
    return member;
  }

  say(value) {
    this.socket.send(JSON.stringify(value));
  }

  async leave() {
    const closed = once(this.socket, "close");
    this.socket.close();
    await closed;
  }
}

// Relays and proxies.

/**
 * Starts a TCP relay. `cut()` ends all connections and refuses new ones, until `mend()`. With `holdsUp`, the relay
 * holds data from clients; with `losesDown`, it drops data from the server. `orphan()` ends only the clients' sides,
 * without the server's knowledge; `release()` then forwards the held data and ends the server's sides. `seen` has all
 * data, each way. `inject(bytes)` adds bytes to what the clients receive; with `forges`, the relay gives this text as
 * the answer to every request, itself.
 */
export async function relay(t, server) {
  const pairs = new Set();
  let isCut = false;
  const listener = net.createServer((client) => {
    if (isCut) return client.destroy();
    const up = net.connect(server.port, "127.0.0.1");
    const pair = { client, up, held: [], isOrphan: false };
    pairs.add(pair);
    client.on("data", (data) => {
      made.seen.up.push(data);
      if (made.forges) return client.end(made.forges);
      if (!made.holdsUp) return up.write(data);
      pair.held.push(data);
      made.held += data.length;
    });
    up.on("data", (data) => {
      made.seen.down.push(data);
      if (!made.losesDown) client.write(data);
    });
    const end = () => {
      if (pair.isOrphan) return;
      pairs.delete(pair);
      client.destroy();
      up.destroy();
    };
    for (const socket of [client, up]) socket.on("error", end).on("close", end);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const made = {
    base: `http://127.0.0.1:${listener.address().port}/`,
    accepted: 0,
    holdsUp: false,
    /** The number of bytes held so far. */
    held: 0,
    losesDown: false,
    forges: null,
    inject(bytes) {
      for (const { client } of pairs) client.write(bytes);
    },
    seen: { up: [], down: [] },
    cut() {
      isCut = true;
      for (const { client, up } of pairs) {
        client.destroy();
        up.destroy();
      }
    },
    mend() {
      isCut = false;
      made.holdsUp = made.losesDown = false;
    },
    orphan() {
      for (const pair of pairs) {
        pair.isOrphan = true;
        pair.client.destroy();
      }
    },
    release() {
      for (const pair of [...pairs].filter(({ isOrphan }) => isOrphan)) {
        pairs.delete(pair);
        for (const data of pair.held) pair.up.write(data);
        pair.up.end();
      }
    },
  };
  listener.on("connection", () => (made.accepted += 1));
  t.after(() => {
    made.cut();
    listener.close();
  });
  return made;
}

/**
 * Starts a proxy that serves the server under /chat/, and nothing elsewhere; `change` returns the headers to forward.
 */
export async function prefixProxy(t, server, change = (headers) => headers) {
  const target = (request) => (request.url.startsWith("/chat/") ? request.url.slice("/chat".length) : null);
  const elsewhere = [];
  const options = (request) => ({ port: server.port, host: "127.0.0.1", method: request.method, path: target(request), headers: change(request.headers, request.url) });
  const proxy = http.createServer((request, response) => {
    if (target(request) === null) {
      elsewhere.push(request.url);
      return response.writeHead(404).end();
    }
    http.request(options(request), (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    }).on("error", () => response.destroy()).end();
  });
  proxy.on("upgrade", (request, socket, early) => {
    if (target(request) === null) return elsewhere.push(request.url), socket.destroy();
    const up = http.request(options(request));
    up.on("error", () => socket.destroy());
    // A browser may reset a refused connection.
    socket.on("error", () => up.destroy());
    up.on("response", (answer) => {
      const lines = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
      socket.write(`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n${lines}\r\n`);
      answer.pipe(socket);
    });
    up.on("upgrade", (answer, upstream, first) => {
      const lines = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`);
      socket.write(first);
      upstream.write(early);
      socket.pipe(upstream).pipe(socket);
      for (const end of [socket, upstream]) end.on("error", () => [socket, upstream].forEach((one) => one.destroy()));
    });
    up.end();
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return { base: `http://127.0.0.1:${proxy.address().port}/chat/`, elsewhere };
}

// Browsers.

let browser = null;

/** Starts the browser of a file of tests. */
export async function startBrowser() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
}

export async function stopBrowser() {
  await browser?.close();
}

/**
 * Makes a new profile. Errors and warnings of its pages are in `complaints`, and fail the test unless `options.expects`
 * them.
 */
export async function profile(t, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, locale: "en-GB", timezoneId: "UTC", ...options });
  context.setDefaultTimeout(SOON);
  const complaints = [];
  const expected = options.expects ?? (() => false);
  context.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  context.on("weberror", (error) => complaints.push(String(error.error().stack)));
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((text) => !expected(text) && !isNetwork(text) && !isOpener(text)), [], "the page complained");
  });
  return Object.assign(context, { complaints });
}

/** Is this the browser's message that over plain http, except to this machine, it keeps no page apart from its opener? */
function isOpener(text) {
  return text.startsWith("The Cross-Origin-Opener-Policy header has been ignored, because the URL's origin was untrustworthy");
}

/** Is this the browser's message about a server that cannot be reached? */
function isNetwork(text) {
  return /WebSocket connection to .* failed|Failed to load resource: (net::|the server responded with a status of 426)/.test(text);
}

/** Opens a window in a room, under this name. */
export async function enter(context, base, room, name) {
  const page = await context.newPage();
  await page.goto(base);
  await page.fill("#room-field", room);
  await page.fill("#name-field", name);
  await page.press("#name-field", "Enter");
  await live(page);
  return page;
}

/** Waits until the window is in its room, with all messages. */
export async function live(page) {
  await page.waitForFunction(() => /^\d/.test(document.getElementById("people-count").textContent)
    && document.getElementById("banner").hidden !== false && document.getElementById("beginning").textContent !== "Loading…");
}

export async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

/** Returns the texts in the log, in order. */
export function texts(page) {
  return page.$$eval("#log .message .body", (bodies) => bodies.map((body) => body.textContent));
}

/** Waits until the log has exactly these texts. */
export async function shows(page, wanted) {
  let seen;
  try {
    await until("the log", async () => {
      seen = await texts(page);
      return seen.length === wanted.length && seen.every((text, index) => text === wanted[index]);
    });
  } catch {
    assert.deepEqual(seen, wanted);
  }
}
