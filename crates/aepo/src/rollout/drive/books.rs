//! How many paths of a tree are live, where do they stand, and who was started where? Kept up to date with every event.
//!
//! What an event asks of its tree is answered here in a time that grows with the logarithm of the tree's paths, so that
//! a tree of ten thousand leaves costs no more per event than its share of a thousand small ones.

use std::collections::BTreeMap;

/// A place on a path at which others start: the path, and how many calls it had made there.
pub(super) type Place = (usize, u32);

/// Counts over the paths of one tree.
#[derive(Debug, Default)]
pub(super) struct Books {
    n_live: usize,
    /// Live paths by clock.
    clocks: Tally<usize>,
    /// Live paths by the calls they have made.
    calls: Tally<u32>,
    n_roots: usize,
    children: BTreeMap<Place, Vec<usize>>,
}

/// Where a live path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub clock: usize,
    pub n_calls: u32,
}

impl Books {
    /// A path has been started, at the root without a place.
    pub fn start(&mut self, idx: usize, from: Option<Place>, at: Standing) {
        match from {
            Some(place) => self.children.entry(place).or_default().push(idx),
            None => self.n_roots += 1,
        }
        self.n_live += 1;
        self.clocks.add(at.clock);
        self.calls.add(at.n_calls);
    }

    /// A live path has gone on.
    pub fn go_on(&mut self, before: Standing, now: Standing) {
        self.clocks.replace(before.clock, now.clock);
        self.calls.replace(before.n_calls, now.n_calls);
    }

    /// A live path has ended.
    pub fn end(&mut self, at: Standing) {
        self.n_live -= 1;
        self.clocks.take(at.clock);
        self.calls.take(at.n_calls);
    }

    pub fn n_live(&self) -> usize {
        self.n_live
    }

    /// The smallest clock of a live path.
    pub fn least_clock(&self) -> Option<usize> {
        self.clocks.least()
    }

    /// The fewest calls that a live path has made.
    pub fn fewest_calls(&self) -> Option<u32> {
        self.calls.least()
    }

    /// How many paths were started there.
    pub fn n_from(&self, from: Option<Place>) -> usize {
        from.map_or(self.n_roots, |place| self.children(place).len())
    }

    /// The paths that were started there.
    pub fn children(&self, place: Place) -> &[usize] {
        self.children.get(&place).map_or(&[], Vec::as_slice)
    }
}

/// How often each value occurs.
#[derive(Debug)]
struct Tally<K>(BTreeMap<K, usize>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Tally<K> {
    fn add(&mut self, key: K) {
        *self.0.entry(key).or_insert(0) += 1;
    }

    fn take(&mut self, key: K) {
        if let Some(n) = self.0.get_mut(&key) {
            *n -= 1;
            if *n == 0 {
                self.0.remove(&key);
            }
        }
    }

    fn replace(&mut self, before: K, now: K) {
        if before != now {
            self.take(before);
            self.add(now);
        }
    }

    fn least(&self) -> Option<K> {
        self.0.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn counts_are_those_of_a_walk_over_all_paths() {
        let at = |clock, n_calls| Standing { clock, n_calls };
        // Per path: where it stands, whether it lives, where it was started.
        let mut paths: Vec<(Standing, bool, Option<Place>)> = Vec::new();
        let mut books = Books::default();
        for event in 0..3000 {
            let draw = |i: u64, n: usize| (Seed(5).child(event).uniform(i) * n as f64) as usize;
            if paths.is_empty() || draw(0, 4) == 0 {
                let from = (!paths.is_empty() && draw(1, 3) > 0).then(|| (draw(2, paths.len()), draw(3, 3) as u32));
                let standing = at(draw(4, 50), draw(5, 3) as u32);
                books.start(paths.len(), from, standing);
                paths.push((standing, true, from));
            }
            let idx = draw(6, paths.len());
            let (standing, live, _) = &mut paths[idx];
            if *live && draw(7, 3) == 0 {
                books.end(*standing);
                *live = false;
            } else if *live {
                let now = at(standing.clock + draw(8, 9), standing.n_calls + draw(9, 2) as u32);
                books.go_on(*standing, now);
                *standing = now;
            }
            let lives = || paths.iter().filter(|p| p.1).map(|p| p.0);
            assert_eq!(books.n_live(), lives().count());
            assert_eq!(books.least_clock(), lives().map(|s| s.clock).min());
            assert_eq!(books.fewest_calls(), lives().map(|s| s.n_calls).min());
            let place = (idx, draw(10, 3) as u32);
            let started: Vec<usize> = (0..paths.len()).filter(|&i| paths[i].2 == Some(place)).collect();
            assert_eq!((books.children(place), books.n_from(Some(place))), (&started[..], started.len()));
            assert_eq!(books.n_from(None), paths.iter().filter(|p| p.2.is_none()).count());
        }
        assert!(paths.len() > 500 && paths.iter().any(|p| p.1) && paths.iter().any(|p| !p.1));
    }
}
