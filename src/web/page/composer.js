// The message field: its draft, its faults, and typing notifications. It knows no server.

import { Draft } from "./draft.js";
import { $, count } from "./text.js";

/** The shortest time between two typing notifications, in milliseconds. */
const TYPING_EVERY = 3000;
const FAULT_SHOWN = 8000;

export class Composer {
  #text = $("text");
  #draft;
  #owner;
  #isLocked = false;
  #isStopped = false;
  #typedAt = -Infinity;
  #faultTimer = null;

  /**
   * `owner`: `excess(body)` returns by how many bytes a body is too long; `send(body)`; `typing(is)` notifies the
   * others; `resized()` is called when the height may have changed.
   */
  constructor({ room, roomKey, ...owner }) {
    this.#draft = new Draft(room, roomKey);
    this.#owner = owner;
    const text = this.#text;
    text.value = "";
    text.oninput = () => this.#typed();
    text.onkeydown = (event) => {
      // While a word is being composed (in Japanese, say), Enter ends the word; Safari reports that as 229.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit();
    };
    $("composer").onsubmit = (event) => {
      event.preventDefault();
      this.#submit();
      text.focus();
    };
    this.#setLocked(false);
    this.#fitHeight();
    this.#restore();
    if (matchMedia("(hover: hover)").matches) text.focus();
  }

  get isEmpty() {
    return this.#text.value.trim() === "";
  }

  get isLocked() {
    return this.#isLocked;
  }

  /** Disables the field for the reason `words`. Its content stays. */
  lock(words) {
    this.#setLocked(true);
    this.fault(words, "locked");
  }

  /** Shows a text below the field. The kinds `length` and `locked` stay, others disappear after a while. */
  fault(text, kind = "") {
    const place = $("text-fault");
    if (place.dataset.kind === "locked" && this.#isLocked && kind !== "locked") return;
    clearTimeout(this.#faultTimer);
    place.dataset.kind = kind;
    if (place.textContent !== text) place.textContent = text;
    if (!["length", "locked"].includes(kind) && text !== "") this.#faultTimer = setTimeout(() => this.fault(""), FAULT_SHOWN);
    this.#owner.resized();
  }

  save() {
    // Even if unchanged: another window may have taken the draft over meanwhile.
    if (!this.isEmpty) this.#draft.set(this.#text.value);
    this.#draft.save();
  }

  stop() {
    this.save();
    clearTimeout(this.#faultTimer);
    this.#isStopped = true;
  }

  async #restore() {
    // If the code that opens it cannot be loaded, there is no draft.
    const draft = await this.#draft.load().catch(() => "");
    if (draft === "" || this.#text.value !== "" || this.#isStopped) return;
    this.#text.value = draft;
    this.#fitHeight();
  }

  #setLocked(isLocked) {
    this.#isLocked = isLocked;
    this.#text.disabled = isLocked;
    $("composer").querySelector("button").disabled = isLocked;
  }

  #submit() {
    const said = this.#text.value.trimEnd();
    if (said === "" || this.isEmpty || this.#isLocked) return;
    const body = { text: said.toWellFormed?.() ?? said };
    if (this.#isTooLong(body)) return;
    // Only once it is sent, so that a failure loses nothing.
    this.#owner.send(body);
    this.#text.value = "";
    this.#typed();
  }

  #typed() {
    const { value } = this.#text;
    this.#fitHeight();
    this.#draft.set(value);
    if (!this.#isTooLong({ text: value }) && $("text-fault").dataset.kind === "length") this.fault("");
    const isTyping = !this.isEmpty;
    const now = performance.now();
    if (isTyping && now - this.#typedAt > TYPING_EVERY) {
      this.#typedAt = now;
      this.#owner.typing(true);
    } else if (!isTyping && this.#typedAt !== -Infinity) {
      // A sent message ends it, too; a deleted one does not.
      this.#typedAt = -Infinity;
      this.#owner.typing(false);
    }
  }

  #isTooLong(body) {
    const excess = this.#owner.excess(body);
    if (excess > 0) this.fault(`This message is ${count(excess, "byte")} too long. Shorten it, or send it in parts.`, "length");
    return excess > 0;
  }

  #fitHeight() {
    const text = this.#text;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
    this.#owner.resized();
  }
}
