//! The line of those of whom messages wait for a place at the store. Sites take turns, then the payers of one: a site
//! may have thousands of networks, and its neighbours do not wait for each of them.

use std::collections::{HashMap, VecDeque};

use crate::types::Network;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// The widest network that counts as one: an IPv4 address, or a /48.
    Network(Network),
    /// A share that is no network's.
    Share(u32),
}

/// The shares of one site.
#[derive(Debug, Default)]
struct Queue {
    shares: VecDeque<u32>,
    /// The first share, if it waits until this network has less at the store.
    held: Option<Network>,
}

/// Shares by their numbers, the next first.
///
/// A message that does not fit beside what others have at the store is held: its share stays first, and what would
/// go past it waits, too. Otherwise small messages could go past a large one for ever.
#[derive(Debug, Default)]
pub struct Line {
    order: VecDeque<Site>,
    sites: HashMap<Site, Queue>,
    /// The first site, if its first share waits until there is less at the store.
    held: Option<Site>,
}

impl Line {
    /// Returns the number of sites in it.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns whether a message may go to the store past those that wait, if it counts to these networks of its site.
    pub fn may_pass(&self, site: Option<Site>, mut networks: impl Iterator<Item = Network>) -> bool {
        let held = site.and_then(|site| self.sites.get(&site)?.held);
        self.held.is_none() && held.is_none_or(|held| networks.all(|network| network != held))
    }

    /// Returns the share that waits until there is less at the store, if one does.
    pub fn held(&self) -> Option<u32> {
        self.sites.get(&self.held?)?.shares.front().copied()
    }

    /// Returns whether this share is held, so that others wait for it.
    pub fn holds(&self, site: Site, share: u32) -> bool {
        let queue = self.sites.get(&site).filter(|queue| queue.shares.front() == Some(&share));
        queue.is_some_and(|queue| queue.held.is_some() || self.held == Some(site))
    }

    /// Puts a share at the end of its site's line.
    pub fn join(&mut self, site: Site, share: u32) {
        let queue = self.sites.entry(site).or_default();
        if queue.shares.is_empty() {
            self.order.push_back(site);
        }
        queue.shares.push_back(share);
    }

    /// Puts a share that was taken out back to the first place of its site, until this network has less at the store.
    pub fn hold(&mut self, site: Site, share: u32, network: Network) {
        let queue = self.sites.entry(site).or_default();
        if queue.shares.is_empty() {
            self.order.push_back(site);
        }
        queue.shares.push_front(share);
        queue.held = Some(network);
    }

    /// Puts a share that was taken out back to the first place of all, until there is less at the store.
    pub fn hold_all(&mut self, site: Site, share: u32) {
        let queue = self.sites.entry(site).or_default();
        queue.shares.push_front(share);
        self.take_out(site);
        self.order.push_front(site);
        self.held = Some(site);
    }

    /// Takes out a share.
    pub fn leave(&mut self, site: Site, share: u32) {
        let Some(queue) = self.sites.get_mut(&site) else { return };
        if queue.shares.front() == Some(&share) {
            queue.held = None;
            self.held = self.held.filter(|held| *held != site);
        }
        queue.shares.retain(|other| *other != share);
        if queue.shares.is_empty() {
            self.remove(site);
        }
    }

    /// Returns the next site, which goes to the end, and the number of its shares.
    pub fn next(&mut self) -> Option<(Site, usize)> {
        let site = self.order.pop_front()?;
        self.order.push_back(site);
        Some((site, self.sites.get(&site).map_or(0, |queue| queue.shares.len())))
    }

    /// Takes out the first share of a site, which is then not held any more.
    pub fn next_of(&mut self, site: Site) -> Option<u32> {
        let queue = self.sites.get_mut(&site)?;
        let share = queue.shares.pop_front();
        queue.held = None;
        self.held = self.held.filter(|held| *held != site);
        if queue.shares.is_empty() {
            self.remove(site);
        }
        share
    }

    fn remove(&mut self, site: Site) {
        self.sites.remove(&site);
        self.take_out(site);
    }

    fn take_out(&mut self, site: Site) {
        match self.order.back() {
            Some(last) if *last == site => _ = self.order.pop_back(),
            _ => self.order.retain(|other| *other != site),
        }
    }
}
