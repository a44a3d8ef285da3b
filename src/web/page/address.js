// What the page's address says: the room by its path, and by its fragment, which no request carries, the room's key (k)
// and the server's (pin). All of it relative to where the page lies.

import { isKey } from "../racerd.js";

export const BASE = new URL("..", import.meta.url);

/** @returns {{room?: string, roomKey?: string, pin?: string, fault: string}} `fault`: why none of it may be used */
export function readAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const roomKey = fragment.get("k") ?? undefined;
  const pin = fragment.get("pin") ?? undefined;
  // Never without what the link asks for.
  const fault = roomKey !== undefined && !isKey(roomKey) ? "The room's key in this link is damaged. Ask for the link again."
    : pin !== undefined && !isKey(pin) ? "The server's key in this link is damaged. Ask for the link again." : "";
  return { room: room(), roomKey, pin, fault };
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
