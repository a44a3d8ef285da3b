// What the page's address says: the room by its path, and by its fragment, which no request carries, the room's key (k)
// and the server's (pin). All of it relative to where the page lies.

import { isKey } from "../racerd.js";

export const BASE = new URL("..", import.meta.url);

/** What is wrong with a fragment, for the person who opened the link. */
const FAULTS = {
  k: "The room's key in this link is damaged. Ask for the link again.",
  pin: "The server's key in this link is damaged. Ask for the link again.",
  repeated: "This link names a key twice. Ask for the link again.",
  unknown: "This link has something behind its # that this page does not know: a misspelt key, perhaps. Ask for the link again.",
};

/**
 * Reads what stands behind a link's #: nothing, or one `pin=` and one `k=` at most, joined by one `&`. All else is a
 * fault, since a key that is passed over would make the page talk in the open. The command line has the same rule
 * (src/client/target.rs; tests/vectors/fragments.json).
 * @returns {{pin?: string, k?: string, fault: ""|"k"|"pin"|"repeated"|"unknown"}}
 */
export function readFragment(fragment) {
  const read = {};
  for (const part of fragment === "" ? [] : fragment.split("&")) {
    const [, name, key] = /^(pin|k)=(.*)$/su.exec(part) ?? [];
    if (name === undefined) return { fault: "unknown" };
    if (name in read) return { fault: "repeated" };
    if (!isKey(key)) return { fault: name };
    read[name] = key;
  }
  return { ...read, fault: "" };
}

/** @returns {{room?: string, roomKey?: string, pin?: string, fault: string}} `fault`: why none of it may be used */
export function readAddress() {
  const { pin, k: roomKey, fault } = readFragment(location.hash.slice(1));
  return { room: room(), roomKey, pin, fault: FAULTS[fault] ?? "" };
}

/** The address of a room, or of the start view. */
export function address({ room, roomKey, pin }) {
  const url = new URL(room === undefined ? "." : `rooms/${room}`, BASE);
  const parts = [pin && `pin=${pin}`, roomKey && `k=${roomKey}`].filter(Boolean);
  url.hash = parts.join("&");
  return url.href;
}

function room() {
  const path = location.pathname.startsWith(BASE.pathname) ? location.pathname.slice(BASE.pathname.length) : "";
  const [, written] = /^rooms\/([^/]+)$/.exec(path) ?? [];
  try {
    return written && decodeURIComponent(written);
  } catch {
    return undefined;
  }
}
