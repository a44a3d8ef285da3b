//! A client's next action: it comes, talks, asks, stops reading, goes, and comes back.

use std::collections::BTreeSet;

use super::super::agenda::{MILLISECOND, SECOND};
use super::super::bodies;
use super::super::scene::{Checked, Scene};
use super::super::wire;
use super::line::Line;
use super::pages::{Span, Wanted};
use super::view::UNSURE;
use super::{Asked, Client, Draft, PATIENCE, Phase, QUIET, Reading, Request, Start, View};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Send,
    Join,
    Leave,
    History,
    Members,
    Signal,
    Ping,
    Post,
    Browse,
    Roster,
    Listen,
    Stall,
    Trickle,
    Close,
    Reset,
    Vanish,
    HalfClose,
    SecondSocket,
    ReuseKey,
    Replay,
    Squat,
    Faulty,
    Garbage,
    Damage,
}

/// The most bytes of a body beside its number, so that a request around it stays within the smallest limit.
const AROUND: usize = 110;

impl Client {
    /// Acts, as its time has come.
    pub fn act(&mut self, scene: &mut Scene) -> Checked {
        self.read_slowly(scene)?;
        for link in self.old.keys().copied().collect::<Vec<_>>() {
            // Data that it had not read when it gave the socket up.
            self.bytes(link, scene)?;
        }
        let (now, calm) = (scene.now, scene.is_calm);
        match self.phase {
            Phase::Away { until } if now >= until && !self.is_leaving => self.connect(scene),
            Phase::Away { .. } => {}
            Phase::Opening { since } | Phase::Resuming { since, .. } | Phase::Closing { since } => {
                if now > since + PATIENCE {
                    self.trace(scene, || "has waited too long".into());
                    self.abandon(scene);
                }
            }
            Phase::Open if now > self.pinged.unwrap_or(now) + PATIENCE => {
                self.trace(scene, || "hears no answer".into());
                self.abandon(scene);
            }
            Phase::Open => {
                if self.is_leaving {
                    self.say_goodbye(scene);
                } else if calm {
                    self.repeat(scene);
                } else {
                    self.do_something(scene);
                }
            }
        }
        // An event per kind of errand would only add another source of timing.
        self.run_errands(scene);
        self.run_stream(scene);
        if self.phase == Phase::Open && now > self.heard + QUIET && self.pinged.is_none() {
            self.ping(scene);
        }
        self.flush(scene);
        Ok(())
    }

    fn read_slowly(&mut self, scene: &mut Scene) -> Checked {
        let Some(link) = self.link else { return Ok(()) };
        match self.reading {
            Reading::All => Ok(()),
            Reading::Stopped { until } | Reading::Dripping { until, .. } if scene.now >= until || scene.is_calm => {
                self.reading = Reading::All;
                self.read(link, usize::MAX, scene)
            }
            // A client that does not read is not worried by silence.
            Reading::Stopped { .. } => {
                self.heard = scene.now;
                self.pinged = None;
                Ok(())
            }
            Reading::Dripping { bytes, .. } => {
                self.heard = scene.now;
                self.pinged = None;
                self.read(link, bytes, scene)
            }
        }
    }

    fn counts(&self, scene: &mut Scene) {
        scene.tally.actions += 1;
    }

    fn connect(&mut self, scene: &mut Scene) {
        self.counts(scene);
        scene.tally.connects += 1;
        let is_sealed = self.is_to_be_sealed(scene);
        let secure = self.is_to_be_secure(is_sealed, scene);
        let link = scene.open_link(self.index, secure);
        self.link = Some(link);
        self.heard = scene.now;
        self.next_id = scene.random.within((0, 3)) * 1000;
        self.phase = Phase::Opening { since: scene.now };
        let name = self.name();
        if is_sealed {
            scene.tally.sealed += 1;
            self.line = Line::sealed();
            self.trace(scene, || format!("opens link {link}, to be sealed"));
            return scene.client_writes(link, &wire::upgrade("/ws", Some("racerd.v1.sealed")));
        }
        let may_join = self.identity.is_none() && self.rooms.is_empty() && scene.random.coin();
        let path = if may_join {
            let room = scene.random.below(scene.mix.rooms);
            let mut view = self.new_view(room, scene);
            let query = match scene.random.below(3) {
                0 => String::new(),
                1 => {
                    let last = scene.random.within((1, 60));
                    view.start = Start::Last(last);
                    format!("&last={last}")
                }
                _ => "&last=0".to_owned(),
            };
            view.asked = Some(None);
            let path = format!("/rooms/r{room}/ws?name={name}&presence={}{query}", view.presence);
            self.rooms.insert(room, view);
            path
        } else {
            format!("/ws?name={name}")
        };
        self.trace(scene, || format!("opens link {link}: {path}"));
        let shown = self.identity.as_ref().map(|identity| format!("racerd.v1, racerd.session.{}", identity.token));
        scene.tally.tokens_shown += u64::from(shown.is_some());
        scene.client_writes(link, &wire::upgrade(&path, shown.as_deref()));
    }

    /// Decides whether its next socket is a sealed one. It is if the session began on one, which it could not resume
    /// otherwise.
    fn is_to_be_sealed(&self, scene: &mut Scene) -> bool {
        let habits = scene.mix.habits;
        match &self.identity {
            Some(identity) if identity.is_sealed => scene.is_calm || !scene.random.chance(habits.shows),
            Some(_) => self.speaks_sealed || scene.mix.sealed > 0 && scene.random.chance(habits.hides),
            None => self.speaks_sealed,
        }
    }

    /// Decides whether its next socket uses TLS. It does if the session began in private and is not to be exposed in
    /// the clear.
    fn is_to_be_secure(&self, is_sealed: bool, scene: &mut Scene) -> bool {
        let shows = scene.mix.habits.shows;
        match &self.identity {
            // Its name would be lost on an open socket.
            Some(identity) if !is_sealed && identity.is_sealed && !identity.is_named => false,
            Some(identity) if !is_sealed && identity.is_private && !identity.is_sealed => {
                scene.is_calm || !scene.random.chance(shows)
            }
            _ => scene.is_next_secure(),
        }
    }

    fn new_view(&self, room: usize, scene: &mut Scene) -> View {
        let presence = *scene.random.pick(&["full", "full", "full", "count", "off"]);
        View::new(room, presence)
    }

    /// Sends one message over its socket.
    pub(super) fn say(&mut self, text: &str, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        self.said += 1;
        self.trace(scene, || format!("says {}", crop(text)));
        let in_parts = scene.random.chance(scene.mix.habits.fragments);
        let bytes = self.line.say(text, in_parts, &mut scene.random);
        if !bytes.is_empty() {
            scene.client_writes(link, &bytes);
        }
    }

    /// Sends the messages that wait to be sealed.
    pub(super) fn flush(&mut self, scene: &mut Scene) {
        let bytes = self.line.flush(&mut scene.random);
        if let (Some(link), false) = (self.link, bytes.is_empty()) {
            scene.client_writes(link, &bytes);
        }
    }

    pub(super) fn ask(&mut self, what: Asked, scene: &Scene) -> u64 {
        self.next_id += 1;
        let room = match &what {
            Asked::Join { room } | Asked::Leave { room } | Asked::Members { room } | Asked::Reuse { room, .. } => *room,
            Asked::History { wanted } => wanted.room,
            Asked::Send { body } => {
                self.outbox.iter().find(|draft| draft.body == *body).map_or(usize::MAX, |draft| draft.room)
            }
            Asked::Replay(replay) | Asked::Signal { replay: Some(replay), .. } => replay.room,
            Asked::Resume { .. } | Asked::Faulty { .. } | Asked::Signal { .. } | Asked::Ping | Asked::Nonsense => {
                usize::MAX
            }
        };
        let was_in_room = self.is_in(room) && !self.leaves(room);
        self.asked.insert(self.next_id, Request { what, since: scene.now, mono: scene.witness.mono, was_in_room });
        self.next_id
    }

    fn do_something(&mut self, scene: &mut Scene) {
        if self.rooms.is_empty() {
            self.join(scene);
            return self.counts(scene);
        }
        self.repeat(scene);
        let (habits, encryption) = (scene.mix.habits, scene.mix.encryption);
        let choices = [
            (Act::Send, 1000),
            (Act::Join, habits.join),
            (Act::Leave, habits.leave),
            (Act::History, habits.history),
            (Act::Members, habits.members),
            (Act::Signal, habits.signal),
            (Act::Ping, habits.ping),
            (Act::Post, habits.post),
            (Act::Browse, habits.browse),
            (Act::Roster, scene.mix.doors.rosters),
            (Act::Listen, habits.listen),
            (Act::Stall, habits.stall),
            (Act::Trickle, habits.trickle),
            (Act::Close, habits.close),
            (Act::Reset, habits.reset),
            (Act::Vanish, habits.vanish),
            (Act::HalfClose, habits.half_close),
            (Act::SecondSocket, habits.second_socket),
            (Act::ReuseKey, habits.reuse_key),
            (Act::Replay, encryption.replay),
            (Act::Squat, encryption.squat),
            (Act::Faulty, encryption.faulty),
            (Act::Garbage, habits.garbage),
            (Act::Damage, if self.line.is_sealed() { habits.damage } else { 0 }),
        ];
        let total = choices.iter().map(|(_, weight)| weight).sum();
        let mut left = scene.random.below(total);
        for (act, weight) in choices {
            if left < weight {
                return self.carry_out(act, scene);
            }
            left -= weight;
        }
    }

    fn carry_out(&mut self, act: Act, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        let room = self.a_room(scene);
        let soon = (10 * MILLISECOND, 2 * SECOND);
        match act {
            Act::Send => {
                let Some(room) = room else { return };
                for _ in 0..scene.random.within((1, 4)) {
                    self.draft(room, scene);
                }
                return;
            }
            Act::Join => return self.join(scene),
            Act::Leave => return self.leave(room, scene),
            Act::History => {
                let Some(room) = room else { return };
                self.ask_history(room, scene);
            }
            Act::Members => {
                let Some(room) = room else { return };
                let id = self.ask(Asked::Members { room }, scene);
                self.say(&format!("{{\"type\":\"members\",\"id\":{id},\"room\":\"r{room}\"}}"), scene);
            }
            Act::Signal => {
                let Some(room) = room else { return };
                self.signal(room, scene);
            }
            Act::Ping => self.ping(scene),
            Act::Post => self.write_post(scene),
            Act::Browse => self.browse(scene),
            Act::Roster => self.ask_who_is_here(scene),
            Act::Listen => self.listen(scene),
            Act::Stall => {
                scene.tally.stalls += 1;
                let until = scene.now + scene.random.magnitude((10 * MILLISECOND, 20 * SECOND));
                self.trace(scene, || "stops reading".into());
                self.reading = Reading::Stopped { until };
            }
            Act::Trickle => {
                scene.tally.trickles += 1;
                let until = scene.now + scene.random.magnitude((10 * MILLISECOND, 10 * SECOND));
                let bytes = scene.random.magnitude((1, 512)) as usize;
                self.reading = Reading::Dripping { bytes, until };
            }
            Act::Close => {
                let code = *scene.random.pick(&[Some(1000), None, Some(1001), Some(4999)]);
                match self.line.is_sealed().then(|| scene.random.below(4)) {
                    None | Some(0) => self.close(code, scene),
                    Some(1) => self.forge_close(code, scene),
                    Some(_) => self.end(scene),
                }
            }
            Act::Reset => {
                self.trace(scene, || format!("resets link {link}"));
                scene.client_resets(link);
                let wait = scene.random.within(soon);
                self.drop_link(scene, wait);
            }
            Act::Vanish => {
                self.trace(scene, || format!("vanishes from link {link}"));
                scene.client_vanishes(link);
                let wait = scene.random.within(soon);
                self.drop_link(scene, wait);
            }
            Act::HalfClose => {
                scene.tally.half_closes += 1;
                self.trace(scene, || format!("shuts its half of link {link}"));
                self.flush(scene);
                scene.client_shuts(link);
                self.phase = Phase::Closing { since: scene.now };
            }
            Act::SecondSocket => {
                self.flush(scene);
                self.leave_open(link);
                self.drop_link(scene, 0);
            }
            Act::ReuseKey => self.reuse_key(scene),
            Act::Replay => self.replay(room, scene),
            Act::Squat => self.squat(room, scene),
            Act::Faulty => self.send_faulty(room, scene),
            Act::Damage => self.damage(room.unwrap_or(0), scene),
            Act::Garbage => self.say_garbage(scene),
        }
        self.counts(scene);
    }

    fn ask_history(&mut self, room: usize, scene: &mut Scene) {
        let wanted = Wanted::draw(room, scene);
        let id = self.ask(Asked::History { wanted }, scene);
        let limit = wanted.limit;
        let span = match wanted.span {
            Span::Newest => String::new(),
            Span::Before(place) => format!(",\"before\":{place}"),
            Span::After(place) => format!(",\"after\":{place}"),
        };
        let text = format!("{{\"type\":\"history\",\"id\":{id},\"room\":\"r{room}\",\"limit\":{limit}{span}}}");
        self.say(&text, scene);
    }

    /// Says something that is no request.
    fn say_garbage(&mut self, scene: &mut Scene) {
        scene.tally.garbage += 1;
        self.nonsense += 1;
        let id = self.ask(Asked::Nonsense, scene);
        let texts = [
            format!("{{\"type\":\"nonsense\",\"id\":{id}}}"),
            format!("{{\"type\":\"join\",\"id\":{id},\"room\":\"a/b\"}}"),
            format!("{{\"type\":\"send\",\"id\":{id},\"room\":\"r0\"}}"),
            "[]".to_owned(),
            "{".to_owned(),
        ];
        let text = scene.random.pick(&texts).clone();
        if !text.contains("id") {
            // Its answer has no number either.
            self.asked.remove(&id);
        }
        self.say(&text, scene);
    }

    /// Draws a room that it is in, or about to be in.
    fn a_room(&self, scene: &mut Scene) -> Option<usize> {
        let is_here = |view: &&View| (view.is_joined || view.asked.is_some()) && !self.leaves(view.room);
        let rooms: Vec<usize> = self.rooms.values().filter(is_here).map(|view| view.room).collect();
        if rooms.is_empty() { None } else { Some(*scene.random.pick(&rooms)) }
    }

    /// Returns whether it has asked to leave this room.
    pub(super) fn leaves(&self, room: usize) -> bool {
        self.asked.values().any(|request| matches!(request.what, Asked::Leave { room: of } if of == room))
    }

    fn draft(&mut self, room: usize, scene: &mut Scene) {
        let most = usize::from(scene.mix.limits.in_flight).min(16);
        if self.outbox.len() >= most {
            return;
        }
        let body = scene.model.new_body();
        let (name, index) = (self.name(), self.index);
        let (key, text) = if scene.mix.encryption.is_next(room, &mut scene.random) {
            let key = Client::sealed_key(self.called, body);
            (Some(key.clone()), self.seal(body, key, scene))
        } else {
            let key = (!scene.random.chance(scene.mix.habits.keyless)).then(|| format!("{name}-{body}"));
            let most = scene.mix.limits.max_message.saturating_sub(AROUND);
            let breaks = scene.mix.sealed == 0;
            (key, bodies::draw(body, index, most, breaks, &mut scene.random))
        };
        scene.model.write(body, &text);
        self.outbox.push(Draft { room, key, body, text, is_open: false, due: scene.now, tries: 0 });
        self.repeat(scene);
    }

    /// Sends new drafts and those that were not acknowledged, and asks again for its rooms.
    fn repeat(&mut self, scene: &mut Scene) {
        self.ask_for_rooms(scene);
        // The server remembers a limited number of keys per sender and room, so repeats are sent before new drafts.
        let mut waiting = BTreeSet::new();
        for index in 0..self.outbox.len() {
            let draft = &self.outbox[index];
            let (room, body) = (draft.room, draft.body);
            let in_room = self.rooms.get(&room).is_some_and(|view| view.is_joined || view.asked.is_some());
            if draft.is_open {
                continue;
            }
            if draft.due > scene.now || !in_room || waiting.contains(&room) {
                waiting.insert(room);
                continue;
            }
            scene.tally.actions += 1;
            scene.tally.sends += 1;
            scene.tally.resent += u64::from(draft.tries > 0);
            let id = self.ask(Asked::Send { body }, scene);
            let draft = &mut self.outbox[index];
            draft.is_open = true;
            draft.tries += 1;
            let key = draft.key.as_ref().map(|key| format!(",\"key\":\"{key}\"")).unwrap_or_default();
            let text = format!("{{\"type\":\"send\",\"id\":{id},\"room\":\"r{room}\"{key},\"body\":{}}}", draft.text);
            self.say(&text, scene);
        }
    }

    /// Sends an acknowledged key again, with another body.
    fn reuse_key(&mut self, scene: &mut Scene) {
        let Some((room, key, run)) = self.used_key.take().filter(|(room, _, _)| self.is_in(*room)) else { return };
        let body = scene.model.new_body();
        let other = match scene.mix.encryption.takes_only(room) {
            true => self.seal(body, key.clone(), scene),
            false => format!("\"{body}:other\""),
        };
        let id = self.ask(Asked::Reuse { room, body, run }, scene);
        let text = format!("{{\"type\":\"send\",\"id\":{id},\"room\":\"r{room}\",\"key\":\"{key}\",\"body\":{other}}}");
        self.say(&text, scene);
    }

    /// Breaks the sequence of sealed messages, for which the server has to close the socket.
    fn damage(&mut self, room: usize, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        self.flush(scene);
        let ping = self.ask(Asked::Ping, scene);
        let harmless = format!("{{\"type\":\"ping\",\"id\":{ping}}}");
        let body = scene.model.body_for_nobody();
        let never = format!("{{\"type\":\"send\",\"room\":\"r{room}\",\"body\":\"{body}:never\"}}");
        let Some(bytes) = self.line.say_damaged(&harmless, &never, &mut scene.random) else { return };
        self.trace(scene, || format!("breaks the sequence of link {link}, with body {body}"));
        scene.tally.spoilt += 1;
        scene.client_writes(link, &bytes);
        self.phase = Phase::Closing { since: scene.now };
    }

    fn join(&mut self, scene: &mut Scene) {
        if self.rooms.len() >= scene.mix.limits.rooms_per_session {
            return;
        }
        let room = scene.random.below(scene.mix.rooms);
        if self.rooms.contains_key(&room) {
            return;
        }
        let view = self.new_view(room, scene);
        self.rooms.insert(room, view);
        self.counts(scene);
        self.ask_for_rooms(scene);
    }

    /// Joins the rooms that it wants to be in and has not asked for on this socket.
    pub(super) fn ask_for_rooms(&mut self, scene: &mut Scene) {
        let rooms: Vec<usize> = self.rooms.keys().copied().collect();
        for room in rooms {
            let random = &mut scene.random;
            let Some(view) = self.rooms.get_mut(&room) else { continue };
            if view.is_joined || view.asked.is_some() {
                continue;
            }
            let begin = if view.next > 0 {
                if view.start != Start::Unnamed {
                    view.start = Start::Cursor;
                }
                format!(",\"after\":{},\"epoch\":\"{}\"", view.next - 1, view.epoch)
            } else if random.coin() {
                let last = random.within((1, 60));
                view.start = Start::Last(last);
                format!(",\"last\":{last}")
            } else if random.below(8) == 0 {
                // Any seq, including one that does not exist yet.
                let seq = scene.model.head(room) + random.magnitude((1, 1000)) - 2.min(scene.model.head(room));
                view.start = Start::After(seq);
                format!(",\"after\":{seq}")
            } else {
                view.start = Start::Now;
                String::new()
            };
            if view.presence == UNSURE {
                view.presence = "full";
            }
            let presence = view.presence;
            let id = self.ask(Asked::Join { room }, scene);
            if let Some(view) = self.rooms.get_mut(&room) {
                view.asked = Some(Some(id));
            }
            let is_named = self.identity.as_ref().is_none_or(|identity| identity.is_named);
            let name = if is_named { String::new() } else { format!(",\"name\":\"{}\"", self.name()) };
            let text = format!(
                "{{\"type\":\"join\",\"id\":{id},\"room\":\"r{room}\",\"presence\":\"{presence}\"{name}{begin}}}"
            );
            self.say(&text, scene);
        }
    }

    fn leave(&mut self, room: Option<usize>, scene: &mut Scene) {
        let Some(room) = room.filter(|room| self.is_in(*room)) else { return };
        // The client stays until it knows the outcome of everything that it sent.
        if self.outbox.iter().any(|draft| draft.room == room) || self.rooms.len() == 1 {
            return;
        }
        self.counts(scene);
        let id = self.ask(Asked::Leave { room }, scene);
        self.say(&format!("{{\"type\":\"leave\",\"id\":{id},\"room\":\"r{room}\"}}"), scene);
    }

    /// Sends the others a signal, which is not stored. A ping behind it shows when the server has handled it.
    fn signal(&mut self, room: usize, scene: &mut Scene) {
        let Some(member) = self.member().map(str::to_owned) else { return };
        if scene.mix.encryption.is_next(room, &mut scene.random) {
            let (signal, body) = scene.signals.say(room, &member, self.name(), scene.now, Some(&mut scene.random));
            let id = self.ask(Asked::Signal { signal: Some(signal).filter(|_| self.is_in(room)), replay: None }, scene);
            return self
                .say(&format!("{{\"type\":\"signal\",\"id\":{id},\"room\":\"r{room}\",\"body\":{body}}}"), scene);
        }
        self.nonsense += 1;
        let (signal, body) = scene.signals.say(room, &member, self.name(), scene.now, None);
        self.say(&format!("{{\"type\":\"signal\",\"room\":\"r{room}\",\"body\":{body}}}"), scene);
        if scene.random.coin() && self.is_in(room) {
            self.ping(scene);
            self.signalled = Some((self.next_id, signal));
        }
    }

    fn ping(&mut self, scene: &mut Scene) {
        self.pinged.get_or_insert(scene.now);
        let id = self.ask(Asked::Ping, scene);
        self.say(&format!("{{\"type\":\"ping\",\"id\":{id}}}"), scene);
    }

    pub(super) fn close(&mut self, code: Option<u16>, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        self.trace(scene, || format!("closes link {link} with {code:?}"));
        self.flush(scene);
        let bytes = wire::close(code, &mut scene.random);
        scene.client_writes(link, &bytes);
        self.closed_with = Some(code);
        self.phase = Phase::Closing { since: scene.now };
    }

    /// Ends its session over a sealed socket.
    fn end(&mut self, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        self.trace(scene, || format!("ends its session over link {link}"));
        self.say("{\"type\":\"end\"}", scene);
        self.flush(scene);
        scene.ends.asks(link);
        self.closed_with = Some(Some(1000));
        self.phase = Phase::Closing { since: scene.now };
    }

    /// Has somebody on the way close its sealed socket, of which it knows nothing.
    fn forge_close(&mut self, code: Option<u16>, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        self.flush(scene);
        self.trace(scene, || format!("link {link} is closed with {code:?} by somebody on the way"));
        scene.tally.forged += 1;
        let bytes = wire::close(code, &mut scene.random);
        scene.client_writes(link, &bytes);
        // A second one finds the socket closed.
        self.line.forged.get_or_insert(code);
    }

    /// Makes the client leave for good.
    pub fn leave_for_good(&mut self) {
        self.is_leaving = true;
    }

    fn say_goodbye(&mut self, scene: &mut Scene) {
        let Some(link) = self.link else { return };
        match scene.random.below(4) {
            0 if self.line.is_sealed() => self.end(scene),
            0 => self.close(Some(1000), scene),
            1 => self.close(Some(1001), scene),
            2 => {
                scene.client_resets(link);
                self.drop_link(scene, 0);
            }
            _ => {
                scene.client_closes(link);
                self.drop_link(scene, 0);
            }
        }
    }
}

/// Crops a text for the trace.
pub(super) fn crop(text: &str) -> String {
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
