// One room on the screen: what the connection says goes into the log, what is typed goes to the connection.

import { connect } from "../racerd.js";
import { Banner } from "./banner.js";
import { Composer } from "./composer.js";
import { showLock } from "./lock.js";
import { Log } from "./log.js";
import { memory } from "./memory.js";
import { People } from "./people.js";
import { count, element, plain } from "./text.js";
import { Unsent } from "./unsent.js";

/** Messages of a page of history. */
const PAGE = 50;
const LOCKED = "This room is encrypted. To read and write here, open it by its whole link.";
/** What is spoken to a screen reader comes together for so long, in milliseconds. */
const SPOKEN_TOGETHER = 1000;

const SESSION = { load: () => memory.session, save: (saved) => memory.keepSession(saved) };

const $ = (id) => document.getElementById(id);

export class RoomView {
  #id;
  #client;
  #room;
  #log;
  #people;
  #composer;
  #banner;
  #unsent;
  /** The oldest message that is shown; null where nothing older is to be had. */
  #oldest = null;
  #loading = false;
  /** Older messages could not be read: they are asked for again when the user wants it, or after a loss. */
  #isUnreadable = false;
  #caughtUp = false;
  #isEmpty = false;
  #unread = 0;
  #spoken = [];
  #speaking = null;
  #unwatch;

  /**
   * Enters the room `id` of the server at `base`; `roomKey` and `pin` are keys as racerd.js takes them, `link` is the
   * address of all of it. `changed()` hears that `shows` may answer otherwise.
   */
  constructor({ id, base, name, roomKey, pin, link, changed }) {
    this.#id = id;
    $("room-title").firstElementChild.textContent = id;
    document.querySelector("#people .me bdi").textContent = name;
    for (const emptied of ["typing", "text-fault", "spoken"]) $(emptied).replaceChildren();
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
    const speak = (text) => this.#speak(text);
    this.#banner = new Banner({ retry: () => this.#client.retry(), speak, changed: () => this.#log.follow() });
    this.#client.on("state", (state) => this.#banner.show(state));
    this.#client.on("welcome", ({ member }) => memory.become(member));
    this.#client.on("trouble", (error) => this.#trouble(error));
    this.#room = this.#client.join(id, { last: PAGE, roomKey });
    showLock({ link, roomKey, pin });
    this.#people = new People({ room: this.#room, client: this.#client, log: this.#log });
    this.#unsent = new Unsent({
      room: this.#room,
      log: this.#log,
      author: () => ({ member: this.#client.member, name }),
      speak,
      refused: (error) => this.#lockIfPlain(error),
    });
    this.#room.on("joined", (joined) => this.#joined(joined));
    this.#room.on("live", () => this.#live());
    this.#room.on("message", (message) => this.#message(message));
    this.#room.on("repeat", ({ seq }) => this.#log.change(seq, { body: null, unreadable: "repeat" }));
    this.#room.on("hole", (hole) => this.#hole(hole));
    this.#room.on("lagging", () => this.#composer.fault("Catching up with a lot of messages…", "quiet"));
    this.#composer = new Composer({
      room: id,
      roomKey,
      excess: (body) => this.#room.excess(body),
      send: (body) => this.#unsent.send(body),
      typing: (typing) => this.#room.signal({ typing }),
      resized: () => this.#log.follow(),
    });
    this.#showTitle();
    // Without its key, an encrypted room is of no use to come back to; and the key is not kept.
    if (id.startsWith("e2e.") && !roomKey) this.#composer.lock(LOCKED);
    else if (!roomKey) memory.enter(id);
    const unwatch = [memory.watch(() => this.#showKeeping()), this.#client.on("storage", () => {
      this.#showKeeping();
      changed();
    })];
    this.#unwatch = () => unwatch.forEach((end) => end());
    this.#showKeeping();
  }

  /** A word about the room, for a moment. */
  tell(text) {
    this.#composer.fault(text, "quiet");
    this.#speak(text);
  }

  /** Would something be lost if the page were left now? */
  get isAtRisk() {
    return this.#client.atRisk > 0 || (!memory.keeps && !this.#composer.isEmpty);
  }

  /** Is this row of what is unsent in this browser (racerd.js) one that the room shows below its log, or is about to? */
  shows({ room, owner }) {
    return room === this.#id && (owner === this.#client.tab || this.#client.storage.outbox === null);
  }

  /** The page is shown again, or the network is back. */
  check() {
    this.#client.check();
    if (this.#log.isAtEnd) this.#read();
  }

  /** The page may be gone in a moment. */
  save() {
    this.#client.save();
    this.#composer.save();
  }

  stop() {
    this.#unwatch();
    this.#composer.stop();
    this.#client.close();
    this.#log.stop();
    this.#people.stop();
    this.#banner.stop();
    clearTimeout(this.#speaking);
    document.title = "racerd";
  }

  /** Does what is typed and said here outlive the page? */
  get #keeps() {
    const { session, outbox } = this.#client.storage;
    return memory.keeps && session !== false && outbox !== false;
  }

  #showKeeping() {
    $("keeping").hidden = this.#keeps || this.#composer.isLocked;
    this.#log.follow();
  }

  // The log.

  #joined({ again, from }) {
    if (again) return;
    this.#oldest = from;
  }

  #live() {
    this.#caughtUp = true;
    this.#isUnreadable = false;
    if (this.#oldest !== null) this.#showBeginning(this.#oldest > 1);
    if (this.#log.isNearBeginning) this.#loadOlder();
  }

  #message(message) {
    this.#unsent.sweep();
    const isNews = this.#caughtUp && !message.own && message.unreadable !== "damaged";
    this.#log.append(message, isNews);
    if (this.#isEmpty) this.#showBeginning(false);
    if (!isNews) return;
    if (document.hidden || !this.#log.isAtEnd) {
      this.#unread += 1;
      this.#showTitle();
    }
    this.#speak(`${message.from.name}: ${plain(message)}`);
  }

  #hole({ after, from, restart }) {
    this.#unsent.sweep();
    if (restart) {
      this.#oldest = null;
      this.#log.note("hole", "Older messages are from before a restart and are gone.");
      this.#log.setBeginning();
    } else {
      this.#log.note("hole", `${count(from - after - 1, "message is", "messages are")} no longer kept.`);
    }
  }

  async #loadOlder() {
    if (this.#loading || this.#isUnreadable || !this.#caughtUp || !this.#room.joined) return;
    if (this.#oldest === null || this.#oldest <= 1) return;
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
      // Lost: it is asked for again once the room is joined. Too fast: the server wants a pause.
      if (error.code === "rate_limited") await new Promise((resolve) => setTimeout(resolve, error.retryAfter ?? 2000));
      else if (error.code !== "lost" && this.#oldest === before) this.#showUnreadable(error);
    }
    this.#loading = false;
    if (this.#log.isNearBeginning && this.#room.joined) this.#loadOlder();
  }

  #showUnreadable(error) {
    this.#isUnreadable = true;
    const again = element("button", { type: "button", class: "link" }, "Try again");
    again.onclick = () => {
      this.#isUnreadable = false;
      this.#showBeginning(true);
      this.#loadOlder();
    };
    this.#log.setBeginning("Older messages cannot be read: ", element("bdi", {}, error.message), ". ", again);
  }

  #showBeginning(hasMore, isPruned = false) {
    this.#isEmpty = this.#room.cursor === 0;
    this.#log.setBeginning(
      hasMore ? "Loading older messages…"
        : this.#isEmpty ? `Nothing has been said here yet.${this.#composer.isLocked ? "" : " Say hello!"}`
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

  // Troubles.

  #trouble(error) {
    this.#lockIfPlain(error);
    this.#composer.fault(troubleText(error, this.#unsent.size > 0));
    if (!this.#caughtUp) this.#log.setBeginning(`The messages of this room cannot be read yet. ${begun(error.message)}. Trying again…`);
  }

  /** A room that the server keeps for what is encrypted: nothing plain is said here any more. */
  #lockIfPlain(error) {
    if (error.code !== "not_encrypted" || this.#room.isEncrypted) return;
    this.#composer.lock(LOCKED);
    if (this.#isEmpty) this.#showBeginning(false);
  }
}

function troubleText(error, isWaiting) {
  switch (error.code) {
    case "storage_unavailable":
      return `The server cannot store messages at the moment.${isWaiting ? " Yours waits, and goes out when it can." : ""}`;
    case "rate_limited":
      return "That was faster than this server allows. The rest follows in a moment.";
    default:
      return begun(error.message);
  }
}

function begun(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
