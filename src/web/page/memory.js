// What the browser remembers of its user: name, rooms, who one was in this tab. Where storage is refused (a private
// window, a setting) it lasts as long as the page. It knows no server and no element.

const PREFIX = "racerd.";
const MOST_ROOMS = 8;
const MOST_MEMBERS = 20;
const held = new Map();

function read(storage, key, fallback) {
  try {
    const value = JSON.parse(window[storage].getItem(PREFIX + key));
    // What somebody else stored under this key is nothing.
    if (value !== null && typeof value === typeof fallback && Array.isArray(value) === Array.isArray(fallback)) return value;
  } catch {
    // Refused or garbled.
  }
  return held.get(key) ?? fallback;
}

function write(storage, key, value) {
  held.set(key, value);
  try {
    window[storage].setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // Refused or full.
  }
}

const texts = (list) => list.filter((item) => typeof item === "string");

export const memory = {
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

  /** The members that this tab was: so that one's own messages are one's own after a reload. */
  get members() {
    return texts(read("sessionStorage", "members", []));
  },
  /** The session of this tab, as the connection wants it kept. Not over the tab's end, and not for other tabs. */
  get session() {
    return read("sessionStorage", "session", {});
  },
  set session(saved) {
    write("sessionStorage", "session", saved);
  },

  become(member) {
    write("sessionStorage", "members", [member, ...this.members.filter((other) => other !== member)].slice(0, MOST_MEMBERS));
  },
};
