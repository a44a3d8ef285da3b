// A stretch of the log, of about fifty rows. Far from the view its rows are let go: what is left is their height, and
// their text in one node, so that the browser's own search finds it. Near the view they are made again, from what they
// show.

import { dayText, element, plain } from "./text.js";
import { fold, goesOn, joinUp, row } from "./row.js";

export class Chunk {
  element = element("ol", { class: "chunk" });
  /** What its rows show, in order: {message, isFirst, isUnfolded}, {day} or {note, damaged}. */
  #entries = [];
  #isGone = false;
  #height = 0;
  #makeRow;

  /** `rowOptions` are those of every row (row.js). */
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

  get isGone() {
    return this.#isGone;
  }

  /** Adds a row behind the others. Only where they are there. */
  push(entry) {
    const made = this.#makeRow(entry);
    this.#entries.push(entry);
    this.element.append(made);
    if (entry.message) fold(made);
    return made;
  }

  /** Takes away one of its entries. */
  drop(entry) {
    const index = this.#entries.indexOf(entry);
    if (index === -1) return;
    this.#entries.splice(index, 1);
    if (!this.#isGone) this.element.children[index].remove();
  }

  /** An older message stands before its first one from now on: both may be under one name. */
  follow(older) {
    const [entry] = this.#entries;
    if (!entry?.isFirst || !goesOn(entry.message, older)) return;
    entry.isFirst = false;
    if (!this.#isGone) joinUp(this.element.firstElementChild, entry.message);
  }

  replaceNote(entry, note) {
    entry.note.replaceWith(note);
    entry.note = note;
  }

  /** Changes the message with this seq, if it is here. */
  change(seq, changes) {
    const index = this.#entries.findIndex(({ message }) => message?.seq === seq);
    if (index === -1) return false;
    const entry = this.#entries[index];
    Object.assign(entry.message, changes);
    if (!this.#isGone) this.element.children[index].replaceWith(this.#makeRow(entry));
    return true;
  }

  /** Lets the rows go. Their height stays. */
  release() {
    this.#height = this.element.getBoundingClientRect().height;
    this.#isGone = true;
    const texts = this.#entries.map(({ message, note }) => (message ? plain(message, Infinity) : (note?.textContent ?? "")));
    this.element.replaceChildren(element("li", {}, texts.join("\n")));
    this.element.classList.add("gone");
    this.#setHeight(this.#height);
  }

  /** Makes the rows anew. They have the height they had, unless the width is another. */
  restore() {
    this.#isGone = false;
    this.element.classList.remove("gone");
    this.element.style.height = "";
    this.element.replaceChildren(...this.#entries.map(this.#makeRow));
    fold(this.element);
  }

  /** At another width the rows that are gone have about this part of their height. */
  stretch(by) {
    if (this.#isGone) this.#setHeight(this.#height * by);
    else fold(this.element);
  }

  #setHeight(height) {
    this.#height = height;
    this.element.style.height = `${height}px`;
  }
}
