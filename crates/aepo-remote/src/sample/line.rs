//! Who is next when a replica has room? Those that live there, then trees that live nowhere yet, then anybody; of each
//! the one that has waited longest.
//!
//! So a tree that was begun goes on where its prefix lies before a new one is begun, and no replica idles while somebody
//! waits, unless for a home that gets other weights.

use std::collections::{BTreeSet, HashMap};

/// A place in the line; smaller ones came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Requests that wait for room.
#[derive(Clone, Debug)]
pub(super) struct Line {
    n_tickets: u64,
    /// Of each, its tree.
    keys: HashMap<Ticket, u64>,
    /// Of each tree, who waits.
    trees: HashMap<u64, BTreeSet<Ticket>>,
    /// Of each replica, who waits and lives there; last, who lives nowhere.
    places: Vec<BTreeSet<Ticket>>,
}

impl Line {
    /// Nobody waits.
    pub fn new(n_replicas: usize) -> Line {
        let places = vec![BTreeSet::new(); n_replicas + 1];
        Line { n_tickets: 0, keys: HashMap::new(), trees: HashMap::new(), places }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    fn place(&mut self, home: Option<usize>) -> &mut BTreeSet<Ticket> {
        let nowhere = self.places.len() - 1;
        &mut self.places[home.unwrap_or(nowhere)]
    }

    /// Lets a request of the tree `key` wait, at the place that it had before if it has waited.
    pub fn join(&mut self, key: u64, home: Option<usize>, before: Option<Ticket>) -> Ticket {
        let ticket = before.unwrap_or(Ticket(self.n_tickets));
        self.n_tickets += u64::from(before.is_none());
        self.keys.insert(ticket, key);
        self.trees.entry(key).or_default().insert(ticket);
        self.place(home).insert(ticket);
        ticket
    }

    /// One waits no longer; its tree, or `None` where it did not wait.
    pub fn leave(&mut self, ticket: Ticket, home: Option<usize>) -> Option<u64> {
        let key = self.keys.remove(&ticket)?;
        if let Some(tickets) = self.trees.get_mut(&key) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.trees.remove(&key);
            }
        }
        // It stands among those without a home where its own failed meanwhile.
        if !self.place(home).remove(&ticket) {
            self.place(None).remove(&ticket);
        }
        Some(key)
    }

    /// The tree of one that waits.
    pub fn key(&self, ticket: Ticket) -> Option<u64> {
        self.keys.get(&ticket).copied()
    }

    /// Who is next at a replica; those that live where it `updates` stay there.
    pub fn next(&self, idx: usize, updates: impl Fn(usize) -> bool) -> Option<Ticket> {
        let first = |place: &BTreeSet<Ticket>| place.first().copied();
        let nowhere = self.places.len() - 1;
        let homes = self.places[..nowhere].iter().enumerate();
        let anybody = || homes.filter(|(home, _)| !updates(*home)).filter_map(|(_, place)| first(place)).min();
        first(&self.places[idx]).or_else(|| first(&self.places[nowhere])).or_else(anybody)
    }

    /// A tree has another home now.
    pub fn moves(&mut self, key: u64, from: Option<usize>, to: usize) {
        let Some(tickets) = self.trees.get(&key).cloned() else { return };
        for ticket in tickets {
            if !self.place(from).remove(&ticket) {
                self.place(None).remove(&ticket);
            }
            self.place(Some(to)).insert(ticket);
        }
    }

    /// Those that live at a replica live nowhere now.
    pub fn evict(&mut self, idx: usize) {
        let mut tickets = std::mem::take(&mut self.places[idx]);
        self.place(None).append(&mut tickets);
    }
}
