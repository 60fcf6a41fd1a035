//! What does a replica have in its cache? Prefixes of paths, as counts: which path, and how far.
//!
//! A path is a chain of spans: what it shares with the path that it was forked off, and what it added itself. Whoever is
//! served holds its chain; what nobody holds goes when room is needed, least recently used first, tails before heads.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Blocks of a path up to `end`, behind those of the span before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who added them.
    pub path: u64,
    /// Position behind the last one, from the root.
    pub end: u32,
}

/// A path from its root.
pub type Chain = Rc<[Span]>;

#[derive(Clone, Debug)]
struct Held {
    start: u32,
    upto: u32,
    n_holders: u32,
    /// When it was let go, while nobody holds it.
    stamp: u64,
}

impl Held {
    fn len(&self) -> u64 {
        u64::from(self.upto - self.start)
    }
}

/// The cache of one replica.
#[derive(Clone, Debug)]
pub struct Prefixes {
    /// Blocks that it has room for.
    capacity: u64,
    /// Blocks in it, and of these, those that nobody holds.
    n_used: u64,
    n_idle: u64,
    held: HashMap<u64, Held>,
    /// Spans that nobody holds, by when they were let go.
    idle: BTreeMap<u64, u64>,
    n_stamps: u64,
}

impl Prefixes {
    /// An empty one.
    pub fn new(capacity: u64) -> Prefixes {
        Prefixes { capacity, n_used: 0, n_idle: 0, held: HashMap::new(), idle: BTreeMap::new(), n_stamps: 0 }
    }

    /// Blocks in it.
    #[cfg(test)]
    fn n_used(&self) -> u64 {
        self.n_used
    }

    /// How far a chain lies in it without a gap.
    fn reach(&self, chain: &[Span]) -> u32 {
        let mut reach = 0;
        for span in chain {
            let Some(held) = self.held.get(&span.path) else { break };
            reach = held.upto.min(span.end);
            if reach < span.end {
                break;
            }
        }
        reach
    }

    /// Makes room for a whole chain and holds it; blocks of it that were there without a gap, at most `n_prompt − 1`,
    /// because something must be computed for a next token to follow. `None` when there is no room, and nothing is done.
    pub fn hold(&mut self, chain: &[Span], n_prompt: u32) -> Option<u32> {
        let mut start = 0;
        let (mut n_new, mut n_idle_own) = (0u64, 0u64);
        for span in chain {
            let len = u64::from(span.end - start);
            match self.held.get(&span.path) {
                None => n_new += len,
                Some(held) => {
                    n_new += u64::from(span.end.saturating_sub(held.upto));
                    n_idle_own += if held.n_holders == 0 { held.len() } else { 0 };
                }
            }
            start = span.end;
        }
        let n_free = self.capacity - self.n_used;
        if n_free + (self.n_idle - n_idle_own) < n_new {
            return None;
        }
        let hit = self.reach(chain).min(n_prompt.saturating_sub(1));
        let mut start = 0;
        for span in chain {
            let held = self.held.entry(span.path).or_insert(Held { start, upto: start, n_holders: 0, stamp: 0 });
            if held.n_holders == 0 && self.idle.remove(&held.stamp).is_some() {
                self.n_idle -= held.len();
            }
            held.n_holders += 1;
            start = span.end;
        }
        self.evict(n_new.saturating_sub(n_free));
        for span in chain {
            if let Some(held) = self.held.get_mut(&span.path) {
                held.upto = held.upto.max(span.end);
            }
        }
        self.n_used += n_new;
        Some(hit)
    }

    fn evict(&mut self, mut n: u64) {
        while n > 0 {
            let Some(entry) = self.idle.first_entry() else { return };
            let path = *entry.get();
            let Some(held) = self.held.get_mut(&path) else { return };
            let cut = held.len().min(n);
            held.upto -= cut as u32;
            n -= cut;
            self.n_used -= cut;
            self.n_idle -= cut;
            if held.len() == 0 {
                entry.remove();
                self.held.remove(&path);
            }
        }
    }

    /// Lets a chain go; it stays until room is needed.
    pub fn release(&mut self, chain: &[Span]) {
        for span in chain.iter().rev() {
            let Some(held) = self.held.get_mut(&span.path) else { continue };
            held.n_holders -= 1;
            if held.n_holders == 0 {
                // An empty span is nothing to keep.
                if held.len() == 0 {
                    self.held.remove(&span.path);
                    continue;
                }
                self.n_stamps += 1;
                held.stamp = self.n_stamps;
                self.n_idle += held.len();
                self.idle.insert(held.stamp, span.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(path: u64, end: u32) -> Span {
        Span { path, end }
    }

    #[test]
    fn hits_are_those_counted_by_hand() {
        let mut cache = Prefixes::new(100);
        // A prompt of 10 and a turn of 5.
        let first = [span(1, 10), span(2, 15)];
        assert_eq!(cache.hold(&first, 10), Some(0));
        // A sibling while the first is still there: the prompt but for its last block.
        let second = [span(1, 10), span(3, 20)];
        assert_eq!(cache.hold(&second, 10), Some(9));
        assert_eq!(cache.n_used(), 10 + 5 + 10);
        cache.release(&first);
        // The first goes on behind a result of 3: everything before it is there.
        assert_eq!(cache.hold(&[span(1, 10), span(2, 30)], 18), Some(15));
        // A fork of it at 12 shares 12 blocks.
        assert_eq!(cache.hold(&[span(1, 10), span(2, 12), span(4, 20)], 14), Some(12));
        assert_eq!(cache.n_used(), 10 + 20 + 10 + 8);
        // Another tree shares nothing.
        assert_eq!(cache.hold(&[span(5, 10), span(6, 12)], 10), Some(0));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_tails_before_heads() {
        let mut cache = Prefixes::new(40);
        let (a, b) = ([span(1, 10), span(2, 20)], [span(3, 10), span(4, 20)]);
        for chain in [&a, &b] {
            assert_eq!(cache.hold(chain, 10), Some(0));
            cache.release(chain);
        }
        // Eight more blocks: they are taken from the end of `a`'s own span.
        let c = [span(5, 8)];
        assert_eq!(cache.hold(&c, 4), Some(0));
        assert_eq!(cache.n_used(), 40);
        assert_eq!(cache.reach(&a), 12);
        assert_eq!(cache.reach(&b), 20);
        cache.release(&c);
        // `a` is used again and now the newest: `b` loses its tail.
        assert_eq!(cache.hold(&a, 20), Some(12));
        assert_eq!((cache.reach(&a), cache.reach(&b)), (20, 12));
        // What is held never goes: there is room for 20 more and no more.
        assert_eq!(cache.hold(&[span(7, 21)], 1), None);
        assert_eq!(cache.hold(&[span(7, 20)], 1), Some(0));
        assert_eq!((cache.reach(&b), cache.reach(&c), cache.n_used()), (0, 0, 40));
    }
}
