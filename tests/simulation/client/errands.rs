//! A client's requests over HTTP, each on a link of its own: it publishes, and repeats that under the same key until it
//! knows the outcome; it reads pages of history.

use serde_json::Value;

use super::super::agenda::{MILLISECOND, Micros, SECOND};
use super::super::bodies;
use super::super::making::Makers;
use super::super::scene::{Checked, Scene, violation};
use super::super::wire::{self, Reader, Said};
use super::Client;
use super::hears::judge_list;
use super::pages::{Span, Wanted};
use super::reasons::REASONS;
use super::sealed::Replay;

/// A message to be published.
pub struct Post {
    room: usize,
    key: Option<String>,
    body: u64,
    text: String,
    due: Micros,
    is_open: bool,
}

/// One request on its link.
pub struct Errand {
    reader: Reader,
    kind: Kind,
    since: Micros,
    is_answered: bool,
}

impl Errand {
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Returns whether it reads a page.
    pub fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Browse { .. })
    }
}

enum Kind {
    /// Asks for a room's members, when the server's clock stood at `mono`.
    Members {
        room: usize,
        mono: u64,
    },
    Post {
        body: u64,
    },
    Browse {
        wanted: Wanted,
    },
    /// Another client's sealed body, in this text.
    Replay {
        replay: Replay,
        text: String,
    },
    /// A body that must be refused with this code.
    Faulty {
        code: &'static str,
    },
}

/// The longest time that it waits for an answer.
const PATIENCE: Micros = 15 * SECOND;

impl Client {
    pub(super) fn write_post(&mut self, scene: &mut Scene) {
        if self.posts.len() < 3 {
            let room = scene.random.below(scene.mix.rooms);
            self.publish(room, scene);
        }
    }

    /// Publishes a message in this room.
    pub fn publish(&mut self, room: usize, scene: &mut Scene) {
        let body = scene.model.new_body();
        // All publishers share one scope of keys, so a key is long.
        let key = |body| format!("a-key-of-everyone-{body:010}");
        let (key, text) = if scene.mix.encryption.is_next(room, &mut scene.random) {
            (Some(key(body)), self.seal(body, key(body), scene))
        } else {
            let key = (!scene.random.chance(scene.mix.habits.keyless)).then(|| key(body));
            let most = scene.mix.limits.max_message;
            (key, bodies::draw(body, self.index, most, true, &mut scene.random))
        };
        scene.model.write(body, &text);
        self.posts.push(Post { room, key, body, text, due: scene.now, is_open: false });
    }

    pub(super) fn browse(&mut self, scene: &mut Scene) {
        let room = scene.random.below(scene.mix.rooms);
        let wanted = Wanted::draw(room, scene);
        let limit = wanted.limit;
        let span = match wanted.span {
            Span::Newest => String::new(),
            Span::Before(place) => format!("&before={place}"),
            Span::After(place) => format!("&after={place}"),
        };
        let path = format!("/rooms/r{room}/messages?limit={limit}{span}");
        self.start_errand(Kind::Browse { wanted }, wire::request("GET", &path, None, ""), scene);
    }

    pub(super) fn start_replay(&mut self, replay: Replay, text: String, request: Vec<u8>, scene: &mut Scene) {
        self.start_errand(Kind::Replay { replay, text }, request, scene);
    }

    /// Publishes a body that no server accepts.
    pub(super) fn publish_faulty(
        &mut self,
        room: usize,
        code: &'static str,
        key: Option<&str>,
        text: &str,
        scene: &mut Scene,
    ) {
        let request = wire::request("POST", &format!("/rooms/r{room}/messages"), key, text);
        self.start_errand(Kind::Faulty { code }, request, scene);
    }

    pub(super) fn ask_who_is_here(&mut self, scene: &mut Scene) {
        let room = scene.random.below(scene.mix.rooms);
        let kind = Kind::Members { room, mono: scene.witness.mono };
        let request = wire::request("GET", &format!("/rooms/r{room}/members"), None, "");
        self.start_errand(kind, request, scene);
    }

    fn start_errand(&mut self, kind: Kind, request: Vec<u8>, scene: &mut Scene) {
        let secure = scene.is_next_secure();
        let link = scene.open_link(self.index, secure);
        scene.client_writes(link, &request);
        self.errands.insert(link, Errand { reader: Reader::default(), kind, since: scene.now, is_answered: false });
    }

    /// Sends what is to be published, and gives up requests that take too long.
    pub(super) fn run_errands(&mut self, scene: &mut Scene) {
        let late: Vec<usize> = self
            .errands
            .iter()
            .filter(|(_, errand)| !errand.is_answered && scene.now > errand.since + PATIENCE)
            .map(|(link, _)| *link)
            .collect();
        for link in late {
            scene.client_resets(link);
            self.errand_over(link, scene);
        }
        for index in 0..self.posts.len() {
            let post = &mut self.posts[index];
            if post.is_open || post.due > scene.now {
                continue;
            }
            post.is_open = true;
            scene.tally.posts += 1;
            let (room, body) = (post.room, post.body);
            let path = format!("/rooms/r{room}/messages?name=c{}", self.index);
            let request = wire::request("POST", &path, post.key.as_deref(), &post.text);
            scene.trace.line(scene.now, format_args!("c{}", self.index), || format!("posts body {body} to r{room}"));
            self.start_errand(Kind::Post { body }, request, scene);
        }
    }

    pub(super) fn errand_bytes(&mut self, link: usize, scene: &mut Scene) -> Checked {
        let bytes = scene.client_reads(link, usize::MAX);
        let Some(errand) = self.errands.get_mut(&link) else { return Ok(()) };
        errand.reader.push(&bytes);
        let said = match errand.reader.next() {
            Ok(said) => said,
            Err(fault) => return violation("wire", fault),
        };
        if let Some(said) = said {
            let Said::Response { status, retry_after, body } = said else {
                return violation("wire", "a frame on a link that speaks HTTP");
            };
            let is_second = std::mem::replace(&mut errand.is_answered, true);
            if is_second && status != 408 {
                return violation("wire", format!("a second answer, {status}, to one request"));
            }
            self.answered(link, status, retry_after, &body, scene)?;
            if scene.random.coin() {
                scene.client_closes(link);
                self.errands.remove(&link);
            }
        }
        if scene.links.get(link).has_ended() && self.errands.contains_key(&link) {
            scene.client_closes(link);
            self.errand_over(link, scene);
        }
        Ok(())
    }

    /// Handles the loss of the link, and perhaps of an answer with it.
    pub(super) fn errand_over(&mut self, link: usize, scene: &mut Scene) {
        let Some(Errand { kind, is_answered, .. }) = self.errands.remove(&link) else { return };
        if let (Kind::Post { body }, false) = (kind, is_answered) {
            self.post_failed(body, SECOND, scene);
        }
    }

    /// Handles a refusal because the room has the very same message: see [`Client::forestalled`].
    fn post_forestalled(&mut self, body: u64, told: &Value, scene: &mut Scene) -> Checked {
        let Some(index) = self.posts.iter().position(|post| post.body == body) else { return Ok(()) };
        let Post { room, text, .. } = self.posts.remove(index);
        match scene.model.last(room, body) {
            Some(seq) if !scene.model.is_published(room, seq, &text) => Ok(()),
            Some(seq) if scene.model.may_forget_the_key_of(room, seq) => Ok(()),
            _ if scene.model.is_published_otherwise(room, &text) => Ok(()),
            _ => violation(REASONS, format!("body {body} was published once, and was refused: {told}")),
        }
    }

    /// Sends a post again if it has a key; the fate of one without a key is unknown.
    fn post_failed(&mut self, body: u64, wait: Micros, scene: &mut Scene) {
        let due = scene.now + scene.random.within((MILLISECOND, wait));
        self.posts.retain(|post| post.body != body || post.key.is_some());
        if let Some(post) = self.posts.iter_mut().find(|post| post.body == body) {
            post.is_open = false;
            post.due = due;
        }
    }

    fn answered(
        &mut self,
        link: usize,
        status: u16,
        retry_after: Option<u64>,
        text: &str,
        scene: &mut Scene,
    ) -> Checked {
        scene.judge_excess(link, status, text)?;
        let Some(errand) = self.errands.get(&link) else { return Ok(()) };
        let told: Value = serde_json::from_str(text).unwrap_or_default();
        scene.trace.line(scene.now, format_args!("c{}", self.index), || format!("is answered {status} on link {link}"));
        let is_told = matches!(status, 200 | 201 | 403 | 422);
        if is_told && scene.is_too_open(link) != (status == 403 && told["code"] == "sealed_only") {
            return violation("private: nothing is told in the clear", format!("{status} on link {link}: {text}"));
        }
        match (&errand.kind, status) {
            (kind, 403) => {
                scene.tally.kept_out += 1;
                let Kind::Post { body } = *kind else { return Ok(()) };
                if let Some(post) = self.posts.iter_mut().find(|post| post.body == body) {
                    (post.is_open, post.due) = (false, scene.now + SECOND);
                }
                Ok(())
            }
            (Kind::Members { room, mono }, 200) => {
                scene.tally.lists_over_http += 1;
                judge_list(link, *room, *mono, &told, None, scene)
            }
            (Kind::Post { body }, 200 | 201) => {
                let body = *body;
                let Some(index) = self.posts.iter().position(|post| post.body == body) else { return Ok(()) };
                let post = self.posts.remove(index);
                let (Some(seq), Some(at)) = (told["seq"].as_u64(), told["at"].as_u64()) else {
                    return violation("wire", format!("an answer that lacks something: {text}"));
                };
                scene.tally.acks += 1;
                scene.tally.duplicates += u64::from(status == 200);
                if scene.is_of_this_epoch(link) { scene.model.acknowledged(post.room, seq, at, body) } else { Ok(()) }
            }
            (Kind::Browse { wanted }, 200) => wanted.judge(link, &told, scene),
            (Kind::Replay { replay, text }, 200 | 201) => {
                let (seq, at) = (told["seq"].as_u64().unwrap_or(0), told["at"].as_u64().unwrap_or(0));
                replay.judge_taken((link, seq), status == 200, Some(text), scene)?;
                let Replay { room, body, .. } = *replay;
                if scene.is_of_this_epoch(link) { scene.model.acknowledged(room, seq, at, body) } else { Ok(()) }
            }
            (Kind::Replay { replay, text }, 422) if told["code"] == "key_reused" => {
                replay.judge_refusal(link, &told["field"], Some(text), scene)
            }
            (Kind::Faulty { code }, 422) if told["code"] == *code => {
                scene.tally.faulty_bodies += 1;
                Ok(())
            }
            (Kind::Post { body }, 422) if told["code"] == "key_reused" => {
                let body = *body;
                self.post_forestalled(body, &told, scene)
            }
            (kind, 408 | 429 | 503) => {
                let judged = match status == 429 && Makers::is_meant(text) && scene.is_of_this_run(link) {
                    true => scene.witness.makers.may_refuse(self.index, (link, None), errand.since),
                    false => Client::may_turn_away(link, status, scene),
                };
                if let Err(fault) = judged {
                    return violation(REASONS, format!("status {status}: {fault}"));
                }
                if status != 503 {
                    scene.tally.turned_away += 1;
                }
                if let Kind::Post { body } = kind {
                    let body = *body;
                    self.post_failed(body, retry_after.unwrap_or(1).max(1) * SECOND, scene);
                }
                Ok(())
            }
            _ => violation("wire", format!("status {status} for a request that is in order: {text}")),
        }
    }
}
