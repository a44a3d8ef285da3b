// The page: the start view, where one chooses a room and a name, and the room. Which of them, the address says. All
// addresses are relative to where this file lies, so that the page works under any path.

import { newKey, ROOM_ID, ROOM_RULE, unsent } from "./racerd.js";
import { address, BASE, readAddress } from "./page/address.js";
import { Elsewhere } from "./page/elsewhere.js";
import { copy, openLock, prepareLock } from "./page/lock.js";
import { memory } from "./page/memory.js";
import { NAME_FAULTS, readName } from "./page/names.js";
import { prepareDrawer } from "./page/people.js";
import { RoomView } from "./page/room.js";
import { element } from "./page/text.js";

const $ = (id) => document.getElementById(id);
let view = null;
const elsewhere = new Elsewhere({ desk: unsent({ base: BASE.href }), go });

function show(wantsStart = false) {
  view?.stop();
  view = null;
  const { room, roomKey, pin, fault: linkFault } = readAddress();
  const name = memory.name;
  const isRoom = room !== undefined && readName(name).fault === "" && !wantsStart && !linkFault;
  $("start").hidden = isRoom;
  $("room").hidden = !isRoom;
  $("enter").hidden = linkFault !== "";
  $("link-fault").textContent = linkFault;
  // The pin is the server's: it stays, wherever one goes in the page.
  $("leave").href = address({ pin });
  const changed = () => elsewhere.render();
  if (isRoom) view = new RoomView({ id: room, base: BASE.href, name, roomKey, pin, link: address({ room, roomKey, pin }), changed });
  else showStart(room, name);
  elsewhere.show({
    isShown: (row) => view?.shows(row) === true,
    place: (made) => (view ? $("composer").before(made) : $("enter").after(made)),
  });
  showKeeping();
}

/** Says beside the field, before anything is typed, that nothing of it will be kept. */
function showKeeping() {
  $("name-keeping").hidden = memory.keeps;
}

function go(place) {
  const url = address({ pin: readAddress().pin, ...place });
  if (url !== location.href) history.pushState(null, "", url);
  show();
}

// The start view.

function showStart(room, name) {
  document.title = "racerd";
  $("room-field").value = room ?? "";
  $("name-field").value = name;
  fault("room", "");
  fault("name", "");
  const rows = memory.rooms.filter((id) => ROOM_ID.test(id)).map((id) => {
    const link = element("a", { href: address({ room: id, pin: readAddress().pin }) }, element("bdi", {}, id));
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      $("room-field").value = id;
      $("enter").requestSubmit();
    };
    return element("li", {}, link);
  });
  $("recent").querySelector("ul").replaceChildren(...rows);
  $("recent").hidden = rows.length === 0;
  (room === undefined && !$("room-field").value ? $("room-field") : $("name-field")).focus();
}

function fault(field, text) {
  $(`${field}-fault`).textContent = text;
  $(`${field}-field`).setAttribute("aria-invalid", String(text !== ""));
}

/** Takes the name, and goes to the room, if both may be. */
function enter(place) {
  const { name, fault: refused } = readName($("name-field").value.normalize("NFC"));
  const faults = { room: ROOM_ID.test(place.room) ? "" : ROOM_RULE, name: NAME_FAULTS[refused] ?? "" };
  for (const [field, text] of Object.entries(faults)) fault(field, text);
  const first = Object.keys(faults).find((field) => faults[field] !== "");
  if (first) return $(`${first}-field`).focus();
  memory.name = name;
  go(place);
}

$("enter").onsubmit = (event) => {
  event.preventDefault();
  const room = $("room-field").value.trim() || $("room-field").placeholder;
  const here = readAddress();
  // Another name in the same room: the key stays.
  enter({ room, roomKey: room === here.room ? here.roomKey : undefined });
};

$("new-encrypted").onclick = async () => {
  // 22 characters of the key's kind name the room: nobody guesses it, though it is no secret from the server.
  const place = { room: `e2e.${newKey().slice(0, 22)}`, roomKey: newKey() };
  enter(place);
  const made = view;
  if (!made) return;
  const isCopied = await copy(location.href);
  if (view !== made) return;
  if (isCopied) made.tell("The link to this room is copied. Whoever has it can read and write here.");
  else openLock({ failed: true });
};

// Around both.

// The address will change, and what is relative to it must not: they are pinned to where they are now.
for (const [id, attribute] of [["icon", "href"], ["brand", "src"]]) $(id)[attribute] = $(id)[attribute];

$("leave").onclick = (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({});
};
$("rename").onclick = () => show(true);
prepareDrawer();
prepareLock();

memory.watch(showKeeping);
addEventListener("beforeunload", (event) => (view?.isAtRisk || memory.holdsDraft) && event.preventDefault());
addEventListener("popstate", () => show());
addEventListener("online", () => check());
addEventListener("pageshow", () => check());
addEventListener("pagehide", () => view?.save());
document.addEventListener("visibilitychange", () => (document.hidden ? view?.save() : check()));

function check() {
  view?.check();
  elsewhere.check();
}

show();
