// The line above the room that says how the connection is, while it is not well.

/** Short troubles are not worth a word; in milliseconds. */
const PATIENCE = 700;
const BACK_SHOWN = 3000;

const $ = (id) => document.getElementById(id);

export class Banner {
  #retry;
  #speak;
  #changed;
  #timer = null;
  #wasOpen = false;
  /** The server said that it goes: so it stays until it is back. */
  #isLeaving = false;
  /** The sentence that counts down, and the seconds it says: never more than before. */
  #counting = { what: "", seconds: Infinity };

  /** `retry()` tries at once, `speak(text)` tells a screen reader, `changed()` hears that the height may have changed. */
  constructor({ retry, speak, changed }) {
    this.#retry = retry;
    this.#speak = speak;
    this.#changed = changed;
    $("banner").hidden = true;
  }

  stop() {
    clearInterval(this.#timer);
    $("banner").hidden = true;
  }

  show(state) {
    clearInterval(this.#timer);
    const { phase, reason } = state;
    this.#isLeaving = phase === "open" ? false : this.#isLeaving || state.leaving === true;
    if (phase !== "waiting") this.#counting = { what: "", seconds: Infinity };
    if (phase === "open") this.#isOpen();
    else if (phase === "connecting") this.#connects();
    else if (phase === "waiting") this.#waits(state);
    else if (phase === "stopped" && reason) {
      this.#show("stopped", reason, "Try again");
      this.#speak(reason);
    }
  }

  #isOpen() {
    if ($("banner").hidden || !this.#wasOpen) {
      $("banner").hidden = true;
    } else {
      this.#show("back", "Connected again.");
      this.#speak("Connected again.");
      this.#timer = setTimeout(() => ($("banner").hidden = true), BACK_SHOWN);
    }
    this.#wasOpen = true;
  }

  #connects() {
    const what = this.#isLeaving ? "The server is restarting. Connecting…" : "Connecting…";
    if ($("banner").hidden) this.#timer = setTimeout(() => this.#show("lost", what), PATIENCE);
    else this.#show("lost", what);
  }

  #waits({ reason, retryAt }) {
    const what = reason ?? (this.#isLeaving ? "The server is restarting."
      : this.#wasOpen ? "Connection lost." : "No connection to the server.");
    if (this.#counting.what !== what) this.#counting = { what, seconds: Infinity };
    if ($("banner").hidden) this.#speak(what);
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
    button.onclick = () => this.#retry();
    this.#changed();
  }
}
