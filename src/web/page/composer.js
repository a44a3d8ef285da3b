// The field one types in: its draft, what is wrong with what stands in it, and that somebody is typing. It hands on what
// is to be sent; it knows no server.

import { Draft } from "./draft.js";
import { count } from "./text.js";

/** “I am typing” is said so often at most, in milliseconds. */
const TYPING_EVERY = 3000;
const FAULT_SHOWN = 8000;

const $ = (id) => document.getElementById(id);

export class Composer {
  #text = $("text");
  #draft;
  #excess;
  #send;
  #typing;
  #resized;
  #isLocked = false;
  #isStopped = false;
  #typedAt = -Infinity;
  #faultTimer = null;

  /**
   * `excess(body)` says by how many bytes a body is too long, `send(body)` sends it, `typing(is)` tells the others;
   * `resized()` hears that the field's height may have changed.
   */
  constructor({ room, roomKey, excess, send, typing, resized }) {
    this.#draft = new Draft(room, roomKey);
    this.#excess = excess;
    this.#send = send;
    this.#typing = typing;
    this.#resized = resized;
    const text = this.#text;
    text.value = "";
    text.oninput = () => this.#typed();
    text.onkeydown = (event) => {
      // While a word is being composed (Japanese, say), Enter ends the word; 229 is how Safari says so.
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

  /** Does something stand in the field? */
  get isEmpty() {
    return this.#text.value.trim() === "";
  }

  get isLocked() {
    return this.#isLocked;
  }

  /** Nothing can be said here, for this reason. What stands in the field stays. */
  lock(words) {
    this.#setLocked(true);
    this.fault(words, "locked");
  }

  /** A word about what stands in the field, or about the room. Some kinds of it stay, others go by themselves. */
  fault(text, kind = "") {
    const place = $("text-fault");
    if (place.dataset.kind === "locked" && this.#isLocked && kind !== "locked") return;
    clearTimeout(this.#faultTimer);
    place.dataset.kind = kind;
    if (place.textContent !== text) place.textContent = text;
    if (!["length", "locked"].includes(kind) && text !== "") this.#faultTimer = setTimeout(() => this.fault(""), FAULT_SHOWN);
    this.#resized();
  }

  /** The page may be gone in a moment. */
  save() {
    // Also what was here before: another window may have taken it over meanwhile.
    if (!this.isEmpty) this.#draft.set(this.#text.value);
    this.#draft.save();
  }

  stop() {
    this.save();
    clearTimeout(this.#faultTimer);
    this.#isStopped = true;
  }

  async #restore() {
    // Where what opens it cannot be loaded there is none.
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
    // Not before it is on its way: what fails here is still there.
    this.#send(body);
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
      this.#typing(true);
    } else if (!isTyping && this.#typedAt !== -Infinity) {
      // A message that goes out says it, too; for one that is thrown away it has to be said.
      this.#typedAt = -Infinity;
      this.#typing(false);
    }
  }

  #isTooLong(body) {
    const excess = this.#excess(body);
    if (excess > 0) this.fault(`This is ${count(excess, "byte")} too long to be sent. Make it shorter, or send it in parts.`, "length");
    return excess > 0;
  }

  #fitHeight() {
    const text = this.#text;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
    this.#resized();
  }
}
