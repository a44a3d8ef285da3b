//! How a client connects: the handshake, its identity, the resumption of its session, and the rooms that it is in.

use serde_json::Value;

use super::super::scene::{Checked, Scene, violation};
use super::hears::CHECKER;
use super::reasons::REASONS;
use super::view::UNSURE;
use super::{Asked, Client, Identity, Phase, Request, Start, View};

impl Client {
    /// Begins on an open socket: if it is to be sealed, the client's part of the handshake comes first.
    pub(super) fn shake_hands(&mut self, link: usize, scene: &mut Scene) {
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

    pub(super) fn welcome(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let (Some(token), Some(member)) = (told["session"].as_str(), told["member"].as_str()) else {
            return violation(CHECKER, format!("a `welcome` that lacks something: {told}"));
        };
        let (is_sealed, is_private) = (self.line.is_sealed(), self.is_private(link, scene));
        if let Some(opened) = scene.witness.open(token) {
            // A session keeps the kind of socket that it began on.
            let began = self.identity.as_ref().filter(|_| id.is_some()).map_or(is_private, |old| old.is_private);
            if opened.claim.private != began {
                let text = format!("a token of c{} that began on link {link}, private: {began}", self.index);
                return violation("private: nothing is told in the clear", text);
            }
            self.sessions.insert(link, opened.claim.session);
        }
        let (token, member) = (token.to_owned(), member.to_owned());
        let new =
            Identity { token, member, is_sealed, is_private, is_named: !is_sealed, outdated: None, presented: None };
        let Some(id) = id else {
            if !matches!(self.phase, Phase::Opening { .. }) {
                if let Some(identity) = self.identity.as_mut().filter(|old| is_sealed && !old.is_named) {
                    // The server heard its name with its first join.
                    scene.tally.named += 1;
                    identity.token = new.token;
                    identity.is_named = true;
                    // A token of before does not have the name, and all else may be gone that does.
                    (identity.outdated, identity.presented) = (None, None);
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
                // This token is a guest's, who would be seated in the rooms before the name is sent. No part of that
                // session may be kept: no `joined` came.
                self.provisional = Some(new);
                self.begin_anew(scene);
                return Ok(());
            }
            // Whether a token of an earlier server is known to be outdated depends on what that has recorded.
            let outdated = identity.outdated.clone();
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
        if scene.is_of_this_run(link)
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
        let outdated = before.or_else(|| old.outdated.clone());
        self.identity =
            Some(Identity { is_sealed, is_private, is_named, outdated, presented: Some((presented, run)), ..new });
        self.provisional = None;
        self.phase = Phase::Open;
        for view in self.rooms.values_mut().filter(|view| !view.is_joined && view.start == Start::Unnamed) {
            // If the server did not know of the room, this is a join.
            view.asked = None;
        }
        self.ask_for_rooms(scene);
        Ok(())
    }

    /// Asks for its session, from its cursor in each room.
    pub(super) fn resume(&mut self, token: String, is_outdated: bool, scene: &mut Scene) {
        scene.tally.actions += 1;
        let behind = self.link.map_or((0, 0), |link| (link, scene.links.get(link).sent));
        let presented = scene.witness.presents(&token, behind, scene.now);
        let session = presented.token.as_ref().map(|token| token.claim.session);
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
                // Presence stays as it was if the server knows the session; otherwise it is full.
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

    /// Begins a new session in the same rooms, since its old one is gone.
    pub(super) fn begin_anew(&mut self, scene: &mut Scene) {
        self.identity = self.provisional.take();
        // Keys count per session, so a repeat could be stored twice.
        self.outbox.retain(|draft| draft.tries == 0);
        self.used_key = None;
        // A draft that is still to be sent goes out under its key in the new session.
        self.taken = self.outbox.iter().filter_map(|draft| Some((draft.room, draft.key.clone()?))).collect();
        self.rooms.values_mut().for_each(View::detach);
        self.phase = Phase::Open;
        self.ask_for_rooms(scene);
    }

    pub(super) fn joined(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let Some(room) = told["room"].as_str().and_then(|name| scene.model.room(name)) else {
            return violation(CHECKER, format!("no such room: {told}"));
        };
        if let Some(id) = id
            && !matches!(self.asked.remove(&id), Some(Request { what: Asked::Join { room: asked }, .. }) if asked == room)
        {
            return violation(CHECKER, format!("{id} was no join of r{room}: {told}"));
        }
        if let Some(identity) = self.identity.as_mut().filter(|identity| !identity.is_named) {
            identity.is_named = true;
            (identity.outdated, identity.presented) = (None, None);
        }
        // The server may know of a room that the client left in a request lost with a link.
        let view = self.rooms.entry(room).or_insert_with(|| {
            let mut view = View::new(room, "full");
            (view.asked, view.start) = (Some(None), Start::Unnamed);
            view
        });
        if id.is_none() && matches!(view.asked, Some(Some(_))) {
            // This does not answer the client's last request: the server knew of the room, and the client did not.
            view.start = Start::Unnamed;
        }
        view.joined(link, told, scene)
    }

    /// Drops the drafts for rooms that it has no place in.
    pub(super) fn forget_drafts(&mut self) {
        let rooms = &self.rooms;
        self.outbox.retain(|draft| rooms.contains_key(&draft.room));
    }
}
