// One room on the screen: what the connection says goes into the log, what is typed goes to the connection.

import { connect } from "../racerd.js";
import { showLock } from "./lock.js";
import { Log } from "./log.js";
import { memory } from "./memory.js";
import { People } from "./people.js";
import { count, element, plain, saidNode } from "./text.js";

/** Messages of a page of history. */
const PAGE = 50;
/** “I am typing” is said so often at most, in milliseconds. */
const TYPING_EVERY = 3000;
/** Short troubles are not worth a word. */
const PATIENCE = 700;
const BACK_SHOWN = 3000;
const FAULT_SHOWN = 8000;
const LOCKED = "This room is encrypted. To read and write here, open it by its whole link.";
/** What is spoken to a screen reader comes together for so long. */
const SPOKEN_TOGETHER = 1000;

const SESSION = { load: () => memory.session, save: (saved) => void (memory.session = saved) };

const $ = (id) => document.getElementById(id);

export class RoomView {
  #id;
  #client;
  #room;
  #log;
  #people;
  /** The oldest message that is shown; null where nothing older is to be had. */
  #oldest = null;
  #loading = false;
  #caughtUp = false;
  #isEmpty = false;
  #unread = 0;
  #unsent = new Map();
  #typedAt = -Infinity;
  #banner = null;
  #faultTimer = null;
  #wasOpen = false;
  #spoken = [];
  #speaking = null;
  /** Is it an encrypted room that was opened without its key? Then nothing is said here. */
  #isLocked;

  /**
   * Enters the room `id` of the server at `base`; `roomKey` and `pin` are keys as racerd.js takes them, `link` is the
   * address of all of it.
   */
  constructor({ id, base, name, roomKey, pin, link }) {
    this.#id = id;
    this.#isLocked = id.startsWith("e2e.") && !roomKey;
    $("room-title").firstElementChild.textContent = id;
    document.querySelector("#people .me bdi").textContent = name;
    for (const emptied of ["unsent", "typing", "text-fault", "spoken"]) $(emptied).replaceChildren();
    this.#client = connect({ base, name, pin, formerly: memory.members, store: SESSION });
    this.#log = new Log({
      scroller: $("scroller"),
      list: $("log"),
      beginning: $("beginning"),
      newest: $("newest"),
      wantOlder: () => this.#loadOlder(),
      seen: () => this.#read(),
      marksPlain: roomKey !== undefined,
    });
    this.#log.setBeginning("Loading…");
    this.#client.on("state", (state) => this.#showState(state));
    this.#client.on("welcome", ({ member }) => memory.become(member));
    this.#client.on("trouble", (error) => this.#trouble(error));
    this.#room = this.#client.join(id, { last: PAGE, roomKey });
    showLock({ link, roomKey, pin });
    this.#people = new People({ room: this.#room, client: this.#client, log: this.#log });
    this.#room.on("joined", (joined) => this.#joined(joined));
    this.#room.on("live", () => this.#live());
    this.#room.on("message", (message) => this.#message(message));
    this.#room.on("hole", (hole) => this.#hole(hole));
    this.#room.on("unsent", (send) => this.#showUnsent(send));
    this.#room.on("lagging", () => this.#fault("Catching up with a lot of messages…", "quiet"));
    this.#prepareComposer();
    this.#showTitle();
    // Without its key, an encrypted room is of no use to come back to; and the key is not kept.
    if (!roomKey && !this.#isLocked) memory.enter(id);
    if (this.#isLocked) this.#fault(LOCKED, "locked");
  }

  /** A word about the room, for a moment. */
  tell(text) {
    this.#fault(text, "quiet");
    this.#speak(text);
  }

  /** The page is shown again, or the network is back. */
  check() {
    this.#client.check();
    if (this.#log.isAtEnd) this.#read();
  }

  /** The page may be gone in a moment. */
  save() {
    this.#client.save();
  }

  stop() {
    this.#client.close();
    this.#log.stop();
    this.#people.stop();
    clearInterval(this.#banner);
    clearTimeout(this.#faultTimer);
    clearTimeout(this.#speaking);
    $("banner").hidden = true;
    document.title = "racerd";
  }

  // The log.

  #joined({ again, from }) {
    if (again) return;
    this.#oldest = from;
  }

  #live() {
    this.#caughtUp = true;
    if (this.#oldest !== null) this.#showBeginning(this.#oldest > 1);
    if (this.#log.isNearBeginning) this.#loadOlder();
  }

  #message(message) {
    this.#sweep();
    const isNews = this.#caughtUp && !message.own;
    this.#log.append(message, isNews);
    if (this.#isEmpty) this.#showBeginning(false);
    if (!isNews) return;
    if (document.hidden || !this.#log.isAtEnd) {
      this.#unread += 1;
      this.#showTitle();
    }
    this.#speak(`${message.from.name}: ${plain(message)}`);
  }

  /** Takes away what is acknowledged and stands in the log by now. */
  #sweep() {
    for (const [key, { made, seq }] of this.#unsent) {
      if (!(seq <= this.#room.cursor)) continue;
      made.remove();
      this.#unsent.delete(key);
    }
  }

  #hole({ after, from, restart }) {
    this.#sweep();
    if (restart) {
      this.#oldest = null;
      this.#log.note("hole", "Older messages are from before a restart and are gone.");
      this.#log.setBeginning();
    } else {
      this.#log.note("hole", `${count(from - after - 1, "message is", "messages are")} no longer kept.`);
    }
  }

  async #loadOlder() {
    if (this.#loading || !this.#caughtUp || !this.#room.joined || this.#oldest === null || this.#oldest <= 1) return;
    this.#loading = true;
    const before = this.#oldest;
    try {
      const page = await this.#room.history({ before, limit: PAGE });
      // The log may have begun anew meanwhile.
      if (this.#oldest === before) {
        this.#log.prepend(page.messages);
        this.#oldest = page.messages[0]?.seq ?? null;
        if (!page.more) this.#oldest = null;
        this.#showBeginning(page.more, page.oldest > 1);
      }
    } catch (error) {
      // Lost: the next `joined` asks again. Else the server wants a pause.
      if (error.code !== "lost") await new Promise((resolve) => setTimeout(resolve, error.retryAfter ?? 2000));
    }
    this.#loading = false;
    if (this.#log.isNearBeginning && this.#room.joined) this.#loadOlder();
  }

  #showBeginning(hasMore, isPruned = false) {
    this.#isEmpty = this.#room.cursor === 0;
    this.#log.setBeginning(
      hasMore ? "Loading older messages…"
        : this.#isEmpty ? "Nothing has been said here yet. Say hello!"
          : isPruned ? "Older messages are no longer kept." : "This is the beginning.",
    );
  }

  // Unread, and what is spoken.

  #read() {
    if (document.hidden || this.#unread === 0) return;
    this.#unread = 0;
    this.#showTitle();
  }

  #showTitle() {
    document.title = `${this.#unread > 0 ? `(${this.#unread}) ` : ""}${this.#id} – racerd`;
  }

  /** Politely, and not one by one when many come. */
  #speak(text) {
    this.#spoken.push(text);
    this.#speaking ??= setTimeout(() => {
      const many = this.#spoken.length > 3;
      $("spoken").textContent = many ? count(this.#spoken.length, "new message") : this.#spoken.join("\n");
      this.#spoken = [];
      this.#speaking = null;
    }, SPOKEN_TOGETHER);
  }

  // Sending.

  #prepareComposer() {
    const text = $("text");
    text.value = "";
    const submit = () => {
      const said = text.value.trim() === "" ? "" : text.value.replace(/\s+$/u, "");
      if (said === "") return;
      if (this.#isLocked) return this.#fault(LOCKED, "locked");
      const body = { text: said.toWellFormed?.() ?? said };
      if (this.#isTooLong(body)) return;
      text.value = "";
      this.#typed();
      this.#send(body);
    };
    text.oninput = () => this.#typed();
    text.onkeydown = (event) => {
      // While a word is being composed (Japanese, say), Enter ends the word; 229 is how Safari says so.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      submit();
    };
    $("composer").onsubmit = (event) => {
      event.preventDefault();
      submit();
      text.focus();
    };
    this.#fitHeight();
    if (matchMedia("(hover: hover)").matches) text.focus();
  }

  #fitHeight() {
    const text = $("text");
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
    this.#log.follow();
  }

  #typed() {
    this.#fitHeight();
    if (this.#isLocked) return;
    const value = $("text").value;
    if (!this.#isTooLong({ text: value }) && $("text-fault").dataset.kind === "length") this.#fault("");
    const isTyping = value.trim() !== "";
    const now = performance.now();
    if (isTyping && now - this.#typedAt > TYPING_EVERY) {
      this.#typedAt = now;
      this.#room.signal({ typing: true });
    } else if (!isTyping && this.#typedAt > -Infinity) {
      // A message that goes out says it, too; for one that is thrown away it has to be said.
      this.#typedAt = -Infinity;
      this.#room.signal({ typing: false });
    }
  }

  #isTooLong(body) {
    const excess = this.#room.excess(body);
    if (excess > 0) this.#fault(`This is ${count(excess, "byte")} too long to be sent. Make it shorter, or send it in parts.`, "length");
    return excess > 0;
  }

  #send(body) {
    this.#showUnsent({ ...this.#room.send(body), body });
  }

  /** What is not acknowledged, below the log. */
  #showUnsent({ key, done, body, unreadable }) {
    const state = element("p", { class: "state" }, "Sending…");
    const made = element("li", { class: "message own sending" }, saidNode({ body, unreadable }), state);
    const entry = { made, seq: undefined };
    this.#unsent.set(key, entry);
    $("unsent").append(made);
    this.#log.toEnd();
    const stored = ({ seq }) => {
      entry.seq = seq;
      this.#sweep();
    };
    done.then(stored, (error) => {
      if (error.code === "closed") return;
      // Another window has taken it over, and sends it.
      if (error.code === "moved") return made.remove(), void this.#unsent.delete(key);
      if (error.code === "not_encrypted" && !this.#room.isEncrypted) this.#isLocked = true;
      made.classList.replace("sending", "failed");
      const again = element("button", { type: "button", class: "link" }, "Try again");
      const discard = element("button", { type: "button", class: "link" }, "Discard");
      const away = () => {
        made.remove();
        this.#unsent.delete(key);
        this.#room.forget(key);
        $("text").focus();
      };
      again.onclick = () => {
        away();
        this.#send(body);
      };
      discard.onclick = away;
      // What cannot be read cannot be said again.
      const ways = unreadable ? [discard] : [again, " ", discard];
      state.replaceChildren("Not sent: ", element("bdi", {}, error.message), ". ", ...ways);
      this.#speak("A message was not sent.");
      this.#log.follow();
    });
  }

  #trouble(error) {
    // A room that the server keeps for what is encrypted: it is asked no more.
    if (error.code === "not_encrypted" && !this.#room.isEncrypted) this.#isLocked = true;
    this.#fault(troubleText(error), this.#isLocked ? "locked" : "");
  }

  #fault(text, kind = "") {
    const place = $("text-fault");
    clearTimeout(this.#faultTimer);
    place.dataset.kind = kind;
    if (place.textContent !== text) place.textContent = text;
    if (!["length", "locked"].includes(kind) && text !== "") this.#faultTimer = setTimeout(() => this.#fault(""), FAULT_SHOWN);
    this.#log.follow();
  }

  // The connection.

  #showState(state) {
    clearInterval(this.#banner);
    const { phase, reason } = state;
    if (phase === "open") {
      if (!$("banner").hidden && this.#wasOpen) {
        this.#showBanner("back", "Connected again.");
        this.#speak("Connected again.");
        this.#banner = setTimeout(() => ($("banner").hidden = true), BACK_SHOWN);
      } else {
        $("banner").hidden = true;
      }
      this.#wasOpen = true;
    } else if (phase === "connecting") {
      if ($("banner").hidden) this.#banner = setTimeout(() => this.#showBanner("lost", "Connecting…"), PATIENCE);
      else this.#showBanner("lost", "Connecting…");
    } else if (phase === "waiting") {
      const what = reason ?? (state.leaving ? "The server is restarting."
        : this.#wasOpen ? "Connection lost." : "No connection to the server.");
      if ($("banner").hidden) this.#speak(what);
      const show = () => {
        const seconds = Math.ceil((state.retryAt - performance.now()) / 1000);
        this.#showBanner("lost", `${what} Trying again ${seconds > 0 ? `in ${seconds} s` : "now"}.`, "Now");
      };
      show();
      this.#banner = setInterval(show, 500);
    } else if (phase === "stopped" && reason) {
      this.#showBanner("stopped", reason, "Try again");
      this.#speak(reason);
    }
  }

  #showBanner(kind, text, action) {
    const banner = $("banner");
    const [words, button] = banner.children;
    banner.className = kind;
    banner.hidden = false;
    if (words.textContent !== text) words.textContent = text;
    button.hidden = !action;
    if (action && button.textContent !== action) button.textContent = action;
    button.onclick = () => this.#client.retry();
    this.#log.follow();
  }
}

function troubleText(error) {
  switch (error.code) {
    case "storage_unavailable":
      return "The server cannot store messages at the moment. Yours waits, and goes out when it can.";
    case "rate_limited":
      return "That was faster than this server allows. The rest follows in a moment.";
    case "not_encrypted":
      return LOCKED;
    default:
      return error.message.charAt(0).toUpperCase() + error.message.slice(1);
  }
}
