// The scrolling list of messages, grouped by author and day. It knows no server.
//
// Rows lie in chunks of about CHUNK messages (chunk.js) and exist only near the view, so thousands of messages cost
// little. `#keepView` replaces the browser's scroll anchoring, which not all browsers have.

import { Chunk } from "./chunk.js";
import { goesOn } from "./row.js";
import { $, count, dayOf, element } from "./text.js";

const CHUNK = 50;
/** Distances in pixels: the view counts as at the end; older messages are loaded near the beginning. */
const AT_END = 40;
const NEAR_BEGINNING = 1500;
/** Chunks nearer to the view than NEAR are built, those farther than FAR released. */
const NEAR = 2500;
const FAR = 5000;

export class Log {
  #scroller = $("scroller");
  #list = $("log");
  #newest = $("newest");
  #owner;
  #rowOptions;
  /** @type {Chunk[]} the oldest first; the last one is never released */
  #chunks = [];
  /** Whether the view follows new messages, and the scroll position of the end. */
  #sticks = true;
  #end = 0;
  /** The first row in view after the last scrolling. */
  #reading = {};
  #unseen = 0;
  #last = null;
  #lastNote = null;
  /** The first day label, which is dropped if an older page ends on the same day: {chunk, entry}. */
  #firstDay = null;
  /** Stands under the newest message if it was sent from here. */
  #sentMark = element("p", { class: "state sent" }, "Sent");
  #width = 0;
  #observer;

  /**
   * Calls `wantOlder()` near the beginning and `seen()` at the end. With `marksPlain`, unencrypted messages are marked.
   */
  constructor({ marksPlain, ...owner }) {
    this.#rowOptions = { marksPlain, onFold: (made, act) => this.#fold(made, act) };
    this.#owner = owner;
    this.#list.replaceChildren();
    this.#showNewest();
    this.#scroller.onscroll = () => this.#scrolled();
    this.#newest.onclick = () => {
      this.toEnd();
      this.#scroller.focus();
    };
    this.#observer = new ResizeObserver(() => this.#resized());
    for (const sized of [this.#scroller, this.#list]) this.#observer.observe(sized);
  }

  stop() {
    this.#observer.disconnect();
    this.#scroller.onscroll = null;
    this.#newest.onclick = null;
  }

  get isAtEnd() {
    return this.#sticks;
  }

  get isNearBeginning() {
    return this.#scroller.scrollTop < NEAR_BEGINNING;
  }

  /** Adds a message at the end; with `isNews` it counts as unseen until the end is in view. */
  append(message, isNews) {
    this.#sentMark.remove();
    if (isDamaged(message)) return this.#appendDamaged();
    const last = this.#last;
    if (!last || dayOf(message.at) !== dayOf(last.at)) this.#pushDay(message.at);
    const made = this.#tail(true).push({ message, isFirst: !goesOn(message, last) });
    if (message.key) made.append(this.#sentMark);
    this.#last = message;
    this.#lastNote = null;
    if (isNews && !this.#sticks) {
      this.#unseen += 1;
      this.#showNewest();
    }
    // The observer scrolls along, once a frame: reading the height here would cost a layout each time.
  }

  /** Adds a note at the end, or replaces the last line if that is a note of the same kind. */
  note(kind, ...children) {
    const made = element("li", { class: `note ${kind}` }, ...children);
    if (this.#lastNote?.kind === kind) {
      this.#lastNote.chunk.replaceNote(this.#lastNote.entry, made);
    } else {
      const [chunk, entry] = [this.#tail(false), { note: made }];
      chunk.push(entry);
      this.#lastNote = { kind, chunk, entry };
    }
    // After a note, the next message shows its author.
    this.#last = this.#last && { at: this.#last.at };
    this.follow();
  }

  #appendDamaged() {
    if (this.lastKind !== "damaged") this.note("damaged");
    growDamaged(this.#lastNote.chunk, this.#lastNote.entry, 1);
  }

  get lastKind() {
    return this.#lastNote?.kind;
  }

  prepend(messages) {
    messages = this.#withoutJoined(messages);
    if (messages.length === 0) return;
    this.#keepView(() => {
      const [next] = this.#chunks;
      const chunk = new Chunk(this.#rowOptions);
      this.#list.prepend(chunk.element);
      this.#chunks.unshift(chunk);
      const newest = messages.findLast((message) => !isDamaged(message));
      if (newest) {
        if (this.#firstDay && dayOf(this.#firstDay.entry.day) === dayOf(newest.at)) this.#firstDay.chunk.drop(this.#firstDay.entry);
        this.#firstDay = null;
      }
      let last = null;
      let day = null;
      for (const message of messages) {
        if (isDamaged(message)) {
          last = null;
          pushDamaged(chunk);
          continue;
        }
        if (day !== dayOf(message.at)) this.#pushDay(message.at, chunk);
        chunk.push({ message, isFirst: !goesOn(message, last) });
        last = message;
        day = dayOf(message.at);
      }
      next?.follow(last);
      this.#last ??= last;
    });
    this.#furnish();
  }

  #withoutJoined(messages) {
    const first = this.#chunks[0]?.first;
    if (!first?.damaged) return messages;
    const end = messages.findLastIndex((message) => !isDamaged(message)) + 1;
    if (end < messages.length) growDamaged(this.#chunks[0], first, messages.length - end);
    return messages.slice(0, end);
  }

  change(seq, changes) {
    this.#keepView(() => this.#chunks.some((chunk) => chunk.change(seq, changes)));
  }

  /** Notes that nothing older is kept: of a damaged beginning, the server knows only the greatest possible length. */
  markBeginning() {
    const [chunk] = this.#chunks;
    if (!chunk?.first?.damaged) return;
    chunk.first.isBound = true;
    growDamaged(chunk, chunk.first, 0);
  }

  setBeginning(...children) {
    this.#keepView(() => $("beginning").replaceChildren(...children));
  }

  toEnd() {
    this.#moveToEnd();
    this.#sticks = true;
    this.#sawEnd();
  }

  #moveToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#end = this.#scroller.scrollTop;
  }

  follow() {
    if (this.#sticks) this.toEnd();
  }

  #pushDay(at, chunk = this.#tail(true)) {
    const entry = { day: at };
    chunk.push(entry);
    this.#firstDay ??= { chunk, entry };
  }

  /** Returns the last chunk, or a new one if that is full and may be closed. */
  #tail(mayClose) {
    const tail = this.#chunks.at(-1);
    if (tail && !(tail.size >= CHUNK && mayClose)) return tail;
    const made = new Chunk(this.#rowOptions);
    this.#chunks.push(made);
    this.#list.append(made.element);
    this.#furnish();
    return made;
  }

  /** Releases chunks far from the view and rebuilds near ones. The end, the selection and the focus stay. */
  #furnish() {
    const { top, bottom } = this.#scroller.getBoundingClientRect();
    const near = [];
    for (let index = this.#firstBelow(top - NEAR); index < this.#chunks.length; index += 1) {
      const chunk = this.#chunks[index];
      if (chunk.element.getBoundingClientRect().top >= bottom + NEAR) break;
      if (chunk.isReleased) near.push(chunk);
    }
    const isFar = ({ element: made }) => {
      const box = made.getBoundingClientRect();
      return Math.max(box.top - bottom, top - box.bottom) > FAR;
    };
    const far = this.#chunks.filter((chunk) => !chunk.isReleased && chunk !== this.#chunks.at(-1) && isFar(chunk) && !isHeld(chunk.element));
    if (near.length + far.length === 0) return;
    this.#keepView(() => {
      for (const chunk of far) chunk.release();
      for (const chunk of near) chunk.restore();
    });
  }

  /** Folds or unfolds a message, whose first line stays where it is. */
  #fold(made, act) {
    const before = offset(made, this.#scroller);
    this.#sticks = false;
    act();
    this.#scroller.scrollTop += Math.min(0, offset(made, this.#scroller)) - Math.min(0, before);
    this.#scrolled();
  }

  /** Changes rows so that what the user reads stays where it is. */
  #keepView(change, reading = this.#read()) {
    change();
    if (this.#sticks) this.#moveToEnd();
    else if (reading.row?.isConnected) this.#scroller.scrollTop += offset(reading.row, this.#scroller) - reading.offset;
    this.#reading = this.#read();
  }

  /** Returns the first message in view (or its released chunk) and its offset. */
  #read() {
    const first = this.#firstInView();
    // The body, because the author above it may go.
    const row = first?.querySelector(":scope > .body") ?? first;
    return { row, offset: row && offset(row, this.#scroller) };
  }

  #firstInView() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (let index = this.#firstBelow(top); index < this.#chunks.length; index += 1) {
      const { element: chunk, isReleased } = this.#chunks[index];
      if (isReleased) return chunk;
      const isInView = (made) => made.classList.contains("message") && made.getBoundingClientRect().bottom > top;
      const first = [...chunk.children].find(isInView);
      if (first) return first;
    }
    return null;
  }

  /** Finds the first chunk that ends below `y`, by bisection. */
  #firstBelow(y) {
    let [low, high] = [0, this.#chunks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#chunks[middle].element.getBoundingClientRect().bottom > y) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    // Only scrolling up stops following.
    const isAtEnd = scrollHeight - scrollTop - clientHeight < AT_END;
    this.#sticks = isAtEnd || (this.#sticks && scrollTop >= this.#end);
    this.#furnish();
    if (this.#sticks) this.#sawEnd();
    else this.#showNewest();
    this.#reading = this.#read();
    if (this.isNearBeginning) this.#owner.wantOlder();
  }

  #sawEnd() {
    this.#unseen = 0;
    this.#showNewest();
    this.#owner.seen();
  }

  #showNewest() {
    this.#newest.hidden = this.#sticks;
    this.#newest.textContent = this.#unseen > 0 ? count(this.#unseen, "new message") : "Newest";
  }

  #resized() {
    const width = this.#list.clientWidth;
    if (width !== this.#width && this.#width > 0) {
      // Everything has moved by now, so the row that was in view before counts.
      const by = this.#width / width;
      this.#keepView(() => this.#chunks.forEach((chunk) => chunk.stretch(by)), this.#reading);
    }
    this.#width = width;
    this.follow();
    this.#furnish();
    if (this.isNearBeginning) this.#owner.wantOlder();
  }
}

const isDamaged = ({ unreadable }) => unreadable === "damaged";

function pushDamaged(chunk) {
  if (!chunk.last?.damaged) chunk.push({ note: element("li") });
  growDamaged(chunk, chunk.last, 1);
}

function growDamaged(chunk, entry, by) {
  entry.damaged = (entry.damaged ?? 0) + by;
  const messages = `${entry.isBound ? "up to " : ""}${count(entry.damaged, "message")}`;
  const text = `Part of this room's history is damaged and cannot be read (${messages}).`;
  chunk.replaceNote(entry, element("li", { class: "note damaged" }, text));
}

function offset(row, scroller) {
  return row.getBoundingClientRect().top - scroller.getBoundingClientRect().top;
}

function isHeld(chunk) {
  const selection = getSelection();
  return chunk.contains(document.activeElement) || (!selection.isCollapsed && selection.containsNode(chunk, true));
}
