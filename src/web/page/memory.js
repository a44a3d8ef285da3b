// Stores the user's name, rooms and drafts, and this tab's session in the browser. If storage is full or blocked,
// values last as long as the page, and take precedence over stored ones.

const PREFIX = "racerd.";
const MOST_ROOMS = 8;
const MOST_MEMBERS = 20;
/** The most drafts of one room, from different tabs. */
const MOST_DRAFTS = 8;
/** Values that could not be stored; the storage has an older one, or none. */
const held = new Map();
const watchers = new Set();
let isBlocked = false;

function read(storage, key, fallback) {
  if (held.has(key)) return held.get(key) ?? fallback;
  try {
    const value = JSON.parse(window[storage].getItem(PREFIX + key));
    // A value of another type was stored by something else.
    if (value !== null && typeof value === typeof fallback && Array.isArray(value) === Array.isArray(fallback)) return value;
  } catch {
    // Blocked or garbled.
  }
  return fallback;
}

/** Stores a value, or keeps it as long as the page lives; undefined deletes it. Returns whether it is stored. */
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
  get keeps() {
    return !isBlocked && held.size === 0;
  },

  /** Calls `watcher` whenever `keeps` has changed. Returns a function that ends this. */
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

  /** The rooms entered last, the newest first. */
  get rooms() {
    return texts(read("localStorage", "rooms", []));
  },
  enter(room) {
    write("localStorage", "rooms", [room, ...this.rooms.filter((other) => other !== room)].slice(0, MOST_ROOMS));
  },

  /** The drafts of a room, the newest last: {tab, text} or {tab, sealed}. */
  drafts(room) {
    return objects(read("localStorage", `draft.${room}`, []));
  },
  setDrafts(room, drafts) {
    return write("localStorage", `draft.${room}`, drafts.length > 0 ? drafts.slice(-MOST_DRAFTS) : undefined);
  },

  /** Is there a draft, in any room, that would be lost with the page? */
  get holdsDraft() {
    return [...held].some(([key, value]) => key.startsWith("draft.") && value !== undefined);
  },

  /** Identifies this tab, across reloads. */
  get tab() {
    const known = read("sessionStorage", "tab", "");
    if (known !== "") return known;
    const made = Math.random().toString(36).slice(2);
    write("sessionStorage", "tab", made);
    return made;
  },

  /** The member ids that this tab has had, so that its own messages are recognised after a reload. */
  get members() {
    return texts(read("sessionStorage", "members", []));
  },
  become(member) {
    write("sessionStorage", "members", [member, ...this.members.filter((other) => other !== member)].slice(0, MOST_MEMBERS));
  },

  /** This tab's session, as racerd.js saves it. */
  get session() {
    return read("sessionStorage", "session", {});
  },
  keepSession(saved) {
    return write("sessionStorage", "session", saved);
  },
};

// Probe before anything is typed.
for (const storage of ["localStorage", "sessionStorage"]) {
  try {
    window[storage].setItem(`${PREFIX}probe`, "x".repeat(1024));
    window[storage].removeItem(`${PREFIX}probe`);
  } catch {
    isBlocked = true;
  }
}
