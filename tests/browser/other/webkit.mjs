// Safari's engine, as WebKitGTK, driven by its WebDriver (W3C WebDriver) on an Xvfb screen. The interface is that of
// firefox.mjs.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import net from "node:net";
import readline from "node:readline";
import { until } from "../support.mjs";

const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";
const ENTER = "\uE007";

async function freePort() {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

async function end(child, signal = "SIGTERM") {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill(signal);
  await gone;
}

/** Starts a virtual screen; returns it with its name. */
async function startScreen() {
  const screen = spawn("Xvfb", ["-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"], { stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of readline.createInterface({ input: screen.stdout })) return { screen, display: `:${line.trim()}` };
  return assert.fail("Xvfb did not start");
}

class Window {
  #browser;
  #handle;

  constructor(browser, handle) {
    this.#browser = browser;
    this.#handle = handle;
  }

  #ask(method, path, body) {
    return this.#browser.ask(this.#handle, method, path, body);
  }

  async #element(selector) {
    const found = await this.#ask("POST", "/element", { using: "css selector", value: selector });
    return `/element/${found[ELEMENT]}`;
  }

  async goto(url) {
    await this.listen();
    await this.#ask("POST", "/url", { url });
    await this.listen();
  }

  async reload() {
    await this.listen();
    await this.#ask("POST", "/refresh", {});
    await this.listen();
  }

  /** Collects the page's errors, and listens for more: this driver reports none itself. */
  async listen() {
    this.#browser.complaints.push(...await this.run(() => {
      if (!window.complaints) {
        window.complaints = [];
        window.addEventListener("error", ({ message }) => window.complaints.push(message));
        window.addEventListener("unhandledrejection", ({ reason }) => window.complaints.push(String(reason)));
      }
      return window.complaints.splice(0);
    }));
  }

  async run(look, ...args) {
    const script = `const [given, done] = arguments;
      new Promise((resolve) => resolve((${look})(...given))).then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const { value, error } = await this.#ask("POST", "/execute/async", { script, args: [args] });
    assert.equal(error, undefined);
    return value;
  }

  async type(selector, text) {
    const element = await this.#element(selector);
    await this.#ask("POST", `${element}/clear`, {});
    await this.#ask("POST", `${element}/value`, { text });
  }

  async enter(selector) {
    await this.#ask("POST", `${await this.#element(selector)}/value`, { text: ENTER });
  }

  async click(selector) {
    await this.#ask("POST", `${await this.#element(selector)}/click`, {});
  }

  /** Impossible for a window that another one covers. */
  async shot(file) {
    await writeFile(file, Buffer.from(await this.#ask("GET", "/screenshot"), "base64"));
  }

  async close() {
    await this.listen();
    await this.#ask("DELETE", "/window");
    this.#browser.forget(this);
  }
}

export class WebKit {
  static title = "WebKitGTK";
  complaints = [];
  #windows = new Set();
  /** Returns the product and its version, once there is a session. */
  version;
  #base;
  /** The window to which commands go. */
  #current = null;
  #first;
  /** One command at a time, because the current window is state of the session. */
  #last = Promise.resolve();

  static async start(t, { stores = true } = {}) {
    const made = new WebKit();
    const { screen, display } = await startScreen();
    const port = await freePort();
    const env = { ...process.env, DISPLAY: display, GDK_BACKEND: "x11", WEBKIT_DISABLE_DMABUF_RENDERER: "1", LIBGL_ALWAYS_SOFTWARE: "1", NO_AT_BRIDGE: "1" };
    const driver = spawn(process.env.WEBKIT_DRIVER ?? "WebKitWebDriver", [`--port=${port}`], { env, stdio: ["ignore", "ignore", "ignore"] });
    t.after(() => made.#end([driver, screen]));
    made.#base = `http://127.0.0.1:${port}/session`;
    await until("the driver", () => fetch(`http://127.0.0.1:${port}/status`).then(({ ok }) => ok, () => false));
    const args = ["--automation", ...(stores ? [] : ["--features=-LocalStorage,-IndexedDBAPI"])];
    const { sessionId, capabilities } = await made.#fetch("POST", "", { capabilities: { alwaysMatch: {
      "webkitgtk:browserOptions": { args, ...(process.env.WEBKIT && { binary: process.env.WEBKIT }) },
    } } });
    made.#base += `/${sessionId}`;
    made.version = `${capabilities.browserName}/${capabilities.browserVersion}`;
    await made.#fetch("POST", "/timeouts", { script: 20_000, implicit: 0, pageLoad: 20_000 });
    made.#first = await made.#fetch("GET", "/window");
    return made;
  }

  /** Ends all, in this order: the browser needs its screen to the end. */
  async #end([driver, screen]) {
    try {
      for (const window of this.#windows) await window.listen();
      if (this.version) await this.#fetch("DELETE", "");
    } finally {
      await end(driver);
      await end(screen);
    }
  }

  async #fetch(method, path, body) {
    const answer = await fetch(this.#base + path, { method, body: body && JSON.stringify(body), headers: { "Content-Type": "application/json" } });
    const { value } = await answer.json();
    assert.ok(answer.ok, `${method} ${path}: ${value?.error}: ${value?.message}`);
    return value;
  }

  /** Sends a command to the window with this handle. */
  ask(handle, method, path, body) {
    const asked = this.#last.then(async () => {
      if (this.#current !== handle) await this.#fetch("POST", "/window", { handle });
      this.#current = handle;
      return this.#fetch(method, path, body);
    });
    this.#last = asked.catch(() => {});
    return asked;
  }

  forget(window) {
    this.#current = null;
    this.#windows.delete(window);
  }

  async #made(handle) {
    const window = new Window(this, handle);
    this.#windows.add(window);
    await window.listen();
    return window;
  }

  async window(size) {
    const first = this.#first;
    this.#first = null;
    const { handle } = first ? { handle: first } : await this.#fetch("POST", "/window/new", { type: "window" });
    const made = await this.#made(handle);
    if (!size) return made;
    // MiniBrowser's windows are at least as wide as their toolbar; one that a page opens has no toolbar.
    await made.goto("about:blank");
    return this.opened(async () => {
      await made.run((features) => (document.body.onclick = () => window.open("about:blank", "", features)) && null, `width=${size.width},height=${size.height}`);
      await made.click("body");
    });
  }

  async opened(open) {
    const before = await this.#fetch("GET", "/window/handles");
    await open();
    const handle = await until("another window", async () => (await this.#fetch("GET", "/window/handles")).find((each) => !before.includes(each)));
    return this.#made(handle);
  }
}
