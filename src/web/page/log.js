// The list of messages: in their order, grouped by author and day, scrolled. It is told what to show, and says when
// older messages are wanted; it knows no server.
//
// The rows lie in chunks of about CHUNK messages (chunk.js), and exist only near the view: so thousands of rows cost
// little. The browser's own anchoring is switched off (not all have it); `#keepView` does it.

import { Chunk } from "./chunk.js";
import { goesOn } from "./row.js";
import { count, dayOf, element } from "./text.js";

const CHUNK = 50;
/** So near to an end, in pixels, one is at it; and so near to the beginning, older messages are wanted. */
const AT_END = 40;
const NEAR_BEGINNING = 1500;
/** Rows that are nearer to the view than this, in pixels, are there; those farther than that are let go. */
const NEAR = 2500;
const FAR = 5000;

export class Log {
  #scroller;
  #list;
  #beginning;
  #newest;
  #wantOlder;
  #seen;
  #rowOptions;
  /** @type {Chunk[]} from the oldest to the newest; the last one's rows are always there */
  #chunks = [];
  /** Is the view at the end, so that it moves along? */
  #sticks = true;
  /** Its place then. */
  #end = 0;
  /** What was in view when it was last scrolled. */
  #reading = {};
  #unseen = 0;
  #last = null;
  #lastNote = null;
  /** The first day label, which an older page of the same day makes void: {chunk, entry}. */
  #firstDay = null;
  /** Stands under the newest message if one sent it just now. */
  #sentMark = element("p", { class: "state sent" }, "Sent");
  #width = 0;
  #observer;

  /**
   * `wantOlder()` when one nears the beginning; `seen()` when the end is in view. With `marksPlain`, what came
   * unencrypted is marked.
   */
  constructor({ scroller, list, beginning, newest, wantOlder, seen, marksPlain = false }) {
    this.#rowOptions = { marksPlain, onFold: (made, act) => this.#fold(made, act) };
    this.#scroller = scroller;
    this.#list = list;
    this.#beginning = beginning;
    this.#newest = newest;
    this.#wantOlder = wantOlder;
    this.#seen = seen;
    list.replaceChildren();
    this.#showNewest();
    scroller.onscroll = () => this.#scrolled();
    newest.onclick = () => {
      this.toEnd();
      scroller.focus();
    };
    this.#observer = new ResizeObserver(() => this.#resized());
    this.#observer.observe(scroller);
    this.#observer.observe(list);
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

  /** The newest message: what is shown below it may stand under its author's name. */
  get last() {
    return this.#last;
  }

  /** A message behind all others; `isNews` counts as unseen where the end is not in view. */
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
    // The observer follows, once a frame: each look at the height costs a layout.
  }

  /** A line of its own at the end. With `kind`, it replaces the last one if that is of the same kind. */
  note(kind, ...children) {
    const made = element("li", { class: `note ${kind}` }, ...children);
    if (this.#lastNote?.kind === kind) {
      this.#lastNote.chunk.replaceNote(this.#lastNote.entry, made);
    } else {
      const [chunk, entry] = [this.#tail(false), { note: made }];
      chunk.push(entry);
      this.#lastNote = { kind, chunk, entry };
    }
    // After a note, the next message says whose it is.
    this.#last = this.#last && { at: this.#last.at };
    this.follow();
  }

  #appendDamaged() {
    const known = this.#lastNote?.kind === "damaged" ? this.#lastNote.entry.damaged : 0;
    this.note("damaged", damagedText(known + 1));
    this.#lastNote.entry.damaged = known + 1;
  }

  /** The kind of the line at the end, if that is no message. */
  get lastKind() {
    return this.#lastNote?.kind;
  }

  /** A page of older messages before all others. The view stays where it is. */
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

  /** Another thing is known of the message with this seq. */
  change(seq, changes) {
    this.#keepView(() => this.#chunks.some((chunk) => chunk.change(seq, changes)));
  }

  /** What stands before the first message. */
  setBeginning(...children) {
    this.#keepView(() => this.#beginning.replaceChildren(...children));
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

  /** Moves along if the view is at the end. */
  follow() {
    if (this.#sticks) this.toEnd();
  }

  #pushDay(at, chunk = this.#tail(true)) {
    const entry = { day: at };
    chunk.push(entry);
    this.#firstDay ??= { chunk, entry };
  }

  /** The chunk at the end; a new one where it is full, and may be closed. */
  #tail(mayClose) {
    const tail = this.#chunks.at(-1);
    if (tail && !(tail.size >= CHUNK && mayClose)) return tail;
    const made = new Chunk(this.#rowOptions);
    this.#chunks.push(made);
    this.#list.append(made.element);
    this.#furnish();
    return made;
  }

  /**
   * Lets go what is far from the view, and brings back what is near. What is selected or has the focus stays, and so
   * does the end.
   */
  #furnish() {
    const { top, bottom } = this.#scroller.getBoundingClientRect();
    const near = [];
    for (let index = this.#firstBelow(top - NEAR); index < this.#chunks.length; index += 1) {
      const chunk = this.#chunks[index];
      if (chunk.element.getBoundingClientRect().top >= bottom + NEAR) break;
      if (chunk.isGone) near.push(chunk);
    }
    const isFar = ({ element: made }) => {
      const box = made.getBoundingClientRect();
      return Math.max(box.top - bottom, top - box.bottom) > FAR;
    };
    const far = this.#chunks.filter((chunk) => !chunk.isGone && chunk !== this.#chunks.at(-1) && isFar(chunk) && !isHeld(chunk.element));
    if (near.length + far.length === 0) return;
    this.#keepView(() => {
      for (const chunk of far) chunk.release();
      for (const chunk of near) chunk.restore();
    });
  }

  /** Folds a message, or unfolds it: its beginning stays where it is. */
  #fold(made, act) {
    const before = offset(made, this.#scroller);
    this.#sticks = false;
    act();
    this.#scroller.scrollTop += Math.min(0, offset(made, this.#scroller)) - Math.min(0, before);
    this.#scrolled();
  }

  /** Changes something above what is in view, and moves the view along: what one reads stays where it is. */
  #keepView(change, reading = this.#read()) {
    change();
    if (this.#sticks) this.#moveToEnd();
    else if (reading.row?.isConnected) this.#scroller.scrollTop += offset(reading.row, this.#scroller) - reading.offset;
    this.#reading = this.#read();
  }

  /** What the first message in view says, and where that stands; where its rows are gone, their chunk. */
  #read() {
    const first = this.#firstInView();
    // Not the row: the name at its head may go.
    const row = first?.querySelector(":scope > .body") ?? first;
    return { row, offset: row && offset(row, this.#scroller) };
  }

  #firstInView() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (let index = this.#firstBelow(top); index < this.#chunks.length; index += 1) {
      const { element: chunk, isGone } = this.#chunks[index];
      if (isGone) return chunk;
      const isInView = (made) => made.classList.contains("message") && made.getBoundingClientRect().bottom > top;
      const first = [...chunk.children].find(isInView);
      if (first) return first;
    }
    return null;
  }

  /** The first chunk whose end is below this, by halves. */
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
    // Only scrolling up leaves the end.
    const isAtEnd = scrollHeight - scrollTop - clientHeight < AT_END;
    this.#sticks = isAtEnd || (this.#sticks && scrollTop >= this.#end);
    this.#furnish();
    if (this.#sticks) this.#sawEnd();
    else this.#showNewest();
    this.#reading = this.#read();
    if (this.isNearBeginning) this.#wantOlder();
  }

  #sawEnd() {
    this.#unseen = 0;
    this.#showNewest();
    this.#seen();
  }

  #showNewest() {
    this.#newest.hidden = this.#sticks;
    this.#newest.textContent = this.#unseen > 0 ? count(this.#unseen, "new message") : "Newest";
  }

  /** Rows of another width have another height. */
  #resized() {
    const width = this.#list.clientWidth;
    if (width !== this.#width && this.#width > 0) {
      // By now all has moved: what counts is what was read before.
      const by = this.#width / width;
      this.#keepView(() => this.#chunks.forEach((chunk) => chunk.stretch(by)), this.#reading);
    }
    this.#width = width;
    this.follow();
    this.#furnish();
    if (this.isNearBeginning) this.#wantOlder();
  }
}

const isDamaged = ({ unreadable }) => unreadable === "damaged";

const damagedText = (messages) => `Part of this room's history is damaged and cannot be read (${count(messages, "message")}).`;

function pushDamaged(chunk) {
  if (!chunk.last?.damaged) chunk.push({ note: damagedNote(0), damaged: 0 });
  growDamaged(chunk, chunk.last, 1);
}

function growDamaged(chunk, entry, by) {
  entry.damaged += by;
  chunk.replaceNote(entry, damagedNote(entry.damaged));
}

const damagedNote = (messages) => element("li", { class: "note damaged" }, damagedText(messages));

function offset(row, scroller) {
  return row.getBoundingClientRect().top - scroller.getBoundingClientRect().top;
}

/** Is something in it selected, or has it the focus? */
function isHeld(chunk) {
  const selection = getSelection();
  return chunk.contains(document.activeElement) || (!selection.isCollapsed && selection.containsNode(chunk, true));
}
