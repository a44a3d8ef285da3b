// Keeps what was typed in a room until it is sent or cleared: across reloads, visits to other rooms, and the tab's end.
// In a room with a key, drafts are sealed under that key.

import { memory } from "./memory.js";

/** Drafts are stored after this long without typing, in milliseconds, and when the page may close. */
const CALM = 300;

export class Draft {
  #room;
  #roomKey;
  #cipher = null;
  #timer = null;
  #pending;
  /** Another tab's draft, with which this one began. */
  #adopted = null;

  constructor(room, roomKey) {
    this.#room = room;
    this.#roomKey = roomKey;
  }

  /** Resolves with this tab's draft, or else another tab's. */
  async load() {
    const all = memory.drafts(this.#room);
    if (this.#roomKey) {
      const { RoomCipher } = await import("../racerd/room_key.js");
      this.#cipher = new RoomCipher(this.#roomKey, this.#room);
      if (this.#pending !== undefined) this.save();
    }
    const own = all.findLast(({ tab }) => tab === memory.tab);
    const text = this.#open(own);
    if (text !== "") return text;
    this.#adopted = all.findLast((draft) => draft !== own && this.#open(draft) !== "") ?? null;
    return this.#open(this.#adopted);
  }

  set(text) {
    this.#pending = text;
    clearTimeout(this.#timer);
    // A sent or cleared draft must not come back.
    if (text === "") this.save();
    else this.#timer = setTimeout(() => this.save(), CALM);
  }

  save() {
    clearTimeout(this.#timer);
    if (this.#pending === undefined) return;
    // Drafts of a room with a key are never stored in the clear.
    if (this.#roomKey && !this.#cipher && this.#pending !== "") return;
    const { tab } = memory;
    const isAdopted = (draft) => this.#adopted !== null && JSON.stringify(draft) === JSON.stringify(this.#adopted);
    const others = memory.drafts(this.#room).filter((draft) => draft.tab !== tab && !isAdopted(draft));
    const own = this.#pending === "" ? [] : [{ tab, ...this.#write(this.#pending) }];
    this.#pending = undefined;
    this.#adopted = null;
    memory.setDrafts(this.#room, [...others, ...own]);
  }

  #write(text) {
    return this.#cipher ? { sealed: this.#cipher.seal({ text }, "draft", { kind: "draft" }) } : { text };
  }

  #open(draft) {
    try {
      const text = this.#cipher ? this.#cipher.open(draft.sealed, "draft").body.text : draft.text;
      return typeof text === "string" ? text : "";
    } catch {
      // There is none, or it has another key.
      return "";
    }
  }
}
