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

/// Shares by their numbers, the next first.
#[derive(Debug, Default)]
pub struct Line {
    order: VecDeque<Site>,
    sites: HashMap<Site, VecDeque<u32>>,
}

impl Line {
    /// Returns the number of sites in it.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Puts a share at the end of its site's line.
    pub fn join(&mut self, site: Site, share: u32) {
        let shares = self.sites.entry(site).or_default();
        if shares.is_empty() {
            self.order.push_back(site);
        }
        shares.push_back(share);
    }

    /// Takes out a share.
    pub fn leave(&mut self, site: Site, share: u32) {
        let Some(shares) = self.sites.get_mut(&site) else { return };
        shares.retain(|other| *other != share);
        if shares.is_empty() {
            self.remove(site);
        }
    }

    /// Returns the next site, which goes to the end, and the number of its shares.
    pub fn next(&mut self) -> Option<(Site, usize)> {
        let site = self.order.pop_front()?;
        self.order.push_back(site);
        Some((site, self.sites.get(&site).map_or(0, VecDeque::len)))
    }

    /// Takes out the first share of a site.
    pub fn next_of(&mut self, site: Site) -> Option<u32> {
        let shares = self.sites.get_mut(&site)?;
        let share = shares.pop_front();
        if shares.is_empty() {
            self.remove(site);
        }
        share
    }

    fn remove(&mut self, site: Site) {
        self.sites.remove(&site);
        match self.order.back() {
            Some(last) if *last == site => _ = self.order.pop_back(),
            _ => self.order.retain(|other| *other != site),
        }
    }
}
