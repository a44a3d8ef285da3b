// The lock in the header, and its dialog: whether the room is encrypted and the connection sealed, and the room's link.

import { $ } from "./text.js";

/** Shows the lock of a room that has a key or a pin. */
export function showLock({ link, roomKey, pin }) {
  $("lock").hidden = false;
  $("lock").lastElementChild.textContent = [roomKey && "Encrypted", pin && "Sealed"].filter(Boolean).join(", ");
  $("about-key").hidden = !roomKey;
  $("about-pin").hidden = !pin;
  $("about-http").hidden = location.protocol !== "http:";
  $("link-field").value = link;
  $("copied").textContent = "";
  $("protection-close").onclick = () => $("protection").close();
  $("lock").onclick = () => openLock();
  $("copy-link").onclick = async () => tell(await copy(link));
}

export function openLock() {
  $("copied").textContent = "";
  $("protection").showModal();
}

function tell(isCopied) {
  $("copied").textContent = isCopied ? "Copied." : "Could not copy the link. Copy it by hand.";
  if (!isCopied) $("link-field").select();
}

/** Copies to the clipboard. Pages served over plain http have no interface for it, but may copy a selection. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  // While a dialog is open, nothing outside can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  const before = document.activeElement;
  field.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    before?.focus();
  }
}
