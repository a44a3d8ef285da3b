//! How a client judges what it hears: each answer belongs to a request of its own, each message to its place.

use serde_json::Value;

use super::super::agenda::SECOND;
use super::super::bodies::number;
use super::super::scene::{Checked, Scene, violation};
use super::super::wire::{self, Said};
use super::acts::crop;
use super::reasons::REASONS;
use super::view::listed;
use super::{Asked, Client, Request, View};

pub(super) const CHECKER: &str = "protocol";

impl Client {
    /// Handles an item that arrived on its socket.
    pub(super) fn hear(&mut self, link: usize, said: Said, scene: &mut Scene) -> Checked {
        if let Said::Response { status, body, .. } = &said {
            scene.judge_excess(link, *status, body)?;
        }
        match said {
            Said::Response { status, .. }
                if (status == 403) != self.is_too_open(link, scene) && matches!(status, 101 | 403) =>
            {
                violation("private: nothing is told in the clear", format!("status {status} on link {link}"))
            }
            Said::Response { status: 403, .. } => {
                scene.tally.kept_out += 1;
                scene.client_closes(link);
                let wait = self.back_off(scene);
                self.drop_link(scene, wait);
                Ok(())
            }
            Said::Response { status: 101, .. } => {
                self.shake_hands(link, scene);
                Ok(())
            }
            Said::Response { status: status @ (408 | 429 | 503), .. }
                if Client::may_turn_away(link, status, scene).is_err() =>
            {
                let fault = Client::may_turn_away(link, status, scene).err().unwrap_or_default();
                violation(REASONS, format!("status {status}: {fault}"))
            }
            Said::Response { status: status @ (429 | 503), retry_after, .. } => {
                scene.tally.turned_away += 1;
                self.trace(scene, || format!("is turned away from link {link} with {status}"));
                scene.client_closes(link);
                let wait = self.back_off(scene) + retry_after.unwrap_or(0) * SECOND;
                self.drop_link(scene, wait);
                Ok(())
            }
            Said::Response { status: 408, .. } => {
                scene.client_closes(link);
                let wait = self.back_off(scene);
                self.drop_link(scene, wait);
                Ok(())
            }
            Said::Response { status, body, .. } => {
                violation(CHECKER, format!("status {status} for an upgrade that is in order: {body}"))
            }
            Said::Ping(payload) => {
                let bytes = wire::pong(&payload, &mut scene.random);
                scene.client_writes(link, &bytes);
                Ok(())
            }
            Said::Pong => Ok(()),
            Said::Binary(_) => violation("wire", "a binary frame that nobody opened"),
            Said::Close(code) => self.closed(link, code, scene),
            Said::Text(text) => self.told(link, &text, scene),
        }
    }

    /// Handles an object that the server said.
    fn told(&mut self, link: usize, text: &str, scene: &mut Scene) -> Checked {
        self.trace(scene, || format!("hears {}", crop(text)));
        let told: Value = match serde_json::from_str(text) {
            Ok(told) => told,
            Err(error) => return violation("wire", format!("{error}: {text}")),
        };
        let id = told["id"].as_u64();
        if self.line.announced.is_some() {
            return violation("sealed", format!("behind the announcement of a close: {text}"));
        }
        match told["type"].as_str().unwrap_or_default() {
            "welcome" => self.welcome(link, id, &told, scene),
            "joined" => self.joined(link, id, &told, scene),
            "message" => self.message(link, &told, scene),
            "ack" => self.ack(link, id, &told, scene),
            "error" => self.error(link, id, &told, scene),
            "left" => self.left(id, &told, scene),
            "history" => self.history(link, id, &told, scene),
            "members" => self.members(link, id, &told, scene),
            "presence" => self.with_view(&told, scene, |view, _| view.presence(&told)),
            "signal" => {
                let member = self.member().map(str::to_owned);
                self.with_view(&told, scene, |view, scene| {
                    scene.tally.signals += 1;
                    // If the log is another one, nothing is known about it.
                    let oldest = scene.is_of_this_epoch(link).then(|| scene.model.rooms[view.room].oldest);
                    scene.signals.heard((view.room, oldest), link, member.as_deref(), &told)
                })
            }
            "lagging" => self.with_view(&told, scene, |view, scene| {
                view.lags(scene);
                Ok(())
            }),
            "gap" => self.with_view(&told, scene, |view, scene| {
                let (after, from) = (told["after"].as_u64(), told["from"].as_u64());
                view.gap(link, after.unwrap_or(u64::MAX), from.unwrap_or(0), scene)
            }),
            "pong" => self.pong(id, &told, scene),
            "closing" if self.line.is_ready() => {
                scene.tally.announced += 1;
                self.line.announced = told["code"].as_u64().and_then(|code| u16::try_from(code).ok());
                Ok(())
            }
            "bye" => {
                scene.tally.byes += 1;
                Ok(())
            }
            _ => violation(CHECKER, format!("nobody knows what this is: {text}")),
        }
    }

    fn with_view(
        &mut self,
        told: &Value,
        scene: &mut Scene,
        then: impl FnOnce(&mut View, &mut Scene) -> Checked,
    ) -> Checked {
        let room = told["room"].as_str().and_then(|name| scene.model.room(name));
        match room.and_then(|room| self.rooms.get_mut(&room)).filter(|view| view.is_joined) {
            Some(view) => then(view, scene),
            None => violation(CHECKER, format!("c{} is not in that room: {told}", self.index)),
        }
    }

    fn is_too_open(&self, link: usize, scene: &Scene) -> bool {
        !self.line.is_sealed() && scene.is_too_open(link)
    }

    fn message(&mut self, link: usize, told: &Value, scene: &mut Scene) -> Checked {
        let (seq, at, body) = said(told);
        let room = told["room"].as_str().and_then(|name| scene.model.room(name)).unwrap_or(usize::MAX);
        self.with_view(told, scene, |view, scene| {
            view.message(seq, readable(told).then_some(at), scene)?;
            scene.model.named(view.room, &view.epoch, told)
        })?;
        if scene.is_of_this_epoch(link) {
            scene.model.heard(room, told)?;
        }
        if scene.mix.encryption.is_on() {
            self.overhears(room, told);
        }
        // A message that the client sent once, over this socket, is answered before it is heard.
        match self
            .outbox
            .iter()
            .find(|draft| draft.body == body && draft.room == room && draft.is_open && draft.tries == 1)
        {
            Some(_) => violation(CHECKER, format!("c{} hears its own body {body} before the ack", self.index)),
            None => Ok(()),
        }
    }

    fn ack(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let (seq, at, _) = said(told);
        let room = told["room"].as_str().and_then(|name| scene.model.room(name));
        let (body, room) = match (id.and_then(|id| self.settle(id)), room) {
            (Some(Asked::Send { body }), Some(room)) => (body, room),
            (Some(Asked::Reuse { room, body, run }), Some(_)) if run == scene.run && scene.model.knows_all_keys() => {
                return violation("3: a key is stored once", format!("r{room}: a used key was taken for body {body}"));
            }
            (Some(Asked::Replay(replay)), Some(room)) if replay.room == room => {
                replay.judge_taken((link, seq), told["duplicate"] == true, None, scene)?;
                let body = replay.body;
                return if scene.is_of_this_epoch(link) {
                    scene.model.acknowledged(room, seq, at, body)
                } else {
                    Ok(())
                };
            }
            // The log that knew the key may be gone.
            (Some(Asked::Reuse { .. }), _) => return Ok(()),
            _ => return violation(CHECKER, format!("an answer to nothing that c{} asked: {told}", self.index)),
        };
        scene.tally.acks += 1;
        scene.tally.duplicates += u64::from(told["duplicate"] == true);
        if let Some(index) = self.outbox.iter().position(|draft| draft.body == body) {
            let draft = self.outbox.remove(index);
            if draft.room != room {
                return violation(CHECKER, format!("body {body} was for r{}: {told}", draft.room));
            }
            self.used_key = draft.key.map(|key| (room, key, scene.links.get(link).run)).or(self.used_key.take());
        }
        if !scene.is_of_this_epoch(link) {
            return Ok(());
        }
        scene.model.acknowledged(room, seq, at, body)?;
        match scene.model.is_of(room, seq, &self.name()) {
            true => Ok(()),
            false => violation("sealed", format!("what c{} said as r{room} {seq} has another's name", self.index)),
        }
    }

    fn left(&mut self, id: Option<u64>, told: &Value, _scene: &mut Scene) -> Checked {
        let Some(Asked::Leave { room }) = id.and_then(|id| self.settle(id)) else {
            return violation(CHECKER, format!("left without having asked: {told}"));
        };
        self.rooms.remove(&room);
        Ok(())
    }

    fn history(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        match id.and_then(|id| self.settle(id)) {
            Some(Asked::History { wanted }) => wanted.judge(link, told, scene),
            _ => violation(CHECKER, format!("a page that c{} did not ask for: {told}", self.index)),
        }
    }

    /// Takes the request of this number, which now has its answer.
    fn settle(&mut self, id: u64) -> Option<Asked> {
        self.asked.remove(&id).map(|request| request.what)
    }

    fn members(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let Some(id) = id else {
            return self.with_view(told, scene, |view, scene| view.members(told, scene));
        };
        let Some(Request { what: Asked::Members { room }, mono, .. }) = self.asked.remove(&id) else {
            return violation(CHECKER, format!("a list that c{} did not ask for: {told}", self.index));
        };
        if told["room"] != *scene.model.rooms[room].id.as_str() {
            return violation(CHECKER, format!("a list of r{room} was asked for: {told}"));
        }
        let own = self.identity.as_ref().map(|identity| identity.member.as_str());
        judge_list(link, room, mono, told, own, scene)
    }

    /// Checks that the client has heard everything that was queued before this pong, and nothing else
    /// (docs/protocol.md: `heads`).
    fn pong(&mut self, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let Some(Asked::Ping) = id.and_then(|id| self.settle(id)) else {
            return violation(CHECKER, format!("a pong to nothing that c{} asked", self.index));
        };
        scene.tally.pongs += 1;
        if let Some((_, signal)) = self.signalled.take_if(|(ping, _)| Some(*ping) == id) {
            scene.signals.obeyed(signal, scene.now);
        }
        let heads = told["heads"].as_object().map_or(0, serde_json::Map::len);
        for view in self.rooms.values().filter(|view| view.is_joined) {
            let head = told["heads"][scene.model.rooms[view.room].id.as_str()].as_u64();
            if head != Some(view.next - 1) {
                let text = format!("r{}: {} was heard before a pong that says {head:?}", view.room, view.next - 1);
                return violation("2: every message once and in order", text);
            }
        }
        if heads != self.rooms.values().filter(|view| view.is_joined).count() {
            return violation(CHECKER, format!("a pong that tells of other rooms: {told}"));
        }
        if let (Some(token), Some(identity)) = (told["session"].as_str(), &mut self.identity) {
            identity.token = token.to_owned();
        }
        Ok(())
    }
}

/// Judges a list of members that was requested when the server's clock stood at `mono`: if nobody has come or gone
/// since, it lists those who are here. `own` is who asked, where the answer goes to a member.
pub(super) fn judge_list(
    link: usize,
    room: usize,
    mono: u64,
    told: &Value,
    own: Option<&str>,
    scene: &mut Scene,
) -> Checked {
    let (names, count) = listed(told)?;
    let is_same_run = scene.is_of_this_run(link);
    let Some(here) = scene.here.room(room).filter(|here| is_same_run && here.changed < mono) else { return Ok(()) };
    scene.tally.lists += 1;
    let is_right = match &names {
        None => count == here.members.len() as u64,
        Some(names) => {
            // A member may have come and gone within the turn that made the list; the one who asked may have been here
            // before.
            let stays = |(name, _): &(&String, &bool)| {
                here.members.contains_key(*name) || here.known.contains(*name) && own != Some(name.as_str())
            };
            names.iter().filter(stays).eq(here.members.iter())
        }
    };
    if is_right {
        return Ok(());
    }
    let text = format!("r{room} has {:?} since {}, asked at {mono}: {told}", here.members, here.changed);
    violation("2: everyone knows who is here", text)
}

/// Returns a message's seq, its time and its body's number.
pub(super) fn said(told: &Value) -> (u64, u64, u64) {
    let seq = told["seq"].as_u64().unwrap_or(0);
    (seq, told["at"].as_u64().unwrap_or(0), number(&told["body"]))
}

/// Returns whether a message is as it was sent, and not one whose row was damaged.
pub(super) fn readable(told: &Value) -> bool {
    told["unreadable"] != true
}
