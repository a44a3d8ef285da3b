// The page: the start view, with a form for room and name, and the room view. The address tells which one is shown.

import { newKey, ROOM_ID, ROOM_RULE, unsent } from "./racerd.js";
import { address, BASE, readAddress } from "./page/address.js";
import { Elsewhere } from "./page/elsewhere.js";
import { memory } from "./page/memory.js";
import { NAME_FAULTS, readName } from "./page/names.js";
import { prepareDrawer } from "./page/people.js";
import { RoomView } from "./page/room.js";
import { $, element, onPlainClick } from "./page/text.js";

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
  // The pin belongs to the server, so it stays in every address.
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
    return element("li", {}, onPlainClick(link, () => {
      $("room-field").value = id;
      $("enter").requestSubmit();
    }));
  });
  $("recent").querySelector("ul").replaceChildren(...rows);
  $("recent").hidden = rows.length === 0;
  (room === undefined && !$("room-field").value ? $("room-field") : $("name-field")).focus();
}

function fault(field, text) {
  $(`${field}-fault`).textContent = text;
  $(`${field}-field`).setAttribute("aria-invalid", String(text !== ""));
}

/** Goes to the room if its name and the user's are valid. */
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
  // The key stays if only the user's name changes.
  enter({ room, roomKey: room === here.room ? here.roomKey : undefined });
};

$("new-encrypted").onclick = async () => {
  // 22 random characters, so that nobody guesses the room; the server knows it.
  const place = { room: `e2e.${newKey().slice(0, 22)}`, roomKey: newKey() };
  enter(place);
  const made = view;
  if (!made) return;
  // The link is shown, and copied when asked: the clipboard is read by other programs, and may be synchronized.
  const { openLock } = await import("./page/lock.js");
  if (view === made) openLock();
};

// Both views.

// The page's address will change: make these relative URLs absolute.
for (const [id, attribute] of [["icon", "href"], ["brand", "src"]]) $(id)[attribute] = $(id)[attribute];

onPlainClick($("leave"), () => go({}));
$("rename").onclick = () => show(true);
prepareDrawer();

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
