// About fifty consecutive rows of the log. Far from the view, its rows are released: their height stays, and their text
// in one node, so that the browser's own search finds it. Near the view they are built again.

import { dayText, element, plain } from "./text.js";
import { fold, goesOn, joinUp, row } from "./row.js";

export class Chunk {
  element = element("ol", { class: "chunk" });
  /** The rows' content in order: {message, isFirst, isUnfolded}, {day} or {note, damaged}. */
  #entries = [];
  #isReleased = false;
  #height = 0;
  #makeRow;

  constructor(rowOptions) {
    this.#makeRow = (entry) => {
      if (entry.note) return entry.note;
      if (entry.day !== undefined) return element("li", { class: "day" }, element("span", {}, dayText(entry.day)));
      const { message, isFirst, isUnfolded } = entry;
      const onFold = (made, unfolded, act) => {
        entry.isUnfolded = unfolded;
        rowOptions.onFold(made, act);
      };
      return row(message, { ...rowOptions, isFirst, isUnfolded, onFold });
    };
  }

  get size() {
    return this.#entries.length;
  }

  get first() {
    return this.#entries[0];
  }

  get last() {
    return this.#entries.at(-1);
  }

  get isReleased() {
    return this.#isReleased;
  }

  push(entry) {
    const made = this.#makeRow(entry);
    this.#entries.push(entry);
    this.element.append(made);
    if (entry.message) fold(made);
    return made;
  }

  drop(entry) {
    const index = this.#entries.indexOf(entry);
    if (index === -1) return;
    this.#entries.splice(index, 1);
    if (!this.#isReleased) this.element.children[index].remove();
  }

  /** Puts the first message under the name of `older`, the message before this chunk, if they belong together. */
  follow(older) {
    const [entry] = this.#entries;
    if (!entry?.isFirst || !goesOn(entry.message, older)) return;
    entry.isFirst = false;
    if (!this.#isReleased) joinUp(this.element.firstElementChild, entry.message);
  }

  replaceNote(entry, note) {
    entry.note.replaceWith(note);
    entry.note = note;
  }

  change(seq, changes) {
    const index = this.#entries.findIndex(({ message }) => message?.seq === seq);
    if (index === -1) return false;
    const entry = this.#entries[index];
    Object.assign(entry.message, changes);
    if (!this.#isReleased) this.element.children[index].replaceWith(this.#makeRow(entry));
    return true;
  }

  release() {
    this.#height = this.element.getBoundingClientRect().height;
    this.#isReleased = true;
    const texts = this.#entries.map(({ message, note }) => (message ? plain(message, Infinity) : (note?.textContent ?? "")));
    this.element.replaceChildren(element("li", {}, texts.join("\n")));
    this.element.classList.add("gone");
    this.#setHeight(this.#height);
  }

  restore() {
    this.#isReleased = false;
    this.element.classList.remove("gone");
    this.element.style.height = "";
    this.element.replaceChildren(...this.#entries.map(this.#makeRow));
    fold(this.element);
  }

  /** Estimates the height of released rows at a new width. */
  stretch(by) {
    if (this.#isReleased) this.#setHeight(this.#height * by);
    else fold(this.element);
  }

  #setHeight(height) {
    this.#height = height;
    this.element.style.height = `${height}px`;
  }
}
