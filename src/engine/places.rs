//! The places for connections: who may have one when few are free, and who gives one up when none is.

use core::cmp::Reverse;
use core::net::IpAddr;

use super::returns::{Gate, SessionMark};
use super::{Connections, Output};
use crate::types::{ConnId, Millis};

/// An address (IPv6: a /48) may have more than this part of all places only while as many are free.
const PART: usize = 4;
/// The part of all places that is kept for clients that come back with a token, at most [`MOST_KEPT`].
const KEPT: usize = 16;
const MOST_KEPT: usize = 64;
/// An address with so many connections, or more than [`PART`] of the kept places, gets none of these.
const LEAST_PART: usize = 4;
/// The number of places below which none is kept: it would be missed more than it helps.
const FEW: usize = 64;
/// An HTTP connection gives up its place only once it has been idle for this long, in milliseconds: whoever has just
/// connected is about to ask.
const IDLE: u64 = 1000;
/// A TLS connection that has begun its handshake has this part of `header_timeout` for it before it counts as idle: on
/// a slow line, its three round trips take seconds, and nothing of it is seen here meanwhile. The rest is for its
/// request.
const HANDSHAKE_PART: u64 = 2;
/// Milliseconds between two searches for idle connections, which look at all of them, and how many one finds at most.
const SEARCH_EVERY: u64 = 100;
const FOUND: usize = 256;

/// How many of `most` places are kept for clients that come back.
pub fn kept_places(most: usize) -> usize {
    if most < FEW { 0 } else { (most / KEPT).min(MOST_KEPT) }
}

/// The places for connections, and those who might give one up.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// `None` where somebody else bounds connections.
    most: Option<usize>,
    /// Connections beyond the limit, which have no place.
    pub excess: usize,
    /// Idle connections, the first to go last.
    idle: Vec<ConnId>,
    searched_at: Option<Millis>,
}

impl Connections {
    /// Sets how many connections there may be; `None`: no more than there are.
    pub fn set_places(&mut self, most: Option<usize>) {
        self.places.most = Some(most.unwrap_or_else(|| self.with_a_place()));
    }

    /// Returns the number of connections that have a place.
    fn with_a_place(&self) -> usize {
        self.count().saturating_sub(self.places.excess)
    }

    fn free_places(&self) -> Option<usize> {
        self.places.most.map(|most| most.saturating_sub(self.with_a_place()))
    }

    /// Returns whether there is a place for anybody. The edge may take a connection for one in excess that came
    /// together with others, who were not let in.
    pub(super) fn has_place(&self) -> bool {
        self.places.most.zip(self.free_places()).is_some_and(|(most, free)| free > kept_places(most))
    }

    /// Returns how many connections one address may have now, if few places are free.
    pub(super) fn part_of_places(&self) -> Option<usize> {
        let part = (self.places.most? / PART).max(1);
        (self.free_places()? <= part).then_some(part)
    }

    /// Returns whether so few places are free that nobody's refusal may take one.
    pub(super) fn is_tight(&self) -> bool {
        self.part_of_places().zip(self.free_places()).is_some_and(|(part, free)| free <= part / 2)
    }

    /// Gives a connection in excess one of the places that are kept for clients that come back, if one is free, and
    /// if it does with the token of this session.
    pub fn keep(&mut self, id: ConnId, session: SessionMark) -> bool {
        let is_free = self.free_places().is_some_and(|free| free > 0);
        if !is_free || self.has_its_part_of_kept(id) || !self.comes_back(id, session) {
            return false;
        }
        let has_place = self.get_mut(id).is_some_and(|connection| connection.keep());
        if has_place {
            self.places.excess -= 1;
            self.came_back(id, Some(session), Gate::Past);
            self.push_output(Output::Keep(id));
        }
        has_place
    }

    /// Returns whether the address of this connection has so many that the rest of the kept places is for others.
    /// Tokens are free to get.
    fn has_its_part_of_kept(&self, id: ConnId) -> bool {
        let kept = kept_places(self.places.most.unwrap_or_default());
        let has = self.get(id).map_or(0, |connection| self.admission.connections_of(connection.peer.asker()));
        has as usize > (kept / PART).max(LEAST_PART)
    }

    /// Returns the connection that is to give up its place to a newcomer of this address: an idle one of the address
    /// (IPv6: the /48) that has most, and more than that of the newcomer. No more than a few searches a second look at
    /// all connections.
    pub(super) fn next_idle(&mut self, newcomer: IpAddr) -> Option<ConnId> {
        if self.places.most.is_none() || self.has_place() {
            return None;
        }
        if self.admission.may_connect(newcomer, self.part_of_places()).is_err() {
            return None;
        }
        let now = self.now.mono;
        let had = self.admission.connections_of(newcomer);
        loop {
            let Some(id) = self.places.idle.pop() else {
                if self.places.searched_at.is_some_and(|at| now < at.after(SEARCH_EVERY)) {
                    return None;
                }
                self.places.searched_at = Some(now);
                self.search_idle();
                if self.places.idle.is_empty() {
                    return None;
                }
                continue;
            };
            let Some((has, _)) = self.idle_of(id) else { continue };
            if has <= had {
                // The others have as few, or had when they were looked for.
                self.places.idle.clear();
                return None;
            }
            return Some(id);
        }
    }

    /// Returns how many connections the address of an idle HTTP connection has, and since when it is idle.
    fn idle_of(&self, id: ConnId) -> Option<(u32, Millis)> {
        let connection = self.get(id)?;
        let rests = match connection.is_beginning_tls() {
            true => IDLE.max(self.limits.header_timeout / HANDSHAKE_PART),
            false => IDLE,
        };
        let since = connection.idle_since().filter(|since| since.after(rests) <= self.now.mono)?;
        Some((self.admission.connections_of(connection.peer.address().ip()).max(1), since))
    }

    fn search_idle(&mut self) {
        // The first of them goes first where all else is equal.
        let ranked = |id| self.idle_of(id).map(|(has, since)| (has, Reverse(since), Reverse(id)));
        let idle = self.slots_by_id().filter_map(|(id, _)| ranked(id));
        let mut idle: Vec<_> = idle.collect();
        if idle.len() > FOUND {
            idle.select_nth_unstable_by(FOUND - 1, |a, b| b.cmp(a));
            idle.truncate(FOUND);
        }
        idle.sort_unstable();
        self.places.idle = idle.into_iter().map(|(.., Reverse(id))| id).collect();
    }
}
