// The view of one room: connects racerd.js with the log, the composer and the banner.

import { connect } from "../racerd.js";
import { pauseOf } from "../racerd/connection.js";
import { Banner } from "./banner.js";
import { Composer } from "./composer.js";
import { Log } from "./log.js";
import { markTexts } from "./marks.js";
import { memory } from "./memory.js";
import { People } from "./people.js";
import { $, button, capitalised, count, element, plain } from "./text.js";
import { Unsent } from "./unsent.js";

const PAGE = 50;
const LOCKED = "This room is encrypted. To read and write here, open it with its full link.";
/** Announcements to a screen reader are collected for this long, in milliseconds. */
const SPOKEN_TOGETHER = 1000;

const SESSION = { load: () => memory.session, save: (saved) => memory.keepSession(saved) };

export class RoomView {
  #id;
  #client;
  #room;
  #log;
  #people;
  #composer;
  #banner;
  #unsent;
  /** The seq of the oldest message shown; null if there is none older. */
  #oldest = null;
  #loading = false;
  /** Older messages could not be read: they are requested again by the user, or after a loss. */
  #isUnreadable = false;
  #caughtUp = false;
  #isEmpty = false;
  #isStopped = false;
  #unread = 0;
  #spoken = [];
  #speaking = null;
  #unwatch;

  /**
   * Enters the room `id` of the server at `base`; `roomKey` and `pin` are those of racerd.js, `link` is the room's
   * address. `changed()` is called when the result of `shows` may have changed.
   */
  constructor({ id, base, name, roomKey, pin, link, changed }) {
    this.#id = id;
    $("room-title").firstElementChild.textContent = id;
    document.querySelector("#people .me bdi").textContent = name;
    for (const emptied of ["typing", "text-fault", "spoken"]) $(emptied).replaceChildren();
    this.#client = connect({ base, name, pin, formerly: memory.members, store: SESSION });
    this.#log = new Log({
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
    this.#showLock({ link, roomKey, pin });
    this.#people = new People({ room: this.#room, client: this.#client, log: this.#log });
    this.#unsent = new Unsent({
      room: this.#room,
      log: this.#log,
      author: () => ({ member: this.#client.member, name }),
      speak,
      refused: (error) => this.#lockIfPlain(error),
    });
    this.#room.on("joined", ({ again, from }) => again || (this.#oldest = from));
    this.#room.on("live", () => this.#live());
    this.#room.on("message", (message) => this.#message(message));
    this.#room.on("marked", ({ seq, ...changes }) => this.#log.change(seq, changes));
    this.#room.on("hole", (hole) => this.#hole(hole));
    this.#room.on("removed", (error) => this.#shutOut(error));
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
    // Keys are not stored, so an encrypted room is not listed as recent: without its key it would be useless.
    if (id.startsWith("e2e.") && !roomKey) this.#composer.lock(LOCKED);
    else if (!roomKey) memory.enter(id);
    this.#unwatch = memory.watch(() => this.#showKeeping());
    this.#client.on("storage", () => {
      if (this.#isStopped) return;
      this.#showKeeping();
      changed();
    });
    this.#showKeeping();
  }

  async #showLock(protection) {
    $("lock").hidden = true;
    $("protection").close();
    if (!protection.roomKey && !protection.pin) return;
    const { showLock } = await import("./lock.js");
    if (!this.#isStopped) showLock(protection);
  }

  get isAtRisk() {
    return this.#client.atRisk > 0 || (!memory.keeps && !this.#composer.isEmpty);
  }

  /** Does the room show this row of `unsent()` below its log, or is it about to? */
  shows({ room, owner }) {
    return room === this.#id && (owner === this.#client.tab || this.#client.storage.outbox === null);
  }

  check() {
    this.#client.check();
    if (this.#log.isAtEnd) this.#read();
  }

  save() {
    this.#client.save();
    this.#composer.save();
  }

  stop() {
    this.#isStopped = true;
    this.#unwatch();
    this.#composer.stop();
    this.#client.close();
    this.#log.stop();
    this.#people.stop();
    this.#banner.stop();
    clearTimeout(this.#speaking);
    document.title = "racerd";
  }

  get #keeps() {
    const { session, outbox } = this.#client.storage;
    return memory.keeps && session !== false && outbox !== false;
  }

  #showKeeping() {
    $("keeping").hidden = this.#keeps || this.#composer.isLocked;
    this.#log.follow();
  }

  // The log.

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
    this.#speak([`${message.from.name}: ${plain(message)}`, ...markTexts(message)].join(". "));
  }

  #hole({ after, from, restart }) {
    this.#unsent.sweep();
    if (restart) {
      this.#oldest = null;
      this.#log.note("hole", "The server's history was reset. It no longer has the messages above.");
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
      // Otherwise the log was reset meanwhile.
      if (this.#oldest === before) {
        this.#log.prepend(page.messages);
        this.#oldest = page.messages[0]?.seq ?? null;
        if (!page.more) this.#oldest = null;
        this.#showBeginning(page.more, page.oldest > 1);
      }
    } catch (error) {
      // After a loss, the page is requested again once the room is joined.
      if (error.code === "rate_limited") await new Promise((resolve) => setTimeout(resolve, pauseOf(error)));
      else if (error.code !== "lost" && this.#oldest === before) this.#showUnreadable(error);
    }
    this.#loading = false;
    if (this.#log.isNearBeginning && this.#room.joined) this.#loadOlder();
  }

  #showUnreadable(error) {
    this.#isUnreadable = true;
    const again = button("Try again", () => {
      this.#isUnreadable = false;
      this.#showBeginning(true);
      this.#loadOlder();
    });
    this.#log.setBeginning("Older messages cannot be read: ", element("bdi", {}, error.message), ". ", again);
  }

  #showBeginning(hasMore, isPruned = false) {
    this.#isEmpty = this.#room.cursor === 0;
    if (!hasMore) this.#log.markBeginning();
    this.#log.setBeginning(
      hasMore ? "Loading older messages…"
        : this.#isEmpty ? `Nothing has been said here yet.${this.#composer.isLocked ? "" : " Say hello!"}`
          : isPruned ? "Older messages are no longer kept." : "This is the beginning.",
    );
  }

  // Unread messages, and announcements.

  #read() {
    if (document.hidden || this.#unread === 0) return;
    this.#unread = 0;
    this.#showTitle();
  }

  #showTitle() {
    document.title = `${this.#unread > 0 ? `(${this.#unread}) ` : ""}${this.#id} – racerd`;
  }

  #speak(text) {
    this.#spoken.push(text);
    this.#speaking ??= setTimeout(() => {
      const many = this.#spoken.length > 3;
      $("spoken").textContent = many ? count(this.#spoken.length, "new message") : this.#spoken.join("\n");
      this.#spoken = [];
      this.#speaking = null;
    }, SPOKEN_TOGETHER);
  }

  #trouble(error) {
    this.#lockIfPlain(error);
    this.#composer.fault(troubleText(error, this.#unsent.size > 0));
    if (!this.#caughtUp) this.#log.setBeginning(`This room's messages cannot be read yet: ${error.message}. Trying again…`);
  }

  #shutOut(error) {
    this.#composer.lock(`${capitalised(error.message)}.`);
    if (!this.#caughtUp) this.#log.setBeginning("Nothing can be shown.");
    this.#speak(capitalised(error.message));
  }

  /** Locks the composer if the server accepts only encrypted messages in this room. */
  #lockIfPlain(error) {
    if (error.code !== "not_encrypted" || this.#room.isEncrypted) return;
    this.#composer.lock(LOCKED);
    if (this.#isEmpty) this.#showBeginning(false);
  }
}

function troubleText(error, isWaiting) {
  switch (error.code) {
    case "storage_unavailable":
      return `The server cannot store messages at the moment: ${error.message}.${isWaiting ? " Yours will be sent as soon as it can." : ""}`;
    case "rate_limited":
      return "You are sending faster than this server allows. The rest will be sent in a moment.";
    default:
      return capitalised(error.message);
  }
}
