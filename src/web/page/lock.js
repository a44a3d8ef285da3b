// The lock in the header: that a room is encrypted, or the connection sealed, what that means, and the room's link.

const $ = (id) => document.getElementById(id);

/** Shows the lock, or hides it where there is nothing to say. */
export function showLock({ link, roomKey, pin }) {
  const words = [roomKey && "Encrypted", pin && "Sealed"].filter(Boolean).join(", ");
  $("lock").hidden = words === "";
  $("lock").lastElementChild.textContent = words;
  $("about-key").hidden = !roomKey;
  $("about-pin").hidden = !pin;
  $("about-http").hidden = location.protocol !== "http:";
  $("link-field").value = link;
  $("copied").textContent = "";
  $("protection").close();
  $("lock").onclick = () => openLock();
  $("copy-link").onclick = async () => tell(await copy(link));
}

/** Opens what stands behind the lock; with the link marked, to be copied by hand, if that did not work by itself. */
export function openLock({ failed = false } = {}) {
  $("copied").textContent = "";
  $("protection").showModal();
  if (failed) tell(false);
}

export function prepareLock() {
  $("protection-close").onclick = () => $("protection").close();
}

function tell(isCopied) {
  $("copied").textContent = isCopied ? "Copied." : "It could not be copied: copy it by hand.";
  if (!isCopied) $("link-field").select();
}

/** Into the clipboard. Pages of plain http have no interface for it, but may copy what is marked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyMarked(text);
  }
}

function copyMarked(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  // Where a dialog is open, nothing outside can be marked.
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
