// The list of messages: in their order, grouped by author and day, scrolled. It is told what to show, and says when
// older messages are wanted; it knows no server.
//
// The rows lie in chunks of about CHUNK messages. A chunk that is complete is measured once, and from then on laid out
// only near the view (content-visibility), with exactly that height where it is not: so thousands of rows cost little,
// and nothing moves when they come into view. The browser's own anchoring is switched off (not all have it, and it
// gives up at the very top); `#keepView` does it.

import { clock, count, dayOf, dayText, element, nameNode, saidNode, wholeTime } from "./text.js";

const CHUNK = 50;
/** So near to an end, in pixels, one is at it; and so near to the beginning, older messages are wanted. */
const AT_END = 40;
const NEAR_BEGINNING = 1500;
/** Messages of one author within so many milliseconds stand under one name. */
const GROUP = 5 * 60_000;

export class Log {
  #scroller;
  #list;
  #beginning;
  #newest;
  #wantOlder;
  #seen;
  #marksPlain;
  /** Is the view at the end, so that it moves along? */
  #sticks = true;
  /** What was in view when it was last scrolled. */
  #reading = {};
  #unseen = 0;
  #last = null;
  #lastNote = null;
  /** The first day label, which an older page of the same day makes void. */
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
    this.#marksPlain = marksPlain;
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

  /** A message behind all others; `isNews` counts as unseen where the end is not in view. */
  append(message, isNews) {
    const last = this.#last;
    const day = dayOf(message.at);
    this.#sentMark.remove();
    if (!last || day !== dayOf(last.at)) this.#push(this.#dayRow(message.at), true);
    this.#push(row(message, last, this.#marksPlain), true);
    if (message.key) this.#list.lastElementChild.lastElementChild.append(this.#sentMark);
    this.#last = message;
    this.#lastNote = null;
    if (isNews && !this.#sticks) {
      this.#unseen += 1;
      this.#showNewest();
    }
    this.follow();
  }

  /** A line of its own at the end. With `kind`, it replaces the last one if that is of the same kind. */
  note(kind, ...children) {
    const made = element("li", { class: `note ${kind}` }, ...children);
    if (this.#lastNote?.kind === kind) this.#lastNote.row.replaceWith(made);
    else this.#push(made);
    this.#lastNote = { kind, row: made };
    // After a note, the next message says whose it is.
    this.#last = this.#last && { at: this.#last.at };
    this.follow();
  }

  /** The kind of the line at the end, if that is no message. */
  get lastKind() {
    return this.#lastNote?.kind;
  }

  /** A page of older messages before all others. The view stays where it is. */
  prepend(messages) {
    if (messages.length === 0) return;
    this.#keepView(() => {
      const chunk = element("ol", { class: "chunk" });
      const changed = [chunk];
      let last = null;
      if (this.#firstDay?.day === dayOf(messages.at(-1).at)) {
        const owner = this.#firstDay.row.parentElement;
        this.#firstDay.row.remove();
        if (owner.classList.contains("settled")) changed.push(owner);
      }
      this.#firstDay = null;
      for (const message of messages) {
        if (!last || dayOf(last.at) !== dayOf(message.at)) chunk.append(this.#dayRow(message.at));
        chunk.append(row(message, last, this.#marksPlain));
        last = message;
      }
      this.#list.prepend(chunk);
      settle(changed);
      this.#last ??= last;
    });
  }

  /** What stands before the first message. */
  setBeginning(...children) {
    this.#keepView(() => this.#beginning.replaceChildren(...children));
  }

  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#sticks = true;
    this.#sawEnd();
  }

  /** Moves along if the view is at the end. */
  follow() {
    if (this.#sticks) this.toEnd();
  }

  #dayRow(at) {
    const made = element("li", { class: "day" }, element("span", {}, dayText(at)));
    this.#firstDay ??= { day: dayOf(at), row: made };
    return made;
  }

  #push(made, mayClose = false) {
    let tail = this.#list.lastElementChild;
    if (!tail || (tail.childElementCount >= CHUNK && mayClose)) {
      if (tail) settle([tail]);
      tail = element("ol", { class: "chunk" });
      this.#list.append(tail);
    }
    tail.append(made);
  }

  /** Changes something above what is in view, and moves the view along: what one reads stays where it is. */
  #keepView(change, reading = this.#read()) {
    change();
    if (this.#sticks) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else if (reading.row) this.#scroller.scrollTop += offset(reading.row, this.#scroller) - reading.offset;
    this.#reading = this.#read();
  }

  /** The first message in view, and where it stands. */
  #read() {
    const row = this.#firstInView();
    return { row, offset: row && offset(row, this.#scroller) };
  }

  #firstInView() {
    const top = this.#scroller.getBoundingClientRect().top;
    const isBelow = (made) => made.getBoundingClientRect().bottom > top;
    for (const chunk of this.#list.children) {
      if (!isBelow(chunk)) continue;
      for (const made of chunk.children) if (made.classList.contains("message") && isBelow(made)) return made;
    }
    return null;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#sticks = scrollHeight - scrollTop - clientHeight < AT_END;
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
      const settled = [...this.#list.children].filter((chunk) => chunk.classList.contains("settled"));
      this.#keepView(() => settle(settled), this.#reading);
    }
    this.#width = width;
    this.follow();
    if (this.isNearBeginning) this.#wantOlder();
  }
}

function offset(row, scroller) {
  return row.getBoundingClientRect().top - scroller.getBoundingClientRect().top;
}

/** Measures chunks that are complete, and leaves it to the browser whether to lay them out. */
function settle(chunks) {
  for (const chunk of chunks) chunk.classList.remove("settled");
  const heights = chunks.map((chunk) => chunk.getBoundingClientRect().height);
  chunks.forEach((chunk, index) => {
    // Not `auto`: that would remember the height of an earlier width.
    chunk.style.containIntrinsicBlockSize = `${heights[index]}px`;
    chunk.classList.add("settled");
  });
}

/** One message; `last` is the one before it. */
function row(message, last, marksPlain) {
  const { at, from, own, seq } = message;
  const author = from.member ?? `name ${from.name}`;
  message.author = author;
  const goesOn = last?.author === author && at - last.at < GROUP && dayOf(at) === dayOf(last.at);
  const classes = ["message", own && "own", !goesOn && "first"].filter(Boolean).join(" ");
  const made = element("li", { class: classes, "data-seq": seq, title: goesOn ? wholeTime(at) : undefined });
  if (!goesOn) made.append(avatar(from.name), who(message));
  const said = saidNode(message);
  if (marksPlain && !message.encrypted && !message.unreadable) said.append(element("span", { class: "mark" }, "Not encrypted"));
  made.append(said);
  return made;
}

export function avatar(name) {
  // The first letter, or emoji, without the marks that may be heaped on it.
  const [letter = ""] = name.trim();
  return element("span", { class: "avatar", "aria-hidden": "true" }, letter.toUpperCase());
}

function who({ at, from }) {
  const time = element("time", { datetime: new Date(at).toISOString(), title: wholeTime(at) }, clock(at));
  return element("p", { class: "who" }, nameNode(from.name), " ", time);
}
