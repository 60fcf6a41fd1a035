//! Which tokens does a token see? Itself and its ancestors, as far back as a window reaches.
//!
//! Segments that continue their predecessor where it ends in memory are one *run*, so that a chain of tiny segments is
//! as good as a long one. The keys of a block of queries are found by walking from it towards the roots, last token
//! first. Where chains meet they are one, so the walk's work is bounded by the queries and by the runs that any of them
//! reads, and its memory by the queries alone.

use std::ops::Range;

use aepo::train::batch::TreeBatch;

use crate::kernels::lanes::{LANES, MAX_KEYS};

/// Keys handled at once.
pub const KEY_BLOCK: usize = 64;
const _: () = assert!(KEY_BLOCK <= MAX_KEYS);

/// Hidden keys between two ranges of visible ones that are computed and not used, rather than beginning a new range.
const MAX_GAP: u32 = 6;

/// Tokens that lie behind each other in memory and on their path.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Index of its first token.
    start: u32,
    /// Depth of its first token.
    depth: u32,
    /// Index of the token before the first one on its path.
    parent: Option<u32>,
}

/// Who sees whom in a batch.
#[derive(Clone, Debug, Default)]
pub struct Visibility {
    runs: Vec<Run>,
    n_tokens: usize,
}

impl Visibility {
    /// Of a batch whose segments tile its tokens, parents before children.
    #[must_use]
    pub fn new(batch: &TreeBatch) -> Visibility {
        let mut runs: Vec<Run> = Vec::new();
        for s in &batch.segments {
            let parent = s.parent.map(|p| batch.last_idx(p));
            if parent.is_none() || parent.map(|p| p + 1) != Some(s.start_idx) {
                runs.push(Run { start: s.start_idx, depth: s.depth, parent });
            }
        }
        Visibility { runs, n_tokens: batch.tokens.len() }
    }

    /// Tokens of the batch.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Cuts all tokens into blocks of queries, `n_rows` at most. A block that is half filled ends before a run of half a
    /// block or more, since queries of one run see the same keys.
    #[must_use]
    pub fn query_blocks(&self, n_rows: usize) -> Vec<Range<usize>> {
        let half = n_rows.div_ceil(2);
        let mut blocks = Vec::with_capacity(self.n_tokens.div_ceil(n_rows));
        let mut start = 0;
        while start < self.n_tokens {
            let mut end = (start + n_rows).min(self.n_tokens);
            let later = self.runs.partition_point(|r| (r.start as usize) < start + half);
            for (i, run) in self.runs.iter().enumerate().skip(later).take_while(|(_, r)| (r.start as usize) < end) {
                let run_end = self.runs.get(i + 1).map_or(self.n_tokens, |r| r.start as usize);
                if run_end - run.start as usize >= half {
                    end = run.start as usize;
                    break;
                }
            }
            blocks.push(start..end);
            start = end;
        }
        blocks
    }

    fn run_of(&self, token: u32) -> usize {
        self.runs.partition_point(|r| r.start <= token) - 1
    }
}

/// Keys that are met together.
#[derive(Debug, Default)]
pub struct KeyBlock {
    /// Token ranges in ascending order, [`KEY_BLOCK`] tokens together at most.
    pub ranges: Vec<Range<usize>>,
    /// For each key the queries of the block that see it, from the lowest bit on.
    pub bits: Vec<u64>,
    /// Whether every query sees every key.
    pub is_full: bool,
    /// For sixteen queries each, from the first key to the last one that any of them sees.
    seen: Vec<Range<usize>>,
    /// Whether so little is seen that each sixteen queries should be left to themselves.
    is_sparse: bool,
}

/// Lanes that meet keys of a block together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strip {
    /// The first lane.
    pub lane: usize,
    /// How many: a multiple of [`LANES`].
    pub n_lanes: usize,
    /// Which of the block's keys, from its first one on; the others are seen by none of these lanes.
    pub keys: Range<usize>,
}

impl KeyBlock {
    /// What has to be computed where lane `g·n_rows + i` is query `i` of head `g`.
    pub fn strips(&self, n_lanes: usize, strips: &mut Vec<Strip>) {
        strips.clear();
        if !self.is_sparse {
            strips.push(Strip { lane: 0, n_lanes, keys: 0..self.bits.len() });
            return;
        }
        let seen = self.seen.iter().cycle().take(n_lanes / LANES);
        let of = |(i, keys): (usize, &Range<usize>)| Strip { lane: i * LANES, n_lanes: LANES, keys: keys.clone() };
        strips.extend(seen.enumerate().map(of).filter(|strip| !strip.keys.is_empty()));
    }

    /// Of each range that a strip meets: its tokens, and the number of the first of them among the block's keys.
    pub fn parts<'a>(&'a self, strip: &Strip) -> impl Iterator<Item = (Range<usize>, usize)> + use<'a> {
        let keys = strip.keys.clone();
        let mut n_before = 0;
        self.ranges.iter().filter_map(move |range| {
            let first = keys.start.max(n_before);
            let end = keys.end.min(n_before + range.len());
            let tokens = range.start + first - n_before.min(first)..range.start + end.max(n_before) - n_before;
            n_before += range.len();
            (first < end).then_some((tokens, first))
        })
    }

    /// Fills in what follows from the bits of `n` queries.
    fn summarise(&mut self, n: usize) {
        let all = u64::MAX >> (64 - n);
        self.is_full = self.bits.iter().all(|&bits| bits == all);
        self.seen.clear();
        self.is_sparse = false;
        if self.is_full {
            return;
        }
        for first in (0..n).step_by(LANES) {
            let sees = |bits: &u64| bits >> first & 0xffff != 0;
            let start = self.bits.iter().position(sees).unwrap_or(0);
            let end = self.bits.iter().rposition(sees).map_or(start, |i| i + 1);
            self.seen.push(start..end);
        }
        let n_seen: usize = self.seen.iter().map(ExactSizeIterator::len).sum();
        self.is_sparse = 5 * n_seen < 4 * self.seen.len() * self.bits.len();
    }
}

/// Successive tokens, first and last, and the queries that see them.
type Piece = (u32, u32, u64);

/// The walk from a block of queries towards the roots; kept from block to block for its memory.
#[derive(Debug, Default)]
pub struct Walk {
    /// Where queries (bits) enter the runs that are still to come: at these tokens, in ascending order.
    entries: Vec<(u32, u64)>,
    /// Where the walk goes on inside a run: at this token, with these queries, in this run.
    here: Option<(u32, u64, usize)>,
    /// What the last block left of a piece.
    rest: Option<Piece>,
    /// Depth of the first token that each query sees; empty without a window.
    first_depths: Vec<u32>,
    wanted: Range<u32>,
    n_queries: usize,
    /// The first query, where all lie in one run and their own tokens have not been met.
    own: Option<u32>,
    /// Of the block that is filled, last tokens first.
    pieces: Vec<Piece>,
    block: KeyBlock,
}

impl Walk {
    /// Begins at a block of at most 64 queries, and looks only for keys in `wanted`.
    pub fn begin(&mut self, visible: &Visibility, queries: Range<usize>, window: Option<usize>, wanted: &Range<usize>) {
        let n = queries.len();
        debug_assert!((1..=64).contains(&n));
        self.entries.clear();
        self.first_depths.clear();
        self.here = None;
        self.rest = None;
        self.wanted = wanted.start as u32..wanted.end as u32;
        self.n_queries = n;
        self.own = None;
        let first = queries.start as u32;
        let mut run = visible.run_of(first);
        let is_one_run = visible.runs.get(run + 1).is_none_or(|r| r.start as usize >= queries.end);
        let is_apart = wanted.end <= queries.start || (wanted.start <= queries.start && queries.end <= wanted.end);
        if is_one_run && is_apart && window.is_none() {
            // Nearly all blocks: each query sees those before it, and all see what is before the block.
            self.own = Some(first).filter(|_| wanted.end > queries.start);
            self.go_on(visible, first, u64::MAX >> (64 - n), run);
            return;
        }
        for (i, token) in (0..).zip(queries) {
            let token = token as u32;
            if visible.runs.get(run + 1).is_some_and(|r| r.start <= token) {
                run += 1;
            }
            self.entries.push((token, 1 << i));
            if let Some(window) = window {
                let depth = visible.runs[run].depth + token - visible.runs[run].start;
                self.first_depths.push((depth + 1).saturating_sub(window as u32));
            }
        }
    }

    /// Queries `bits` go on before token `token` of a run.
    fn go_on(&mut self, visible: &Visibility, token: u32, bits: u64, run: usize) {
        let Run { start, parent, .. } = visible.runs[run];
        if token > start {
            self.here = Some((token - 1, bits, run));
        } else if let Some(parent) = parent {
            let at = self.entries.partition_point(|(entry, _)| *entry < parent);
            match self.entries.get_mut(at).filter(|(entry, _)| *entry == parent) {
                Some((_, others)) => *others |= bits,
                None => self.entries.insert(at, (parent, bits)),
            }
        }
    }

    /// The next keys towards the roots; `None` where there are no more.
    pub fn next(&mut self, visible: &Visibility) -> Option<&KeyBlock> {
        let mut room = KEY_BLOCK as u32;
        self.pieces.clear();
        if let Some(first) = self.own.take() {
            let all = u64::MAX >> (64 - self.n_queries);
            let of = |i: u32| (first + i, first + i, all << i & all);
            self.pieces.extend((0..self.n_queries as u32).rev().map(of));
            room -= self.n_queries as u32;
        }
        while room > 0 {
            let Some((first, last, bits)) = self.rest.take().or_else(|| self.piece(visible)) else { break };
            if first >= self.wanted.end {
                continue;
            }
            if last < self.wanted.start {
                // All that comes is before it.
                self.entries.clear();
                self.here = None;
                break;
            }
            let (first, last) = (first.max(self.wanted.start), last.min(self.wanted.end - 1));
            if let Some(&(next, ..)) = self.pieces.last() {
                let gap = next - last - 1;
                if gap > 0 && gap <= MAX_GAP && gap < room {
                    self.pieces.push((last + 1, next - 1, 0));
                    room -= gap;
                }
            }
            let taken = room.min(last - first + 1);
            self.pieces.push((last + 1 - taken, last, bits));
            room -= taken;
            if last + 1 - taken > first {
                self.rest = Some((first, last - taken, bits));
            }
        }
        if self.pieces.is_empty() {
            return None;
        }
        let block = &mut self.block;
        block.ranges.clear();
        block.bits.clear();
        for &(first, last, bits) in self.pieces.iter().rev() {
            let piece = first as usize..last as usize + 1;
            block.bits.resize(block.bits.len() + piece.len(), bits);
            match block.ranges.last_mut().filter(|before| before.end == piece.start) {
                Some(before) => before.end = piece.end,
                None => block.ranges.push(piece),
            }
        }
        block.summarise(self.n_queries);
        Some(block)
    }

    /// The next successive tokens that the same queries see.
    fn piece(&mut self, visible: &Visibility) -> Option<Piece> {
        loop {
            let (last, mut bits, run) = match self.here.take() {
                Some(here) => here,
                None => self.entries.pop().map(|(token, bits)| (token, bits, visible.run_of(token)))?,
            };
            while let Some((_, more)) = self.entries.pop_if(|(token, _)| *token == last) {
                bits |= more;
            }
            let Run { start, depth, .. } = visible.runs[run];
            let mut first = start;
            if !self.first_depths.is_empty() {
                let depth = depth + last - start;
                let mut left = bits;
                while left != 0 {
                    let i = left.trailing_zeros() as usize;
                    left &= left - 1;
                    match depth.checked_sub(self.first_depths[i]) {
                        Some(n_before) => first = first.max(last.saturating_sub(n_before)),
                        None => bits &= !(1 << i),
                    }
                }
                if bits == 0 {
                    continue;
                }
            }
            if let Some(&(token, _)) = self.entries.last()
                && token >= first
            {
                first = token + 1;
            }
            self.go_on(visible, first, bits, run);
            return Some((first, last, bits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{forest, parents};

    /// Every query's keys, found by walking from token to token.
    #[test]
    fn a_walk_finds_every_ancestor_once() {
        for seed in 0..12 {
            let batch = forest(seed, 60, [1, 2, 9, 70][seed as usize % 4]);
            let (visible, parent) = (Visibility::new(&batch), parents(&batch));
            let n = batch.tokens.len();
            let mut walk = Walk::default();
            for (window, wanted) in [(None, 0..n), (Some(1), 0..n), (Some(17), 0..n), (None, n / 4..n / 2)] {
                for n_rows in [16, 64] {
                    for block in visible.query_blocks(n_rows) {
                        let mut found = vec![Vec::new(); block.len()];
                        walk.begin(&visible, block.clone(), window, &wanted);
                        while let Some(keys) = walk.next(&visible) {
                            let tokens: Vec<usize> = keys.ranges.iter().cloned().flatten().collect();
                            assert!(tokens.len() <= KEY_BLOCK && tokens.is_sorted() && tokens.len() == keys.bits.len());
                            assert_eq!(keys.is_full, keys.bits.iter().all(|b| b.count_ones() as usize == block.len()));
                            check_strips(keys, &tokens, block.len().next_multiple_of(LANES));
                            for (&token, bits) in tokens.iter().zip(&keys.bits) {
                                assert!(wanted.contains(&token));
                                for (i, found) in found.iter_mut().enumerate().filter(|(i, _)| bits >> i & 1 == 1) {
                                    assert!(i < block.len());
                                    found.push(token);
                                }
                            }
                        }
                        for (query, mut found) in block.zip(found) {
                            let mut chain: Vec<usize> =
                                std::iter::successors(Some(query), |&t| parent[t]).take(window.unwrap_or(n)).collect();
                            chain.retain(|t| wanted.contains(t));
                            chain.sort_unstable();
                            found.sort_unstable();
                            assert_eq!(found, chain, "query {query}, window {window:?}");
                        }
                    }
                }
            }
        }
    }

    /// Every bit lies in exactly one strip, whose parts are the block's tokens.
    fn check_strips(block: &KeyBlock, tokens: &[usize], n_rows: usize) {
        let mut strips = Vec::new();
        block.strips(2 * n_rows, &mut strips);
        for lane in 0..2 * n_rows {
            let strips: Vec<&Strip> = strips.iter().filter(|s| (s.lane..s.lane + s.n_lanes).contains(&lane)).collect();
            assert!(strips.len() <= 1);
            for (key, bits) in block.bits.iter().enumerate().filter(|(_, bits)| **bits >> (lane % n_rows) & 1 == 1) {
                assert!(strips.iter().any(|s| s.keys.contains(&key)), "lane {lane}, key {key}, {bits:b}");
            }
        }
        for strip in strips {
            let mut key = strip.keys.start;
            for (part, first) in block.parts(&strip) {
                assert_eq!(first, key);
                assert_eq!(part.clone().collect::<Vec<_>>(), tokens[key..key + part.len()]);
                key += part.len();
            }
            assert_eq!(key, strip.keys.end);
        }
    }

    #[test]
    fn blocks_of_queries_tile_the_tokens() {
        for seed in 0..8 {
            let visible = Visibility::new(&forest(seed, 40, 50));
            for n_rows in [16, 32, 48, 64] {
                let mut end = 0;
                for block in visible.query_blocks(n_rows) {
                    assert!(block.start == end && !block.is_empty() && block.len() <= n_rows);
                    end = block.end;
                }
                assert_eq!(end, visible.n_tokens());
            }
        }
    }

    /// A chain of segments of one token is one run, and where a leaf stands beside each of them, so that nothing is one
    /// piece, a walk still holds no more than its queries.
    #[test]
    fn memory_does_not_grow_with_the_number_of_segments() {
        let mut chain = TreeBatch::default();
        let mut forked = TreeBatch::default();
        let (mut last, mut trunk) = (None, None);
        for _ in 0..5000 {
            last = Some(chain.push_segment(last, &[0]));
            trunk = Some(forked.push_segment(trunk, &[0]));
            forked.push_segment(trunk, &[1]);
        }
        assert_eq!(Visibility::new(&chain).runs.len(), 1);
        let visible = Visibility::new(&forked);
        let mut walk = Walk::default();
        let mut n_keys = 0;
        for block in visible.query_blocks(64) {
            walk.begin(&visible, block, None, &(0..10_000));
            while let Some(keys) = walk.next(&visible) {
                n_keys += keys.bits.len();
            }
        }
        // Half of the tokens before each block, and with them those between, which are too few to be left out.
        assert!(n_keys < 10_000 * 5000 / 64 + 10_000 * 64, "{n_keys}");
        let held = walk.entries.capacity() + walk.pieces.capacity() + walk.block.ranges.capacity();
        assert!(held < 1000, "{held}");
    }
}
