// What the browser remembers of its user: name, rooms, drafts, who one was in this tab. What cannot be stored (forbidden,
// full) lasts as long as the page, and is what counts while it does. It knows no server and no element.

const PREFIX = "racerd.";
const MOST_ROOMS = 8;
const MOST_MEMBERS = 20;
/** Drafts of one room, by different tabs. */
const MOST_DRAFTS = 8;
/** What could not be stored: the storage has an older value, or none. */
const held = new Map();
const watchers = new Set();
let isRefused = false;

function read(storage, key, fallback) {
  if (held.has(key)) return held.get(key) ?? fallback;
  try {
    const value = JSON.parse(window[storage].getItem(PREFIX + key));
    // What somebody else stored under this key is nothing.
    if (value !== null && typeof value === typeof fallback && Array.isArray(value) === Array.isArray(fallback)) return value;
  } catch {
    // Refused or garbled.
  }
  return fallback;
}

/** Stores a value, or keeps it for the page's life; undefined takes away what is stored. */
function write(storage, key, value) {
  const before = memory.keeps;
  try {
    if (value === undefined) window[storage].removeItem(PREFIX + key);
    else window[storage].setItem(PREFIX + key, JSON.stringify(value));
    held.delete(key);
  } catch {
    held.set(key, value);
  }
  if (memory.keeps !== before) for (const watcher of watchers) watcher();
  return !held.has(key);
}

const texts = (list) => list.filter((item) => typeof item === "string");
const objects = (list) => list.filter((item) => typeof item === "object" && item !== null);

export const memory = {
  /** Is everything stored that was set? */
  get keeps() {
    return !isRefused && held.size === 0;
  },

  /** Calls `watcher` whenever `keeps` has changed. @returns {() => void} ends that */
  watch(watcher) {
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  },

  get name() {
    return read("localStorage", "name", "");
  },
  set name(name) {
    write("localStorage", "name", name);
  },

  /** The rooms last entered, the newest first. */
  get rooms() {
    return texts(read("localStorage", "rooms", []));
  },
  enter(room) {
    write("localStorage", "rooms", [room, ...this.rooms.filter((other) => other !== room)].slice(0, MOST_ROOMS));
  },

  /** What was typed in a room and not sent, by tab, the newest last: {tab, text} or {tab, sealed}. */
  drafts(room) {
    return objects(read("localStorage", `draft.${room}`, []));
  },
  setDrafts(room, drafts) {
    return write("localStorage", `draft.${room}`, drafts.length > 0 ? drafts.slice(-MOST_DRAFTS) : undefined);
  },

  /** Is there a draft, of whichever room, that goes with the page? */
  get holdsDraft() {
    return [...held].some(([key, value]) => key.startsWith("draft.") && value !== undefined);
  },

  /** What tells this tab from others, over reloads. */
  get tab() {
    const known = read("sessionStorage", "tab", "");
    if (known !== "") return known;
    const made = Math.random().toString(36).slice(2);
    write("sessionStorage", "tab", made);
    return made;
  },

  /** The members that this tab was: so that one's own messages are one's own after a reload. */
  get members() {
    return texts(read("sessionStorage", "members", []));
  },
  become(member) {
    write("sessionStorage", "members", [member, ...this.members.filter((other) => other !== member)].slice(0, MOST_MEMBERS));
  },

  /** The session of this tab, as the connection wants it kept. Not over the tab's end, and not for other tabs. */
  get session() {
    return read("sessionStorage", "session", {});
  },
  /** @returns {boolean} is it stored? */
  keepSession(saved) {
    return write("sessionStorage", "session", saved);
  },
};

// Known before anything is typed.
for (const storage of ["localStorage", "sessionStorage"]) {
  try {
    window[storage].setItem(`${PREFIX}probe`, "x".repeat(1024));
    window[storage].removeItem(`${PREFIX}probe`);
  } catch {
    isRefused = true;
  }
}
