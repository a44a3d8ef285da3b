//! Refusals, and the ends of a client's sockets: each refusal fits its request, and a request that was refused only for
//! a while is made again.

use serde_json::Value;

use super::super::agenda::{MILLISECOND, SECOND};
use super::super::scene::{Checked, Scene, violation};
use super::super::wire::{self, Said};
use super::hears::CHECKER;
use super::reasons::REASONS;
use super::{Asked, Client, Phase, Start};

impl Client {
    pub(super) fn error(&mut self, link: usize, id: Option<u64>, told: &Value, scene: &mut Scene) -> Checked {
        let code = told["code"].as_str().unwrap_or_default().to_owned();
        let wait = told["retry_after_ms"].as_u64().unwrap_or(200) * MILLISECOND;
        scene.tally.rate_limited += u64::from(code == "rate_limited");
        scene.tally.unavailable += u64::from(code == "storage_unavailable");
        if !matches!(code.as_str(), "storage_unavailable" | "rate_limited") {
            self.counts_fault(scene);
        }
        let Some(id) = id else { return self.refused_without_id(link, &code, told, scene) };
        if code == "too_many_rooms" && !self.asked.contains_key(&id) {
            // A return: some of the rooms that it named have no place.
            if scene.is_of_this_run(link)
                && let Err(fault) = self.may_be_too_many(scene.links.get(link).opened, scene)
            {
                return violation(REASONS, format!("{fault}: {told}"));
            }
            // Some of those whose `joined` has not come have a place.
            let before = self.rooms.len();
            self.rooms.retain(|_, view| view.is_joined);
            self.unsure_rooms += before - self.rooms.len();
            self.forget_drafts();
            return Ok(());
        }
        let Some(request) = self.asked.remove(&id) else {
            return violation(CHECKER, format!("a refusal of nothing that c{} asked: {told}", self.index));
        };
        if scene.is_of_this_run(link)
            && let Err(fault) = self.may_refuse((link, Some(id)), &request, (&code, told), scene)
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
                // It belongs to the resumed session: the server knew of the room, and its `joined` comes, or came.
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
                self.not_resumable(link, is_outdated, scene);
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
                // Any answer counts as a sign of life.
                self.pinged = None;
                Ok(())
            }
            _ => violation(CHECKER, format!("a refusal on link {link} that does not fit: {told}")),
        }
    }

    /// A refusal without an id may belong to a join by URL, a signal, a malformed request, or a room that was to be
    /// resumed.
    fn refused_without_id(&mut self, link: usize, code: &str, told: &Value, scene: &mut Scene) -> Checked {
        // The refusal may belong to the signal.
        self.signalled = None;
        let is_wait = matches!(code, "rate_limited" | "storage_unavailable");
        let is_expected = self.nonsense > 0 || is_wait || code == "too_many_rooms";
        if !is_expected {
            return violation(CHECKER, format!("a refusal of nothing: {told}"));
        }
        let opened = scene.links.get(link).opened;
        let reason = match code {
            "rate_limited" => self.may_be_rated(link, opened, scene),
            "too_many_rooms" => self.may_be_too_many(opened, scene),
            _ => Ok(()),
        };
        if let Err(fault) = reason {
            return violation(REASONS, format!("{fault}: {told}"));
        }
        if code == "storage_unavailable" {
            // The store could not read where the room of the URL begins.
            for view in self.rooms.values_mut().filter(|view| view.asked == Some(None) && view.next == 0) {
                view.asked = None;
            }
        }
        Ok(())
    }

    fn not_resumable(&mut self, link: usize, is_outdated: bool, scene: &mut Scene) {
        if self.identity.as_ref().is_some_and(|old| old.is_private && !self.is_private(link, scene)) {
            scene.tally.shown += 1;
            self.close(Some(1000), scene);
            return;
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
    }

    pub(super) fn closed(&mut self, link: usize, code: Option<u16>, scene: &mut Scene) -> Checked {
        self.trace(scene, || format!("hears link {link} close with {code:?}"));
        let is_own = matches!(self.phase, Phase::Closing { .. });
        let mut wait = self.back_off(scene);
        let is_forged = self.line.announced.is_none() && self.line.forged == Some(code);
        if self.line.is_ready() && !self.is_told_of_close(code) {
            return violation("sealed", format!("c{} is closed with {code:?}, which is not announced", self.index));
        }
        let is_known = self.line.is_spoilt || is_forged || self.is_answer_to_its_close(code);
        if let (false, Err(fault)) = (is_known, self.may_close(link, code, scene)) {
            return violation(REASONS, format!("c{} is closed with {code:?}: {fault}", self.index));
        }
        match code {
            // It came before whatever the client did.
            _ if is_forged => wait = scene.random.within((10 * MILLISECOND, 3 * SECOND)),
            Some(1008) if self.line.is_spoilt => scene.tally.condemned += 1,
            Some(1001 | 4001 | 4002 | 4004) if self.line.is_spoilt => {}
            Some(1013) if self.line.is_spoilt && scene.witness.had_no_memory(link) => {}
            _ if self.line.is_spoilt => {
                return violation("sealed", format!("c{} broke its sequence and is closed with {code:?}", self.index));
            }
            _ if is_own => wait = scene.random.within((10 * MILLISECOND, 3 * SECOND)),
            // A late request on an abandoned socket took the session over there.
            Some(4001) => scene.tally.superseded += 1,
            Some(1001 | 1008 | 1013 | 4002 | 4004) => {}
            _ => return violation(CHECKER, format!("c{} is closed with {code:?}", self.index)),
        }
        let bytes = wire::close(code, &mut scene.random);
        scene.client_writes(link, &bytes);
        scene.client_closes(link);
        self.drop_link(scene, wait);
        Ok(())
    }

    /// Returns whether the server has announced this close, or answers one that was not sealed.
    fn is_told_of_close(&self, code: Option<u16>) -> bool {
        match self.line.announced {
            Some(announced) => Some(announced) == code,
            None => self.line.forged == Some(code) || self.is_answer_to_its_close(code),
        }
    }

    /// Handles data on an abandoned socket.
    pub(super) fn hear_old(&mut self, link: usize, scene: &mut Scene) -> Checked {
        let Some(reader) = self.old.get_mut(&link) else { return Ok(()) };
        loop {
            match reader.next() {
                Ok(Some(Said::Close(code))) => {
                    scene.tally.resumed_elsewhere += u64::from(code == Some(4001));
                    let is_answer = self.old_closes.get(&link) == Some(&code);
                    if let (false, Err(fault)) = (is_answer, self.may_close(link, code, scene)) {
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
