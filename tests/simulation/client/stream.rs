//! A client's event stream of a room: judged like a member's messages. Each event's id is the client's cursor; when the
//! stream breaks, the client reconnects with the last id.

use serde_json::Value;

use super::super::agenda::{MILLISECOND, Micros, SECOND};
use super::super::scene::{Checked, Scene, violation};
use super::super::wire::{self, Reader, Said};
use super::reasons::REASONS;
use super::{Client, Start, View};

const CHECKER: &str = "2: an event stream is what members hear";

/// Silence after which the stream counts as broken: twice the longest time between two comments.
const QUIET: Micros = 120 * SECOND;

pub struct Stream {
    pub link: Option<usize>,
    /// The earliest time to open it.
    due: Micros,
    since: Micros,
    heard: Micros,
    pub view: View,
    reader: Reader,
    /// The head of the answer came; events follow.
    is_open: bool,
    text: Vec<u8>,
    /// The end of the gap that has to follow a `joined` which recovered only a part.
    owed_gap: Option<u64>,
}

impl Stream {
    pub fn new(room: usize) -> Stream {
        Stream {
            link: None,
            due: 0,
            since: 0,
            heard: 0,
            view: View::new(room, "off"),
            reader: Reader::default(),
            is_open: false,
            text: Vec::new(),
            owed_gap: None,
        }
    }

    /// Handles the loss of the link; the place in the room stays.
    fn breaks(&mut self, scene: &mut Scene, wait: Micros) {
        self.link = None;
        self.due = scene.now + scene.random.within((MILLISECOND, wait.max(2 * MILLISECOND)));
        (self.reader, self.text) = (Reader::default(), Vec::new());
        (self.is_open, self.owed_gap) = (false, None);
        self.view.detach();
    }

    fn open(&mut self, client: usize, scene: &mut Scene) {
        let view = &mut self.view;
        let room = view.room;
        view.asked = Some(None);
        let mut last_id = None;
        let query = if view.next > 0 {
            view.start = Start::Cursor;
            let (epoch, seq) = (&view.epoch, view.next - 1);
            if scene.random.coin() {
                format!("?after={seq}&epoch={epoch}")
            } else {
                last_id = Some(format!("{epoch}:{seq}"));
                // The id takes precedence.
                (if scene.random.coin() { "?last=1" } else { "" }).to_owned()
            }
        } else if scene.random.coin() {
            let last = scene.random.within((1, 60));
            view.start = Start::Last(last);
            format!("?last={last}")
        } else {
            view.start = Start::Now;
            String::new()
        };
        let secure = scene.is_next_secure();
        let link = scene.open_link(client, secure);
        scene.trace.line(scene.now, format_args!("c{client}"), || {
            format!("listens to r{room} on link {link}: {query} {last_id:?}")
        });
        let request = wire::events(&format!("/rooms/r{room}/events{query}"), last_id.as_deref());
        scene.client_writes(link, &request);
        (self.link, self.since, self.heard) = (Some(link), scene.now, scene.now);
        scene.tally.streams += 1;
    }

    /// Handles the complete events.
    fn hear(&mut self, link: usize, scene: &mut Scene) -> Checked {
        while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.text.drain(..end + 2).collect();
            let Ok(block) = String::from_utf8(block) else { return violation("wire", "an event that is no text") };
            let (mut id, mut kind, mut data) = (None, "message", None);
            for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
                match line.split_once(": ") {
                    Some(("id", value)) => id = Some(value),
                    Some(("event", value)) => kind = value,
                    Some(("data", value)) if data.is_none() => data = Some(value),
                    Some(("retry", _)) => {}
                    _ => return violation("wire", format!("no line of an event: {line}")),
                }
            }
            let Some(data) = data else { continue };
            let Ok(told) = serde_json::from_str::<Value>(data) else {
                return violation("wire", format!("an event that is not JSON: {data}"));
            };
            if told["type"] != kind {
                return violation(CHECKER, format!("an event of type {kind}: {told}"));
            }
            scene.tally.events += 1;
            self.event(link, id, kind, &told, scene)?;
        }
        Ok(())
    }

    fn event(&mut self, link: usize, id: Option<&str>, kind: &str, told: &Value, scene: &mut Scene) -> Checked {
        let view = &mut self.view;
        if kind != "bye" && told["room"] != *scene.model.rooms[view.room].id.as_str() {
            return violation(CHECKER, format!("a stream of r{}: {told}", view.room));
        }
        let (after, from) = (told["after"].as_u64().unwrap_or(u64::MAX), told["from"].as_u64().unwrap_or(0));
        let owed = self.owed_gap.take();
        let moves = match kind {
            "joined" => {
                view.joined(link, told, scene)?;
                self.owed_gap = (told["recovered"] == false).then_some(from);
                true
            }
            "gap" if owed.is_some() => {
                if owed != Some(from) || after >= from && from > 1 {
                    return violation(CHECKER, format!("no gap up to {owed:?}: {told}"));
                }
                scene.tally.stream_gaps += 1;
                false
            }
            "gap" => {
                view.gap(link, after, from, scene)?;
                scene.tally.stream_gaps += 1;
                true
            }
            "message" => {
                let (seq, at, _) = super::hears::said(told);
                view.message(seq, super::hears::readable(told).then_some(at), scene)?;
                scene.model.named(view.room, &view.epoch, told)?;
                if scene.is_of_this_epoch(link) {
                    scene.model.heard(view.room, told)?;
                }
                true
            }
            "signal" => {
                let oldest = scene.is_of_this_epoch(link).then(|| scene.model.rooms[view.room].oldest);
                scene.signals.heard((view.room, oldest), link, None, told)?;
                false
            }
            "lagging" => false,
            "bye" => {
                let is_present = scene.is_of_this_run(link);
                let room = &scene.model.rooms[view.room].id;
                let has_reason = match told["reason"].as_str() {
                    Some("shutdown") => scene.witness.is_stopping,
                    Some("storage_unavailable") => scene.witness.was_unread(room, self.since),
                    _ => false,
                };
                if is_present && !has_reason {
                    return violation(REASONS, format!("a stream ends: {told}"));
                }
                false
            }
            _ => return violation(CHECKER, format!("nothing that a stream says: {told}")),
        };
        if owed.is_some() && kind != "gap" && kind != "bye" {
            return violation(CHECKER, format!("a gap up to {owed:?} is not told: {told}"));
        }
        let place = moves.then(|| format!("{}:{}", view.epoch, view.next - 1));
        if id != place.as_deref() {
            return violation(CHECKER, format!("the id is {id:?}, and the client stands at {place:?}: {told}"));
        }
        Ok(())
    }
}

/// Returns whether the connection limit has room for a stream beside a socket and a request.
fn may_listen(scene: &Scene) -> bool {
    let connections = scene.mix.limits.connections_per_address;
    connections == 0 || connections > 3
}

impl Client {
    /// Begins or ends a stream of a room.
    pub(super) fn listen(&mut self, scene: &mut Scene) {
        if let Some(Stream { link, .. }) = &self.stream {
            if let Some(link) = link {
                scene.client_closes(*link);
            }
            self.stream = None;
        } else if may_listen(scene) {
            self.stream = Some(Stream::new(scene.random.below(scene.mix.rooms)));
        }
    }

    /// Opens its stream again after a break, and closes it in the end.
    pub(super) fn run_stream(&mut self, scene: &mut Scene) {
        let Some(stream) = &mut self.stream else { return };
        match stream.link {
            _ if self.is_leaving => self.listen(scene),
            // No more connections may come from its address.
            _ if !may_listen(scene) => self.listen(scene),
            None if scene.now >= stream.due => stream.open(self.index, scene),
            Some(link) if scene.now > stream.heard + QUIET => {
                scene.client_resets(link);
                stream.breaks(scene, SECOND);
            }
            _ => {}
        }
    }

    /// Returns whether this link carries its stream.
    pub(super) fn streams_on(&self, link: usize) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.link == Some(link))
    }

    pub(super) fn stream_bytes(&mut self, link: usize, scene: &mut Scene) -> Checked {
        let bytes = scene.client_reads(link, usize::MAX);
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.heard = scene.now;
        if stream.is_open {
            stream.text.extend(bytes);
        } else {
            stream.reader.push(&bytes);
            let said = stream.reader.next();
            if let Ok(Some(Said::Response { status, body, .. })) = &said {
                scene.judge_excess(link, *status, body)?;
            }
            match said {
                Ok(Some(Said::Response { status: status @ (200 | 403), .. }))
                    if scene.is_too_open(link) != (status == 403) =>
                {
                    let text = format!("status {status} for a stream on link {link}");
                    return violation("private: nothing is told in the clear", text);
                }
                Ok(Some(Said::Response { status: 403, .. })) => {
                    scene.tally.kept_out += 1;
                    scene.client_closes(link);
                    stream.breaks(scene, SECOND);
                    return Ok(());
                }
                Ok(Some(Said::Response { status: 200, .. })) => {
                    stream.is_open = true;
                    stream.text = stream.reader.take_rest();
                }
                Ok(Some(Said::Response { status: status @ (408 | 429 | 503), retry_after, .. })) => {
                    if let Err(fault) = Client::may_turn_away(link, status, scene) {
                        return violation(REASONS, format!("status {status}: {fault}"));
                    }
                    scene.tally.turned_away += 1;
                    scene.client_closes(link);
                    stream.breaks(scene, (retry_after.unwrap_or(0) + 1) * SECOND);
                    return Ok(());
                }
                Ok(None) => {}
                other => return violation("wire", format!("{other:?} where a stream was to begin")),
            }
        }
        stream.hear(link, scene)?;
        if scene.links.get(link).has_ended() {
            scene.client_closes(link);
            stream.breaks(scene, 3 * SECOND);
        }
        Ok(())
    }

    pub(super) fn stream_lost(&mut self, scene: &mut Scene) {
        if let Some(stream) = &mut self.stream {
            stream.breaks(scene, 3 * SECOND);
        }
    }

    /// Checks at rest that the stream has begun and has delivered everything.
    pub(super) fn judge_stream(&self, scene: &mut Scene) -> Checked {
        let Some(Stream { link: Some(link), view, is_open, .. }) = &self.stream else { return Ok(()) };
        if !scene.is_link_at_rest(*link) || scene.is_room_at_work(view.room) {
            return Ok(());
        }
        scene.tally.rests += 1;
        let head = scene.witness.head(&scene.model.rooms[view.room].id);
        if *is_open && view.is_joined && view.next > head {
            return Ok(());
        }
        let state = (is_open, view.is_joined, view.next);
        let text = format!(
            "c{} hears r{} up to {head} by a stream: {state:?}, and nothing is under way",
            self.index, view.room
        );
        violation("6: nothing is owed at rest", text)
    }
}
