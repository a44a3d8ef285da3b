// The line above the room that shows trouble with the connection.

import { $ } from "./text.js";

/** Shorter troubles are not shown; in milliseconds. */
const PATIENCE = 700;
const BACK_SHOWN = 3000;

export class Banner {
  #owner;
  #timer = null;
  #wasOpen = false;
  #isLeaving = false;
  /** The warning that was spoken last. */
  #warned = undefined;
  /** The text of the countdown and the seconds last shown, so that it never counts up. */
  #counting = { what: "", seconds: Infinity };

  /**
   * `owner`: `retry()` connects at once, `speak(text)` informs a screen reader, `changed()` is called when the height
   * may change.
   */
  constructor(owner) {
    this.#owner = owner;
    $("banner").hidden = true;
  }

  stop() {
    clearInterval(this.#timer);
    $("banner").hidden = true;
  }

  show(state) {
    clearInterval(this.#timer);
    const { phase, reason, warning } = state;
    this.#isLeaving = phase === "open" ? false : this.#isLeaving || state.leaving === true;
    if (phase !== "waiting") this.#counting = { what: "", seconds: Infinity };
    if (phase === "open") this.#isOpen();
    else if (phase === "connecting") this.#connects(warning);
    else if (phase === "waiting") this.#waits(state);
    else if (phase === "stopped" && reason) {
      this.#show("stopped", reason, "Try again");
      this.#owner.speak(reason);
    }
  }

  #isOpen() {
    if ($("banner").hidden || !this.#wasOpen) {
      $("banner").hidden = true;
    } else {
      this.#show("back", "Connected again.");
      this.#owner.speak("Connected again.");
      this.#timer = setTimeout(() => ($("banner").hidden = true), BACK_SHOWN);
    }
    this.#wasOpen = true;
  }

  #connects(warning) {
    const what = `${warning ? `${warning} ` : this.#isLeaving ? "The server is restarting. " : ""}Connecting…`;
    if ($("banner").hidden) this.#timer = setTimeout(() => this.#show("lost", what), PATIENCE);
    else this.#show("lost", what);
  }

  #waits({ reason, retryAt, warning }) {
    const what = warning ?? reason ?? (this.#isLeaving ? "The server is restarting."
      : this.#wasOpen ? "Connection lost." : "No connection to the server.");
    if (this.#counting.what !== what) this.#counting = { what, seconds: Infinity };
    if ($("banner").hidden || (warning && warning !== this.#warned)) this.#owner.speak(what);
    this.#warned = warning;
    const count = () => {
      const seconds = Math.min(this.#counting.seconds, Math.ceil((retryAt - performance.now()) / 1000));
      this.#counting.seconds = seconds;
      this.#show("lost", `${what} Trying again ${seconds > 0 ? `in ${seconds} s` : "now"}.`, "Now");
    };
    count();
    this.#timer = setInterval(count, 500);
  }

  #show(kind, text, action) {
    const banner = $("banner");
    const [words, button] = banner.children;
    banner.className = kind;
    banner.hidden = false;
    if (words.textContent !== text) words.textContent = text;
    button.hidden = !action;
    if (action && button.textContent !== action) button.textContent = action;
    button.onclick = () => this.#owner.retry();
    this.#owner.changed();
  }
}
