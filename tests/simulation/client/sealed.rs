//! A client's encrypted messages, and its interference with those of others: it replays sealed bodies, takes another's
//! `k`, and sends bodies that no server accepts. Each of these has exactly one right outcome, which is demanded.

use serde_json::Value;

use super::super::encryption::{About, Sealed};
use super::super::model::Kept;
use super::super::scene::{Checked, Scene, violation};
use super::{Asked, Client, Draft};
use crate::wire;

const CHECKER: &str = "replays: a sealed body is taken once, and nobody's key is";

/// Bytes of a request beside a body, and of another spelling of it.
const AROUND: usize = 150;
/// Sealed bodies of others that it remembers.
const REMEMBERED: usize = 4;

/// Another client's sealed body, sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    pub room: usize,
    pub body: u64,
    /// The message with this body that the room kept when it was sent again.
    kept: Option<Kept>,
    /// The room's last seq at that time.
    head: u64,
}

impl Replay {
    fn of(room: usize, sealed: &Sealed, scene: &Scene) -> Option<Replay> {
        let Some(About::Message(body)) = sealed.about() else { return None };
        let (kept, head) = (scene.model.kept(room, body, scene.run), scene.model.head(room));
        Some(Replay { room, body, kept, head })
    }

    /// Returns whether the message was there all the time until now, so that the replay had to be refused.
    pub fn must_fail(&self, scene: &Scene) -> bool {
        self.kept.is_some() && self.kept == scene.model.kept(self.room, self.body, scene.run)
    }

    /// Returns whether the message was there at any time since, so that the replay may be refused.
    fn may_fail(&self, scene: &Scene) -> bool {
        self.kept.is_some() || scene.model.last(self.room, self.body).is_some_and(|seq| seq > self.head)
    }

    /// Judges a refusal that names a field. `text`: the body, if it was sent over HTTP, where all share one scope of
    /// keys, so that the same text is a repeat, and another text means a used key.
    pub fn judge_refusal(&self, link: usize, field: &Value, text: Option<&str>, scene: &mut Scene) -> Checked {
        let model = &scene.model;
        let seq = self.kept.map_or(0, |kept| kept.seq);
        let is_repeat = text.is_some_and(|text| model.is_published(self.room, seq, text)) && model.knows_all_keys();
        let is_right = match field.as_str() {
            Some("body") => self.may_fail(scene) && !is_repeat,
            Some("Idempotency-Key") => text.is_some_and(|text| model.is_published_otherwise(self.room, text)),
            _ => false,
        };
        if scene.is_of_this_run(link) && !is_right {
            return violation(CHECKER, format!("{self:?} was refused for {field}"));
        }
        scene.tally.replays += 1;
        Ok(())
    }

    /// Judges an acceptance, as a new message or as a repeat of one.
    pub fn judge_taken(
        &self,
        (link, seq): (usize, u64),
        is_repeat: bool,
        text: Option<&str>,
        scene: &mut Scene,
    ) -> Checked {
        if !scene.is_of_this_run(link) {
            return Ok(());
        }
        let is_right = match is_repeat {
            true => text.is_some_and(|text| scene.model.is_published(self.room, seq, text)),
            // The log's own judge has seen that it was not there at that time.
            false => true,
        };
        scene.tally.replays_taken += u64::from(!is_repeat);
        if is_right {
            Ok(())
        } else {
            violation(CHECKER, format!("{self:?} was taken as {seq}, a repeat: {is_repeat}"))
        }
    }
}

impl Client {
    /// Returns the text of an encrypted message of this number under this key.
    pub(super) fn seal(&self, body: u64, key: String, scene: &mut Scene) -> String {
        let most = scene.mix.limits.max_message - AROUND;
        let sealed = Sealed::draw(About::Message(body), key, most, &mut scene.random);
        scene.tally.encrypted += 1;
        sealed.text()
    }

    /// Returns the key under which a client of this name sends an encrypted message.
    pub(super) fn sealed_key(called: usize, body: u64) -> String {
        format!("c{called}-sealed-{body:0>16}")
    }

    /// Remembers a sealed body of another client.
    pub(super) fn overhears(&mut self, room: usize, told: &Value) {
        let Some(sealed) = Sealed::of(&told["body"]) else { return };
        if self.member().is_some_and(|member| told["from"]["member"] == member) {
            return;
        }
        if self.overheard.len() == REMEMBERED {
            self.overheard.pop_front();
        }
        self.overheard.push_back((room, sealed));
    }

    fn an_overheard(&self, scene: &mut Scene) -> Option<(usize, Sealed)> {
        let number = self.overheard.len();
        if number == 0 { None } else { self.overheard.get(scene.random.below(number)).cloned() }
    }

    /// Takes a key that its session has not used in this room: a used one would be a reason to refuse it.
    fn takes(&mut self, room: usize, key: &str) -> bool {
        !key.starts_with(&format!("{}-", self.name())) && self.taken.insert((room, key.to_owned()))
    }

    /// Replays another client's sealed body: as a message of its own, over HTTP, or as a signal; in that room, or in
    /// another one.
    pub(super) fn replay(&mut self, room: Option<usize>, scene: &mut Scene) {
        let Some((of, sealed)) = self.an_overheard(scene) else { return };
        let room = if scene.random.below(4) == 0 { room.unwrap_or(of) } else { of };
        let Some(replay) = Replay::of(room, &sealed, scene) else { return };
        let text = sealed.spelt(&mut scene.random);
        match scene.random.below(3) {
            0 => self.publish_again(replay, &sealed.key, text, scene),
            1 if self.is_in(room) => {
                scene.signals.say_again(room, replay.body, replay.kept.map(|kept| kept.seq));
                let id = self.ask(Asked::Signal { signal: None, replay: Some(replay) }, scene);
                self.say(&format!("{{\"type\":\"signal\",\"id\":{id},\"room\":\"r{room}\",\"body\":{text}}}"), scene);
            }
            _ if self.is_in(room) && self.takes(room, &sealed.key) => {
                let id = self.ask(Asked::Replay(replay), scene);
                let key = &sealed.key;
                let text =
                    format!("{{\"type\":\"send\",\"id\":{id},\"room\":\"r{room}\",\"key\":\"{key}\",\"body\":{text}}}");
                self.say(&text, scene);
            }
            _ => {}
        }
    }

    /// Sends a message of its own under a `k` that another client has used or will use.
    pub(super) fn squat(&mut self, room: Option<usize>, scene: &mut Scene) {
        let Some(room) = room else { return };
        if self.outbox.len() >= usize::from(scene.mix.limits.in_flight).min(16) {
            return;
        }
        let heard = self.an_overheard(scene).filter(|_| scene.random.coin()).filter(|(of, _)| *of == room);
        let body = scene.model.new_body();
        let key = match heard {
            Some((_, sealed)) => sealed.key,
            None => Client::sealed_key(scene.random.below(scene.mix.clients), body + 1),
        };
        if !self.takes(room, &key) {
            return;
        }
        scene.tally.squats += 1;
        let text = self.seal(body, key.clone(), scene);
        scene.model.write(body, &text);
        self.outbox.push(Draft { room, key: Some(key), body, text, is_open: false, due: scene.now, tries: 0 });
    }

    /// Sends a body that no server accepts.
    pub(super) fn send_faulty(&mut self, room: Option<usize>, scene: &mut Scene) {
        let Some(room) = room else { return };
        let body = scene.model.body_for_nobody();
        let key = Client::sealed_key(self.called, body);
        let sealed = Sealed::draw(About::Message(body), key.clone(), 300, &mut scene.random);
        let is_only = scene.mix.encryption.takes_only(room);
        let (other, plain) = (format!("{key}-other"), format!("\"{body}:plain\""));
        let (key, code, text) = match scene.random.below(if is_only { 5 } else { 3 }) {
            0 => (Some(other), "bad_field", sealed.text()),
            1 => (None, "bad_field", sealed.text()),
            2 => (Some(key), "bad_field", sealed.not_canonical()),
            3 => (Some(key), "not_encrypted", sealed.text().replacen(":2", ":3", 1)),
            _ => (Some(key), "not_encrypted", plain.clone()),
        };
        if scene.random.below(3) == 0 {
            return self.publish_faulty(room, code, key.as_deref(), &text, scene);
        }
        let id = self.ask(Asked::Faulty { code }, scene);
        let field = key.map(|key| format!(",\"key\":\"{key}\"")).unwrap_or_default();
        let text = match (code, scene.random.below(3)) {
            ("not_encrypted", 0) => {
                format!("{{\"type\":\"signal\",\"id\":{id},\"room\":\"r{room}\",\"body\":{plain}}}")
            }
            _ => format!("{{\"type\":\"send\",\"id\":{id},\"room\":\"r{room}\"{field},\"body\":{text}}}"),
        };
        self.say(&text, scene);
    }

    /// Checks, once nothing that it sent is with the store, that each signal was heard or refused.
    pub(super) fn settle_signals(&mut self, scene: &mut Scene) -> Checked {
        let is_signal = |asked: &Asked| matches!(asked, Asked::Signal { .. });
        let done: Vec<u64> = self.asked.iter().filter(|(_, r)| is_signal(&r.what)).map(|(id, _)| *id).collect();
        for id in done {
            match self.asked.remove(&id).map(|request| request.what) {
                Some(Asked::Signal { replay: Some(replay), .. }) if replay.must_fail(scene) => {
                    return violation(CHECKER, format!("a signal of {replay:?} was not refused"));
                }
                Some(Asked::Signal { signal: Some(signal), .. }) => scene.signals.obeyed(signal, scene.now),
                _ => {}
            }
        }
        Ok(())
    }

    /// Judges a refusal because the room has the very same message. The log may have lost the first copy after another
    /// client heard it, and that client was quicker to send it again; or the key is older than keys are kept.
    pub(super) fn forestalled(&mut self, body: u64, told: &Value, scene: &mut Scene) -> Checked {
        let Some(index) = self.outbox.iter().position(|draft| draft.body == body) else { return Ok(()) };
        let draft = self.outbox.remove(index);
        let is_own = |seq: u64| self.member().is_some_and(|member| scene.model.is_by(draft.room, seq, member));
        let is_excused = |seq: u64| !is_own(seq) || scene.model.may_forget_the_key_of(draft.room, seq);
        if told["field"] == "body" && scene.model.last(draft.room, body).is_some_and(is_excused) {
            return Ok(());
        }
        violation(CHECKER, format!("c{} said body {body} once, and was refused: {told}", self.index))
    }

    fn publish_again(&mut self, replay: Replay, key: &str, text: String, scene: &mut Scene) {
        let path = format!("/rooms/r{}/messages?name={}", replay.room, self.name());
        let request = wire::request("POST", &path, Some(key), &text);
        self.start_replay(replay, text, request, scene);
    }
}
