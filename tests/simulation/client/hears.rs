//! What a client makes of what it hears: each answer belongs to something that it asked, each message to its place.

use serde_json::Value;

use super::super::agenda::{MILLISECOND, SECOND};
use super::super::bodies::number;
use super::super::scene::{Checked, Scene, violation};
use super::super::wire::{self, Said};
use super::acts::crop;
use super::reasons::REASONS;
use super::view::{UNSURE, listed};
use super::{Asked, Client, Identity, Phase, Request, Start, View};

const CHECKER: &str = "protocol";

impl Client {
    /// Something was said on its socket.
    pub(super) fn hear(&mut self, link: usize, said: Said, scene: &mut Scene) -> Checked {
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
            Said::Text(text) => {
                self.trace(scene, || format!("hears {}", crop(&text)));
                let told: Value = match serde_json::from_str(&text) {
                    Ok(told) => told,
                    Err(error) => return violation("wire", format!("{error}: {text}")),
                };
                let id = told["id"].as_u64();
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
                            // Of another log than that, nothing is known.
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
                    "bye" => {
                        scene.tally.byes += 1;
                        Ok(())
                    }
                    _ => violation(CHECKER, format!("nobody knows what this is: {text}")),
                }
            }
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

    // Coming.

    /// The socket is open: where it is to be sealed, the client's part of the handshake comes first.
    fn shake_hands(&mut self, link: usize, scene: &mut Scene) {
        if !self.line.is_sealed() {
            return;
        }
        let pin = scene.key.pin();
        let habits = scene.mix.habits;
        let bytes = if !scene.is_calm && scene.random.below(1000) < habits.damage {
            self.trace(scene, || format!("breaks the handshake of link {link}"));
            scene.tally.spoilt_handshakes += 1;
            self.phase = Phase::Closing { since: scene.now };
            Some(self.line.begin_badly(&pin, &mut scene.random))
        } else {
            self.line.begin(&pin, &mut scene.random)
        };
        scene.client_writes(link, &bytes.unwrap_or_default());
    }

    fn welcome(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let (Some(token), Some(member)) = (told["session"].as_str(), told["member"].as_str()) else {
            return violation(CHECKER, format!("a `welcome` that lacks something: {told}"));
        };
        let (is_sealed, is_private) = (self.line.is_sealed(), self.is_private(link, scene));
        if let Some(opened) = scene.witness.open(token) {
            // A session stays what it began as.
            let began = self.identity.as_ref().filter(|_| id.is_some()).map_or(is_private, |old| old.is_private);
            if opened.identity.private != began {
                let text = format!("a token of c{} that began on link {link}, private: {began}", self.index);
                return violation("private: nothing is told in the clear", text);
            }
            self.sessions.insert(link, opened.identity.session);
        }
        let (token, member) = (token.to_owned(), member.to_owned());
        let new =
            Identity { token, member, is_sealed, is_private, is_named: !is_sealed, outdated: None, presented: None };
        let Some(id) = id else {
            if !matches!(self.phase, Phase::Opening { .. }) {
                if let Some(identity) = self.identity.as_mut().filter(|old| is_sealed && !old.is_named) {
                    // Its name was heard with its first join.
                    scene.tally.named += 1;
                    identity.token = new.token;
                    identity.is_named = true;
                    return match identity.member == new.member {
                        true => Ok(()),
                        false => {
                            violation(CHECKER, format!("{} gave a name and became {}", identity.member, new.member))
                        }
                    };
                }
                return violation(CHECKER, "a second `welcome` that nobody asked for");
            }
            self.failures = 0;
            let Some(identity) = &self.identity else {
                self.identity = Some(new);
                self.phase = Phase::Open;
                self.ask_for_rooms(scene);
                return Ok(());
            };
            if !identity.is_named && self.rooms.values().any(|view| view.next > 0) {
                // This token is a guest's, who would be seated in the rooms before the name is said. Nothing of it is to
                // be kept: no `joined` came.
                self.provisional = Some(new);
                self.begin_anew(scene);
                return Ok(());
            }
            let outdated = identity.outdated.clone().filter(|(_, run)| *run == scene.run);
            let is_old = outdated.is_some() && scene.random.below(1000) < scene.mix.habits.old_token;
            let token = match outdated.filter(|_| is_old) {
                Some((token, _)) => token,
                None => identity.token.clone(),
            };
            self.provisional = Some(new);
            self.resume(token, is_old, scene);
            return Ok(());
        };
        let request = self.asked.remove(&id).map(|request| request.what);
        let Some(Asked::Resume { token: presented, presented: shown, .. }) = request else {
            return violation(CHECKER, format!("a `welcome` to {id}, which was no resume"));
        };
        if scene.links.get(link).run == scene.run
            && let Err(fault) = self.may_resume(link, &shown, scene)
        {
            return violation(REASONS, fault);
        }
        self.resumed_on = Some(link);
        let Some(old) = &self.identity else { return Ok(()) };
        if old.member != new.member {
            return violation(CHECKER, format!("{} resumed and became {}", old.member, new.member));
        }
        if old.is_private && !is_private {
            return violation("sealed", format!("{} began in private, and was resumed in the clear", old.member));
        }
        scene.tally.resumes += 1;
        scene.tally.resumed_sealed += u64::from(old.is_sealed);
        scene.tally.hidden += u64::from(is_sealed && !old.is_sealed);
        scene.tally.resumed_secure += u64::from(old.is_private && !is_sealed);
        let (is_sealed, is_private, is_named) = (old.is_sealed, old.is_private, old.is_named);
        let run = scene.links.get(link).run;
        let before = old.presented.clone().filter(|(token, _)| *token != presented);
        let outdated = before.or_else(|| old.outdated.clone()).filter(|(_, of)| *of == run);
        self.identity =
            Some(Identity { is_sealed, is_private, is_named, outdated, presented: Some((presented, run)), ..new });
        self.provisional = None;
        self.phase = Phase::Open;
        for view in self.rooms.values_mut().filter(|view| !view.is_joined && view.start == Start::Unnamed) {
            // If the server did not know of it, this is a join.
            view.asked = None;
        }
        self.ask_for_rooms(scene);
        Ok(())
    }

    /// Asks for its session, from where it is in each room.
    fn resume(&mut self, token: String, is_outdated: bool, scene: &mut Scene) {
        scene.tally.actions += 1;
        let behind = self.link.map_or((0, 0), |link| (link, scene.links.get(link).sent));
        let presented = scene.witness.presents(&token, behind, scene.now);
        let session = presented.token.as_ref().map(|token| token.identity.session);
        self.shown.extend(self.link.map(|link| (link, session)));
        let id = self.ask(Asked::Resume { token: token.clone(), is_outdated, presented }, scene);
        let forgets = scene.random.chance(scene.mix.habits.forgets);
        let mut cursors = Vec::new();
        for view in self.rooms.values_mut().filter(|view| view.next > 0) {
            view.asked = Some(None);
            if forgets && scene.random.coin() {
                (view.start, view.presence) = (Start::Unnamed, UNSURE);
                continue;
            }
            view.start = Start::Cursor;
            let View { room, epoch, next, presence, .. } = view;
            let presence = if *presence == UNSURE || scene.random.below(8) == 0 {
                // As before, if the server knows it; else full.
                *presence = UNSURE;
                String::new()
            } else {
                format!(",\"presence\":\"{presence}\"")
            };
            cursors.push(format!("\"r{room}\":{{\"epoch\":\"{epoch}\",\"seq\":{}{presence}}}", *next - 1));
        }
        let cursors = cursors.join(",");
        let text = format!("{{\"type\":\"resume\",\"id\":{id},\"session\":\"{token}\",\"cursors\":{{{cursors}}}}}");
        self.phase = Phase::Resuming { id, since: scene.now };
        self.say(&text, scene);
    }

    /// Its session is no more: it is somebody new, in the same places.
    fn begin_anew(&mut self, scene: &mut Scene) {
        self.identity = self.provisional.take();
        // Keys count per session, so a repeat could be stored twice.
        self.outbox.retain(|draft| draft.tries == 0);
        self.used_key = None;
        self.taken.clear();
        self.rooms.values_mut().for_each(View::detach);
        self.phase = Phase::Open;
        self.ask_for_rooms(scene);
    }

    fn joined(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let Some(room) = told["room"].as_str().and_then(|name| scene.model.room(name)) else {
            return violation(CHECKER, format!("no such room: {told}"));
        };
        if let Some(id) = id
            && !matches!(self.asked.remove(&id), Some(Request { what: Asked::Join { room: asked }, .. }) if asked == room)
        {
            return violation(CHECKER, format!("{id} was no join of r{room}: {told}"));
        }
        if let Some(identity) = &mut self.identity {
            identity.is_named = true;
        }
        // The server may know of a room that was left by what was lost with a link.
        let view = self.rooms.entry(room).or_insert_with(|| {
            let mut view = View::new(room, "full");
            (view.asked, view.start) = (Some(None), Start::Unnamed);
            view
        });
        if id.is_none() && matches!(view.asked, Some(Some(_))) {
            // Not what it has just asked for: the server knew of the room, and the client did not.
            view.start = Start::Unnamed;
        }
        view.joined(link, told, scene)
    }

    /// What it wanted said in rooms that it has no place in stays unsaid.
    fn forget_drafts(&mut self) {
        let rooms = &self.rooms;
        self.outbox.retain(|draft| rooms.contains_key(&draft.room));
    }

    // Talk.

    fn message(&mut self, link: usize, told: &Value, scene: &mut Scene) -> Checked {
        let (seq, at, body) = said(told);
        let room = told["room"].as_str().and_then(|name| scene.model.room(name)).unwrap_or(usize::MAX);
        self.with_view(told, scene, |view, scene| view.message(seq, at, scene))?;
        if scene.is_of_this_epoch(link) {
            scene.model.heard(room, told)?;
        }
        if scene.mix.encryption.is_on() {
            self.overhears(room, told);
        }
        // Of what it sent once, over this socket, it hears the answer first.
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

    /// What was asked under this number, which has its answer now.
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
        judge_list(link, room, mono, told, scene)
    }

    /// What was queued before this pong has been heard, and nothing else (docs/protocol.md: `heads`).
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

    // Refusals and ends.

    fn error(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let code = told["code"].as_str().unwrap_or_default().to_owned();
        let wait = told["retry_after_ms"].as_u64().unwrap_or(200) * MILLISECOND;
        let is_wait = matches!(code.as_str(), "rate_limited" | "storage_unavailable");
        scene.tally.rate_limited += u64::from(code == "rate_limited");
        scene.tally.unavailable += u64::from(code == "storage_unavailable");
        if code != "storage_unavailable" {
            self.counts_fault(scene);
        }
        let Some(id) = id else {
            // Perhaps of the signal.
            self.signalled = None;
            // Of a join by URL, of a signal, of nonsense, or of a room that was to be given back.
            let is_expected = self.nonsense > 0 || is_wait || code == "too_many_rooms";
            if !is_expected {
                return violation(CHECKER, format!("a refusal of nothing: {told}"));
            }
            let opened = scene.links.get(link).opened;
            let reason = match code.as_str() {
                "rate_limited" => self.may_be_rated(link, opened, scene),
                "too_many_rooms" => self.may_be_too_many(opened, scene),
                _ => Ok(()),
            };
            if let Err(fault) = reason {
                return violation(REASONS, format!("{fault}: {told}"));
            }
            if code == "storage_unavailable" {
                // Where the room of the URL begins could not be read.
                for view in self.rooms.values_mut().filter(|view| view.asked == Some(None) && view.next == 0) {
                    view.asked = None;
                }
            }
            return Ok(());
        };
        if code == "too_many_rooms" && !self.asked.contains_key(&id) {
            // Of a return: some of what it named has no place.
            if let (true, Err(fault)) =
                (scene.links.get(link).run == scene.run, self.may_be_too_many(scene.links.get(link).opened, scene))
            {
                return violation(REASONS, format!("{fault}: {told}"));
            }
            self.rooms.retain(|_, view| view.is_joined);
            self.forget_drafts();
            return Ok(());
        }
        let Some(request) = self.asked.remove(&id) else {
            return violation(CHECKER, format!("a refusal of nothing that c{} asked: {told}", self.index));
        };
        if scene.links.get(link).run == scene.run
            && let Err(fault) = self.may_refuse((link, Some(id)), &request, &code, scene)
        {
            return violation(REASONS, format!("{fault}: {told}"));
        }
        match (request.what, code.as_str()) {
            (Asked::Send { body }, "rate_limited" | "storage_unavailable" | "not_joined") => {
                let due = scene.now + wait;
                let stored = code == "storage_unavailable";
                self.outbox.retain(|draft| draft.body != body || draft.key.is_some() || !stored);
                if let Some(draft) = self.outbox.iter_mut().find(|draft| draft.body == body) {
                    draft.is_open = false;
                    draft.due = due;
                }
                Ok(())
            }
            (Asked::Reuse { .. }, "key_reused") if told["field"] == "key" => {
                scene.tally.keys_reused += 1;
                Ok(())
            }
            (Asked::Send { body }, "key_reused") => self.forestalled(body, told, scene),
            (Asked::Replay(replay) | Asked::Signal { replay: Some(replay), .. }, "key_reused") => {
                replay.judge_refusal(link, &told["field"], None, scene)
            }
            (Asked::Faulty { code: right }, code) if code == right => {
                scene.tally.faulty_bodies += 1;
                Ok(())
            }
            (Asked::Faulty { .. }, "rate_limited") => Ok(()),
            (Asked::Join { room }, "rate_limited" | "storage_unavailable" | "not_joined") => {
                if let Some(view) = self.rooms.get_mut(&room).filter(|view| !view.is_joined) {
                    view.asked = None;
                }
                Ok(())
            }
            (Asked::Join { room }, "already_joined") if self.provisional.is_none() => {
                // Of the session that it got back: the server knew of the room, and its `joined` comes, or came.
                if let Some(view) = self.rooms.get_mut(&room).filter(|view| !view.is_joined) {
                    (view.asked, view.start) = (Some(None), Start::Unnamed);
                }
                Ok(())
            }
            (Asked::Join { room }, "too_many_rooms") => {
                self.rooms.remove(&room);
                self.forget_drafts();
                Ok(())
            }
            (Asked::Leave { .. }, "rate_limited") => Ok(()),
            (Asked::Resume { .. }, "rate_limited") => {
                self.abandon(scene);
                Ok(())
            }
            (Asked::Resume { is_outdated, .. }, "not_resumable") => {
                if self.identity.as_ref().is_some_and(|old| old.is_private && !self.is_private(link, scene)) {
                    scene.tally.shown += 1;
                    self.close(Some(1000), scene);
                    return Ok(());
                }
                match self.identity.clone().filter(|_| is_outdated) {
                    Some(identity) => {
                        scene.tally.old_tokens += 1;
                        self.resume(identity.token, false, scene);
                    }
                    None => {
                        scene.tally.not_resumable += 1;
                        self.begin_anew(scene);
                    }
                }
                Ok(())
            }
            (Asked::Nonsense, "unknown_type" | "bad_field" | "bad_json" | "rate_limited") => Ok(()),
            (
                Asked::Reuse { .. }
                | Asked::Replay(_)
                | Asked::Signal { .. }
                | Asked::History { .. }
                | Asked::Members { .. },
                "rate_limited" | "storage_unavailable" | "not_joined",
            ) => Ok(()),
            (Asked::Ping, "rate_limited") => {
                // An answer all the same.
                self.pinged = None;
                Ok(())
            }
            _ => violation(CHECKER, format!("a refusal on link {link} that does not fit: {told}")),
        }
    }

    fn closed(&mut self, link: usize, code: Option<u16>, scene: &mut Scene) -> Checked {
        self.trace(scene, || format!("hears link {link} close with {code:?}"));
        let is_own = matches!(self.phase, Phase::Closing { .. });
        let mut wait = self.back_off(scene);
        let is_known =
            self.line.is_spoilt || self.is_answer_to_its_close(code) || scene.links.get(link).run != scene.run;
        if let (false, Err(fault)) = (is_known, self.may_close(link, code, scene)) {
            return violation(REASONS, format!("c{} is closed with {code:?}: {fault}", self.index));
        }
        match code {
            Some(1008) if self.line.is_spoilt => scene.tally.condemned += 1,
            Some(1001 | 4001 | 4002 | 4004) if self.line.is_spoilt => {}
            _ if self.line.is_spoilt => {
                return violation("sealed", format!("c{} broke its sequence and is closed with {code:?}", self.index));
            }
            _ if is_own => wait = scene.random.within((10 * MILLISECOND, 3 * SECOND)),
            // What it had asked for on a socket that it gave up came late, and took the session there.
            Some(4001) => scene.tally.superseded += 1,
            Some(1001 | 1008 | 4002 | 4004) => {}
            _ => return violation(CHECKER, format!("c{} is closed with {code:?}", self.index)),
        }
        let bytes = wire::close(code, &mut scene.random);
        scene.client_writes(link, &bytes);
        scene.client_closes(link);
        self.drop_link(scene, wait);
        Ok(())
    }

    /// Something was said on a socket that it has given up.
    pub(super) fn hear_old(&mut self, link: usize, scene: &mut Scene) -> Checked {
        let Some(reader) = self.old.get_mut(&link) else { return Ok(()) };
        loop {
            match reader.next() {
                Ok(Some(Said::Close(code))) => {
                    scene.tally.resumed_elsewhere += u64::from(code == Some(4001));
                    let is_answer = self.old_closes.get(&link) == Some(&code);
                    let is_known = is_answer || scene.links.get(link).run != scene.run;
                    if let (false, Err(fault)) = (is_known, self.may_close(link, code, scene)) {
                        let text =
                            format!("c{} had given link {link} up, which is closed with {code:?}: {fault}", self.index);
                        return violation(REASONS, text);
                    }
                    scene.client_closes(link);
                    self.old.remove(&link);
                    return Ok(());
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(fault) => return violation("wire", fault),
            }
        }
        if scene.links.get(link).has_ended() {
            scene.client_closes(link);
            self.old.remove(&link);
        }
        Ok(())
    }
}

/// A list of members that was asked for when the server's clock stood at `mono`: if nobody has come or gone since, it is of
/// those who are here.
pub(super) fn judge_list(link: usize, room: usize, mono: u64, told: &Value, scene: &mut Scene) -> Checked {
    let (names, count) = listed(told)?;
    let is_same_run = scene.links.get(link).run == scene.run;
    let Some(here) = scene.here.room(room).filter(|here| is_same_run && here.changed < mono) else { return Ok(()) };
    scene.tally.lists += 1;
    let is_right = match &names {
        None => count == here.members.len() as u64,
        Some(names) => {
            // Somebody may have come and gone within the turn that made the list.
            let stays = |(name, _): &(&String, &bool)| here.members.contains_key(*name) || here.known.contains(*name);
            names.iter().filter(stays).eq(here.members.iter())
        }
    };
    if is_right {
        return Ok(());
    }
    let text = format!("r{room} has {:?} since {}, asked at {mono}: {told}", here.members, here.changed);
    violation("2: everyone knows who is here", text)
}

/// Seq, time and the body's number of a message.
pub(super) fn said(told: &Value) -> (u64, u64, u64) {
    let seq = told["seq"].as_u64().unwrap_or(0);
    (seq, told["at"].as_u64().unwrap_or(0), number(&told["body"]))
}
