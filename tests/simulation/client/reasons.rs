//! What the server may refuse, and why it may close: each refusal and each close needs a cause that was seen.

use racerd::types::SessionId;

use super::super::scene::Scene;
use super::super::witness::Presented;
use super::{Asked, Client, Faults, Phase, Request};

/// The checker of both.
pub const REASONS: &str = "protocol: a refusal and a close have a reason";

/// The server's time for the head of a request, in milliseconds.
pub const HEADER_TIMEOUT: u64 = 10_000;

/// Says what was not seen.
fn unless(is_so: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(what()) }
}

impl Client {
    /// The server refused a request with this code. Had it a reason?
    pub(super) fn may_refuse(
        &self,
        (link, id): (usize, Option<u64>),
        request: &Request,
        code: &str,
        scene: &Scene,
    ) -> Result<(), String> {
        let room = |room: usize| &scene.model.rooms[room].id;
        match (code, &request.what) {
            ("rate_limited", _) => self.may_be_rated(scene),
            ("storage_unavailable", Asked::Join { room: of }) => {
                unless(scene.witness.was_unread(room(*of), request.since), || "no read of the room has failed".into())
            }
            ("storage_unavailable", _) => {
                unless(scene.witness.has_failed(link, id), || "the store has failed nothing of it".into())
            }
            ("not_joined", _) => unless(!request.was_in_room, || "it was in the room when it asked".into()),
            ("too_many_rooms", _) => self.may_be_too_many(scene),
            ("already_joined", _) => {
                unless(self.resumed_on == Some(link), || "its session began on this socket, without rooms".into())
            }
            ("not_resumable", Asked::Resume { presented, .. }) => {
                let park_for = scene.mix.limits.park_for;
                scene.witness.may_refuse(presented, self.is_private(link, scene), park_for, &scene.links)
            }
            _ => Ok(()),
        }
    }

    /// The server took a token. Was that right?
    pub(super) fn may_resume(&self, link: usize, presented: &Presented, scene: &mut Scene) -> Result<(), String> {
        let park_for = scene.mix.limits.park_for;
        scene.witness.may_accept(presented, self.is_private(link, scene), park_for)
    }

    /// More requests were made than may come at once.
    pub(super) fn may_be_rated(&self, scene: &Scene) -> Result<(), String> {
        let limits = &scene.mix.limits;
        let is_over = limits.request_rate > 0 && self.said > u64::from(limits.burst());
        unless(is_over, || format!("{} requests, of which {} may come at once", self.said, limits.burst()))
    }

    /// It may be in no more rooms: those that it knows of, and those that it lost count of with a link.
    pub(super) fn may_be_too_many(&self, scene: &Scene) -> Result<(), String> {
        let most = scene.mix.limits.rooms_per_session;
        let known = self.rooms.len() + self.unsure_rooms;
        unless(known >= most, || format!("{known} rooms, of at most {most}"))
    }

    /// The server closed a socket of this client with this code. Had it a reason?
    pub(super) fn may_close(&self, link: usize, code: Option<u16>, scene: &Scene) -> Result<(), String> {
        let limits = &scene.mix.limits;
        let (_, silence, _) = scene.links.get(link).trials(scene.witness.mono);
        match code {
            Some(1001) => unless(scene.witness.is_stopping, || "the server does not stop".into()),
            Some(1008) => {
                // The close drops what a socket has not taken, refusals among it; of one that took all, all were heard.
                let unheard = self.asked.len() as u64 + u64::from(self.nonsense);
                let faults = match self.old_faults.get(&link) {
                    Some(most) => *most,
                    None => self.faults.count + if scene.links.get(link).was_full { unheard } else { 0 },
                };
                let is_spoilt = faults == u64::MAX;
                let is_over = limits.error_budget > 0 && faults > u64::from(limits.error_budget);
                unless(is_over || is_spoilt, || {
                    format!("{faults} faulty requests at most, of {} a minute", limits.error_budget)
                })
            }
            Some(4001) => {
                // It may have been given its session without having heard so.
                let here = self.shown.iter().filter(|(at, _)| *at == link).filter_map(|(_, of)| of.as_ref());
                let mut here = here.chain(self.sessions.get(&link));
                let shows = |session: &SessionId| {
                    self.shown.iter().any(|(at, of)| *at != link && of.is_none_or(|of| of == *session))
                };
                let is_elsewhere = here.any(shows);
                unless(is_elsewhere, || "nobody has shown its token elsewhere".into())
            }
            Some(4002) => unless(silence >= limits.pong_wait, || {
                format!("it was silent for {silence} ms, and may be for {}", limits.pong_wait)
            }),
            Some(4004) => {
                unless(scene.witness.was_too_slow(link), || "nothing waited for it when it was closed".into())
            }
            _ => Err("no server closes with that".into()),
        }
    }

    /// It heard that a request was faulty.
    pub(super) fn counts_fault(&mut self, scene: &Scene) {
        self.faults.count += 1;
        self.faults.since.get_or_insert(scene.witness.mono);
    }

    /// Were so many of its requests faulty that the server had to close? At rest it has.
    pub(super) fn has_too_many_faults(&self, scene: &Scene) -> bool {
        let budget = u64::from(scene.mix.limits.error_budget);
        let Faults { count, since } = self.faults;
        // As many are free again as the time brings, by the server's clock; the first may be older than its hearing.
        let elapsed = scene.witness.mono - since.unwrap_or(scene.witness.mono);
        let latency = 2 * (scene.mix.network.latency.1 + scene.mix.server.turn) * scene.mix.server.speed / 1_000_000;
        budget > 0 && count > budget + 2 + (elapsed + latency + 1000) * budget / 60_000
    }

    /// The close that the server answered its own with.
    pub(super) fn is_answer_to_its_close(&self, code: Option<u16>) -> bool {
        matches!(self.phase, Phase::Closing { .. }) && self.closed_with == Some(code)
    }

    /// An upgrade was refused with this status. Had it a reason?
    pub(super) fn may_turn_away(link: usize, status: u16, scene: &Scene) -> Result<(), String> {
        if scene.links.get(link).run != scene.run {
            // It was said by a server that is no more.
            return Ok(());
        }
        let limits = &scene.mix.limits;
        let (open, ..) = scene.links.get(link).trials(scene.witness.mono);
        match status {
            429 => {
                unless(limits.handshake_rate > 0 || limits.connections_per_address > 0, || "there are no limits".into())
            }
            503 => unless(scene.witness.is_stopping || scene.witness.has_failed(link, None), || {
                "the server does not stop, and the store has failed nothing of it".into()
            }),
            408 => unless(open >= HEADER_TIMEOUT, || format!("the link is open for {open} ms")),
            _ => Err("no server answers so".into()),
        }
    }
}
