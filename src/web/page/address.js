// Reads and makes addresses: the room is in the path, keys are in the fragment, which no request carries.

import { isKey } from "../racerd.js";

export const BASE = new URL("..", import.meta.url);

const FAULTS = {
  k: "The room's key in this link is damaged. Ask for the link again.",
  pin: "The server's key in this link is damaged. Ask for the link again.",
  repeated: "This link contains a key twice. Ask for the link again.",
  unknown: "This link has an unknown part after its # (a misspelt key, perhaps). Ask for the link again.",
};

/**
 * Parses a fragment: at most one `pin=` and one `k=`, joined by `&`. Everything else is a fault, because with an
 * ignored key the page would talk unencrypted. The command line has the same rule (src/client/target.rs;
 * tests/vectors/fragments.json).
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

/** `fault` tells why the address is unusable. */
export function readAddress() {
  const { pin, k: roomKey, fault } = readFragment(location.hash.slice(1));
  return { room: room(), roomKey, pin, fault: FAULTS[fault] ?? "" };
}

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
