// Firefox, driven by puppeteer-core over WebDriver BiDi. The interface is that of webkit.mjs.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { require } from "../support.mjs";

const puppeteer = require("puppeteer-core").default;

/** Is this the browser's message about a server that cannot be reached? */
const IS_NETWORK = /can.t establish a connection|was interrupted while the page was loading|NetworkError|NS_ERROR|Content-Security-Policy.*navigation/;

class Window {
  #page;

  constructor(page, complaints) {
    this.#page = page;
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => complaints.push(String(error.stack ?? error)));
    page.on("console", (message) => {
      if (message.type() === "error" && !IS_NETWORK.test(message.text())) complaints.push(message.text());
    });
  }

  async goto(url) {
    await this.#page.goto(url, { waitUntil: "load" });
  }

  async reload() {
    await this.#page.reload({ waitUntil: "load" });
  }

  /** Returns the result of `look(...args)` in the page. */
  run(look, ...args) {
    return this.#page.evaluate(look, ...args);
  }

  /** Replaces a field's content by keyboard. */
  async type(selector, text) {
    const { keyboard } = this.#page;
    await this.#page.focus(selector);
    await keyboard.down("Control");
    await keyboard.press("a");
    await keyboard.up("Control");
    await keyboard.press("Backspace");
    await keyboard.type(text);
  }

  async enter(selector) {
    await this.#page.focus(selector);
    await this.#page.keyboard.press("Enter");
  }

  async click(selector) {
    await this.#page.click(selector);
  }

  async shot(file) {
    await this.#page.screenshot({ path: file });
  }

  async close() {
    await this.#page.close();
  }
}

export class Firefox {
  static title = "Firefox";
  complaints = [];
  #browser;
  #folder;

  /** Starts a browser with its own profile; `stores` is false if pages may store nothing. */
  static async start(t, { stores = true } = {}) {
    const made = new Firefox();
    made.#folder = await mkdtemp(path.join(tmpdir(), "racerd-firefox-"));
    made.#browser = await puppeteer.launch({
      browser: "firefox",
      executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
      headless: true,
      userDataDir: made.#folder,
      defaultViewport: { width: 1100, height: 760 },
      // 2 blocks cookies, and with them all storage.
      extraPrefsFirefox: { "network.cookie.cookieBehavior": stores ? 0 : 2, "intl.accept_languages": "en-GB" },
    });
    t.after(async () => {
      await made.#browser.close();
      await rm(made.#folder, { recursive: true, force: true });
    });
    return made;
  }

  /** Returns the product and its version. */
  get version() {
    return this.#browser.version();
  }

  /** Opens a window; `size` is that of the page's visible part, in CSS pixels. */
  async window(size) {
    const page = await this.#browser.newPage();
    if (size) await page.setViewport(size);
    return new Window(page, this.complaints);
  }

  /** Returns the window that `open` causes the browser to open. */
  async opened(open) {
    const next = new Promise((resolve) => this.#browser.once("targetcreated", resolve));
    await open();
    return new Window(await (await next).page(), this.complaints);
  }
}
