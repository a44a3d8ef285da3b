//! The server's reasons for refusals and closes: each needs a cause that was observed.

use racerd::types::SessionId;
use serde_json::Value;

use super::super::agenda::Micros;
use super::super::limits::Limits;
use super::super::making::Makers;
use super::super::scene::Scene;
use super::super::witness::Presented;
use super::{Asked, Client, Faults, Phase, Request};

/// The checker of both.
pub const REASONS: &str = "protocol: a refusal and a close have a reason";

/// The server's time for the head of a request, in milliseconds.
pub const HEADER_TIMEOUT: u64 = 10_000;

/// Fails with a description of the cause that was not observed.
fn unless(is_so: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(what()) }
}

/// Returns whether a token bucket is empty for the last of `count` requests, each of which took `cost` microseconds at
/// most. The bucket gains one token per `interval`, and holds `burst`.
fn is_spent(count: u64, cost: u64, interval: u64, burst: u32) -> bool {
    interval > 0 && count.saturating_sub(1) * cost > interval * u64::from(burst.saturating_sub(1))
}

impl Client {
    /// Judges a refusal with this code.
    pub(super) fn may_refuse(
        &self,
        (link, id): (usize, Option<u64>),
        request: &Request,
        (code, told): (&str, &Value),
        scene: &Scene,
    ) -> Result<(), String> {
        let room = |room: usize| &scene.model.rooms[room].id;
        match (code, &request.what) {
            ("rate_limited", _) if Makers::is_meant(told["message"].as_str().unwrap_or_default()) => {
                scene.witness.makers.may_refuse(self.index, (link, id), request.since)
            }
            ("rate_limited", _) => self.may_be_rated(link, request.since, scene),
            ("storage_unavailable", Asked::Join { room: of }) => {
                unless(scene.witness.was_unread(room(*of), request.since), || "no read of the room has failed".into())
            }
            ("storage_unavailable", _) => {
                unless(scene.witness.has_failed(link, id), || "the store has failed nothing of it".into())
            }
            // It waited for the store, which looks for its ciphertext, and the client has left meanwhile.
            ("not_joined", Asked::Signal { replay: Some(replay), .. })
                if !self.is_in(replay.room) || self.leaves(replay.room) =>
            {
                Ok(())
            }
            ("not_joined", _) => unless(!request.was_in_room, || "it was in the room when it asked".into()),
            ("too_many_rooms", _) => self.may_be_too_many(request.since, scene),
            ("already_joined", _) => {
                unless(self.resumed_on == Some(link), || "its session began on this socket, without rooms".into())
            }
            ("not_resumable", Asked::Resume { presented, .. }) => {
                let park_for = scene.limits.least(request.since, |limits| limits.park_for);
                scene.witness.may_refuse(presented, self.is_private(link, scene), park_for, &scene.links, &scene.ends)
            }
            _ => Ok(()),
        }
    }

    /// Judges the acceptance of a token.
    pub(super) fn may_resume(&self, link: usize, presented: &Presented, scene: &mut Scene) -> Result<(), String> {
        let park_for = scene.limits.most(presented.at, |limits| limits.park_for);
        scene.witness.may_accept(presented, self.is_private(link, scene), park_for)
    }

    /// Checks that more requests were made than may come in a burst, by limits that held since then.
    pub(super) fn may_be_rated(&self, link: usize, since: Micros, scene: &Scene) -> Result<(), String> {
        let cost = scene.limits.most(scene.links.get(link).opened, |limits| limits.request_interval());
        let is_over = |limits: &Limits| is_spent(self.said, cost, limits.request_interval(), limits.burst());
        unless(scene.limits.since(since).any(is_over), || {
            format!("{} requests, of which {} may come at once", self.said, scene.mix.limits.burst())
        })
    }

    /// Checks that it may be in no more rooms, by limits that held since then. Counts the rooms that it knows of, and
    /// those that are uncertain since a link was lost.
    pub(super) fn may_be_too_many(&self, since: Micros, scene: &Scene) -> Result<(), String> {
        let most = scene.limits.least(since, |limits| limits.rooms_per_session);
        let known = self.rooms.len() + self.unsure_rooms;
        unless(known >= most, || format!("{known} rooms, of at most {most}"))
    }

    /// Judges the close of a socket of this client with this code.
    pub(super) fn may_close(&self, link: usize, code: Option<u16>, scene: &Scene) -> Result<(), String> {
        if !scene.is_of_this_run(link) {
            // The server that closed it is gone.
            return Ok(());
        }
        let opened = scene.links.get(link).opened;
        let (_, silence, _) = scene.links.get(link).trials(scene.witness.mono);
        let Some(closed_at) = scene.witness.closed_at(link) else {
            return Err("the server has not closed it".into());
        };
        let held = scene.limits.between(closed_at, closed_at);
        match code {
            Some(1001) => unless(scene.witness.is_stopping, || "the server does not stop".into()),
            Some(1008) => {
                // The close discards the queue of a socket, including refusals; a client that drained its socket heard
                // them all.
                let unheard = self.asked.len() as u64 + u64::from(self.nonsense);
                let faults = match self.old_faults.get(&link) {
                    Some(most) => *most,
                    None => self.faults.count + if scene.links.get(link).was_full { unheard } else { 0 },
                };
                let is_spoilt = faults == u64::MAX;
                let cost = scene.limits.most(opened, |limits| limits.error_interval());
                let is_over = |limits: &Limits| is_spent(faults, cost, limits.error_interval(), limits.error_budget);
                unless(is_spoilt || held.clone().any(is_over), || {
                    let budgets: Vec<u32> = held.map(|limits| limits.error_budget).collect();
                    format!("{faults} faulty requests at most, of {budgets:?} a minute")
                })
            }
            Some(1013) => unless(scene.witness.had_no_memory(link), || "there was memory".into()),
            Some(4001) => {
                // The server may have given it its session without its having heard so.
                let here = self.shown.iter().filter(|(at, _)| *at == link).filter_map(|(_, of)| of.as_ref());
                let mut here = here.chain(self.sessions.get(&link));
                let shows = |session: &SessionId| {
                    self.shown.iter().any(|(at, of)| *at != link && of.is_none_or(|of| of == *session))
                };
                let is_elsewhere = here.any(shows);
                unless(is_elsewhere, || "nobody has shown its token elsewhere".into())
            }
            Some(4002) => {
                let most = held.map(|limits| limits.pong_wait).min().unwrap_or_default();
                unless(silence >= most, || format!("it was silent for {silence} ms, and may be for {most}"))
            }
            Some(4004) => {
                unless(scene.witness.was_too_slow(link), || "nothing waited for it when it was closed".into())
            }
            _ => Err("no server closes with that".into()),
        }
    }

    /// Counts a request that was refused as faulty.
    pub(super) fn counts_fault(&mut self, scene: &Scene) {
        self.faults.count += 1;
        self.faults.since.get_or_insert(scene.witness.mono);
    }

    /// Returns whether its faulty requests were so numerous that the server had to close. At rest it must have done so.
    pub(super) fn has_too_many_faults(&self, scene: &Scene) -> bool {
        let Some(opened) = self.link.map(|link| scene.links.get(link).opened) else { return false };
        let cost = scene.limits.least(opened, |limits| limits.error_interval());
        let Faults { count, since } = self.faults;
        // The bucket refills with time, by the server's clock; the first fault may be older than when the client heard
        // of it.
        let elapsed = scene.witness.mono - since.unwrap_or(scene.witness.mono);
        let latency = 2 * (scene.mix.network.latency.1 + scene.mix.server.turn) * scene.mix.server.speed / 1_000_000;
        count.saturating_sub(2) * cost > (60_000 + elapsed + latency + 1000) * 1000
    }

    /// Returns whether the server's close answers the client's own.
    pub(super) fn is_answer_to_its_close(&self, code: Option<u16>) -> bool {
        matches!(self.phase, Phase::Closing { .. }) && self.closed_with == Some(code)
    }

    /// Judges the refusal of an upgrade with this status.
    pub(super) fn may_turn_away(link: usize, status: u16, scene: &Scene) -> Result<(), String> {
        if !scene.is_of_this_run(link) {
            // The server that said so is gone.
            return Ok(());
        }
        let (open, ..) = scene.links.get(link).trials(scene.witness.mono);
        let mut held = scene.limits.since(scene.links.get(link).opened);
        match status {
            429 => {
                let is_limited = held.any(|limits| {
                    limits.handshake_rate > 0 || limits.handshakes > 0 || limits.connections_per_address > 0
                });
                unless(is_limited, || "there are no limits".into())
            }
            // The reason for this was judged elsewhere.
            503 if scene.witness.is_excess(link) => Ok(()),
            503 => unless(scene.witness.is_stopping || scene.witness.has_failed(link, None), || {
                "the server does not stop, and the store has failed nothing of it".into()
            }),
            408 => unless(open >= HEADER_TIMEOUT, || format!("the link is open for {open} ms")),
            _ => Err("no server answers so".into()),
        }
    }
}
