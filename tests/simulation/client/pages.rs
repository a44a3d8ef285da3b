//! Checks that a page of history is complete: it begins and ends where the request says, has no hole, is as long as it
//! may be, and is right about what lies beyond it.

use serde_json::Value;

use super::super::agenda::Micros;
use super::super::scene::{Checked, Scene, violation};
use super::hears::said;

const CHECKER: &str = "2: a page of history is whole";

/// Bytes of a message in a page beside body and name, as the server counts them.
const ENVELOPE: u64 = 140;

/// A request for a page.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub room: usize,
    pub limit: u64,
    pub span: Span,
    /// The oldest and the last seq at the time of the request.
    oldest: u64,
    head: u64,
    /// The time of the request, and the start of the server that got it.
    since: Micros,
    run: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Span {
    Newest,
    Before(u64),
    After(u64),
}

impl Wanted {
    /// Draws a request for a page of this room.
    pub fn draw(room: usize, scene: &mut Scene) -> Wanted {
        let limit = scene.random.within((1, 60));
        let head = scene.model.head(room);
        let beyond = if scene.random.below(8) == 0 { scene.random.magnitude((1, 1000)) } else { 0 };
        let place = scene.random.within((0, head + 1)) + beyond;
        let span = *scene.random.pick(&[Span::Newest, Span::Before(place), Span::After(place)]);
        Wanted { room, limit, span, oldest: scene.model.rooms[room].oldest, head, since: scene.now, run: scene.run }
    }

    /// Judges the answer.
    pub fn judge(&self, link: usize, told: &Value, scene: &mut Scene) -> Checked {
        scene.tally.pages += 1;
        let fault = |what: String| violation(CHECKER, format!("{what}; {self:?}: {told}"));
        let (Some(messages), Some(oldest), Some(more)) =
            (told["messages"].as_array(), told["oldest"].as_u64(), told["more"].as_bool())
        else {
            return fault("it lacks something".into());
        };
        if messages.len() as u64 > self.limit {
            return fault(format!("{} messages", messages.len()));
        }
        if !scene.is_of_this_epoch(link) {
            return Ok(());
        }
        let mut next = None;
        for message in messages {
            let (seq, ..) = said(message);
            if next.is_some_and(|next| next != seq) {
                return fault(format!("a hole before {seq}"));
            }
            next = Some(seq + 1);
            scene.model.heard(self.room, message)?;
        }
        if scene.links.get(link).run != self.run {
            // The server has restarted since the request, and may have another log.
            return Ok(());
        }
        let (oldest_now, head_now) = (scene.model.rooms[self.room].oldest, scene.model.head(self.room));
        if !(self.oldest..=oldest_now).contains(&oldest) {
            return fault(format!("the oldest was {} and is {oldest_now}", self.oldest));
        }
        let head = told["head"].as_u64().map_or((self.head, head_now), |head| (head, head));
        if head.0 < self.head || head.1 > head_now {
            return fault(format!("the head was {} and is {head_now}", self.head));
        }
        let ends = next.map(|next| (next - messages.len() as u64, next - 1));
        self.judge_ends(ends, oldest, head, more).or_else(fault)?;
        match ends.filter(|_| more && (messages.len() as u64) < self.limit) {
            Some(ends) => {
                self.judge_length(ends, scene).or_else(|what| violation(CHECKER, format!("{what}; {self:?}")))
            }
            None => Ok(()),
        }
    }

    /// Judges the ends of a page. `ends`: its first and last seq; the head lay within `head` when it was read.
    fn judge_ends(&self, ends: Option<(u64, u64)>, oldest: u64, head: (u64, u64), more: bool) -> Result<(), String> {
        // The last seq that it might hold, at least and at most.
        let last = match self.span {
            Span::Before(place) => (head.0.min(place.saturating_sub(1)), head.1.min(place.saturating_sub(1))),
            Span::Newest | Span::After(_) => head,
        };
        let least = if let Span::After(place) = self.span { oldest.max(place + 1) } else { oldest };
        let Some((begin, end)) = ends else {
            let is_empty = last.0 < least;
            return if is_empty && !more {
                Ok(())
            } else {
                Err(format!("nothing, more: {more}, of {least} to {last:?}"))
            };
        };
        match self.span {
            Span::After(_) => {
                if begin != least || end > last.1 {
                    return Err(format!("from {begin} to {end}, where {least} to {last:?} are there"));
                }
                if (more && end >= last.1) || (!more && end < last.0) {
                    return Err(format!("more: {more} behind {end}, and the head is {head:?}"));
                }
            }
            Span::Before(_) | Span::Newest => {
                if !(last.0..=last.1).contains(&end) || begin < oldest {
                    return Err(format!("from {begin} to {end}, where {oldest} to {last:?} are there"));
                }
                if more != (begin > oldest) {
                    return Err(format!("more: {more} before {begin}, and the oldest is {oldest}"));
                }
            }
        }
        Ok(())
    }

    /// Checks a page that is shorter than requested: one more message would not have fitted.
    fn judge_length(&self, (begin, end): (u64, u64), scene: &Scene) -> Result<(), String> {
        let other = if let Span::After(_) = self.span { end + 1 } else { begin - 1 };
        let model = &scene.model;
        let bytes: u64 = (begin..=end).chain([other]).map(|seq| model.bytes(self.room, seq) + ENVELOPE).sum();
        let most = scene.limits.least(self.since, |limits| limits.page_bytes) as u64;
        if bytes > most {
            return Ok(());
        }
        Err(format!("{begin} to {end} are {} messages, and {other} fits: {bytes} of {most} bytes", end + 1 - begin))
    }
}
