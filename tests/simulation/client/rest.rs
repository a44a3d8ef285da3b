//! Nothing is owed at rest. Where nothing is in flight between a client and the server, the store has nothing to answer
//! and no turn is due, every request must be answered and every message must be heard, without waiting for a later
//! event. So the bound for a pong, an acknowledgement, a page and being live is the time of what is in flight, and
//! nothing beyond it; only a failed read may wait for the hub's next try.

use super::super::scene::{Checked, Scene, violation};
use super::{Asked, Client, Phase, Request};

const CHECKER: &str = "6: nothing is owed at rest";

/// The hub retries a failed read within this time, in milliseconds of the server's clock.
const RETRY: u64 = 1000;

impl Client {
    /// Judges the open requests of the client, if all is at rest.
    pub fn judge_rest(&mut self, scene: &mut Scene) -> Checked {
        if !scene.is_at_rest() {
            return Ok(());
        }
        self.judge_errands(scene)?;
        self.judge_stream(scene)?;
        let Some(link) = self.link.filter(|link| scene.is_link_at_rest(*link)) else { return Ok(()) };
        // A socket that somebody on the way has closed says nothing more to the client, which does not know yet.
        if self.line.is_spoilt || self.line.forged.is_some() {
            return Ok(());
        }
        let is_unread = scene.links.get(link).is_readable();
        let index = self.index;
        let fault = |what: String| violation(CHECKER, format!("c{index} {what}, and nothing is under way"));
        // Requests behind one that waits for the store wait, too.
        let waits_for_store = scene.witness.at_store(link) > 0 || self.has_no_place(scene);
        let is_answered = !waits_for_store && !self.is_joining(scene) && !self.is_reading(scene);
        match self.phase {
            Phase::Away { .. } => return Ok(()),
            Phase::Opening { .. } => return fault("waits for `welcome`".into()),
            Phase::Closing { .. } if self.closed_with.is_some() && is_answered => {
                return fault("has closed".into());
            }
            Phase::Closing { .. } => return Ok(()),
            Phase::Resuming { .. } | Phase::Open => {}
        }
        if self.has_too_many_faults(scene) {
            return fault(format!("is open after {} faulty requests", self.faults.count));
        }
        scene.tally.rests += 1;
        if is_answered {
            if !is_unread {
                self.settle_signals(scene)?;
            }
            if let Some((id, request)) = self.asked.first_key_value() {
                let since = (scene.now - request.since) / 1000;
                return fault(format!("has no answer to {id} ({:?}) for {since} ms", request.what));
            }
            if is_unread {
                return fault(format!("said something on link {link} that is not read"));
            }
        }
        self.judge_places(is_answered, scene)?;
        for view in self.rooms.values() {
            if scene.is_room_at_work(view.room) {
                continue;
            }
            if view.asked == Some(None) && is_answered && self.phase == Phase::Open {
                return fault(format!("waits for `joined` of r{}", view.room));
            }
            let head = scene.witness.head(&scene.model.rooms[view.room].id);
            if view.is_joined && view.next <= head {
                return fault(format!("stands before r{} {}, and {head} is the last", view.room, view.next));
            }
            if view.is_joined {
                view.judge_who_is_here(scene)?;
                scene.tally.presences += u64::from(view.members.is_some());
            }
        }
        self.judge_signals(link, scene)
    }

    /// Checks that it is in the rooms that it was told of, and in no other.
    fn judge_places(&self, is_answered: bool, scene: &Scene) -> Checked {
        let Some(member) = self.member().filter(|_| is_answered && self.phase == Phase::Open) else { return Ok(()) };
        for room in (0..scene.model.rooms.len()).filter(|room| !scene.is_room_at_work(*room)) {
            let place = scene.here.room(room).and_then(|here| here.members.get(member)).copied();
            if place != self.is_in(room).then_some(false) {
                let text = format!(
                    "c{} in r{room}: {}, and the server has it there, away: {place:?}",
                    self.index,
                    self.is_in(room)
                );
                return violation(CHECKER, text);
            }
        }
        Ok(())
    }

    /// Checks that it has heard the signals of its rooms, as far as its queue cannot have been full meanwhile.
    fn judge_signals(&mut self, link: usize, scene: &mut Scene) -> Checked {
        let written = scene.links.get(link).written;
        let (after, before) = self.rested;
        self.rested = (scene.now, written);
        if (written - before) * 2 > scene.limits.least(after, |limits| limits.queue_bytes) as u64 {
            self.roomy = scene.now;
        }
        let Some(identity) = &self.identity else { return Ok(()) };
        for view in self.rooms.values_mut().filter(|view| view.is_joined) {
            let Some(steady) = view.steady else {
                view.steady = (!scene.is_room_at_work(view.room)).then_some(scene.now);
                continue;
            };
            let ready = steady.max(self.roomy);
            scene.tally.signals_looked_for += 1;
            if let Some(signal) = scene.signals.missed(view.room, link, &identity.member, after, ready) {
                let text = format!("c{} has not heard signal {signal} of r{}", self.index, view.room);
                return violation("2: a signal is heard by the others in its room, once", text);
            }
        }
        Ok(())
    }

    /// Returns whether it waits for a `joined` that may still need the store.
    fn is_joining(&self, scene: &Scene) -> bool {
        self.rooms.values().any(|view| view.asked.is_some() && scene.is_room_at_work(view.room))
    }

    /// Returns whether it waits for a page that the server may not have asked the store for yet.
    fn is_reading(&self, scene: &Scene) -> bool {
        let reads = |request: &Request| matches!(request.what, Asked::History { .. });
        scene.witness.reads_are_full() && self.asked.values().any(reads)
    }

    /// Returns whether a message of it may wait for a place at the store. Only what it stores, and what is behind that,
    /// may.
    fn has_no_place(&self, scene: &Scene) -> bool {
        let stores = |request: &Request| {
            // Signals, since those with an encrypted body are compared with the log; faulty ones, since some are sends.
            matches!(
                request.what,
                Asked::Send { .. }
                    | Asked::Reuse { .. }
                    | Asked::Replay(_)
                    | Asked::Signal { .. }
                    | Asked::Faulty { .. }
            )
        };
        let sends = self.asked.values().any(stores) || self.errands.values().any(|errand| !errand.is_read());
        // What it has sent while it joins, also by a socket that is gone, takes its share before it goes to the store.
        let may_join = (0..scene.model.rooms.len()).any(|room| scene.is_room_at_work(room));
        let has_none = || {
            scene.witness.may_have_no_place(self.index, scene.mix.limits.max_message, &scene.links)
                || may_join && scene.witness.waiting_bytes.0 > 0
        };
        sends && has_none()
    }

    fn judge_errands(&self, scene: &Scene) -> Checked {
        for (link, errand) in &self.errands {
            let waits = scene.witness.at_store(*link) > 0 || !errand.is_read() && self.has_no_place(scene);
            let is_over = errand.is_answered() || waits;
            if is_over || !scene.is_link_at_rest(*link) || errand.is_read() && scene.witness.reads_are_full() {
                continue;
            }
            let text = format!("c{} has no answer on link {link}, and nothing is under way", self.index);
            return violation(CHECKER, text);
        }
        Ok(())
    }
}

impl Scene {
    /// Returns whether the server has nothing to do at once.
    pub fn is_at_rest(&self) -> bool {
        !self.is_turn_due
            && self.rests_until.is_none()
            && !self.links.wants_turn()
            && !self.witness.is_stopping
            && self.witness.answers_once
    }

    /// Returns whether nothing is in flight on this link although the link would let it through.
    pub fn is_link_at_rest(&self, link: usize) -> bool {
        let end = self.links.get(link);
        end.run == self.run && end.is_at_rest() && !self.witness.waits(link)
    }

    /// Returns whether the store has work for a join or a catch-up in this room, or the hub will ask it again.
    pub fn is_room_at_work(&self, room: usize) -> bool {
        let id = &self.model.rooms[room].id;
        self.witness.is_room_at_store(id) || self.witness.reads_are_full() || self.witness.failed_within(id, RETRY)
    }
}
