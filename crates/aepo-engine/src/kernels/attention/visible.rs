//! Which tokens does a token see? Itself and its ancestors, as far back as a window reaches.
//!
//! Segments that continue their predecessor where it ends in memory are one *run*, so that a chain of tiny segments is
//! as good as a long one. The keys of a block of queries are found by walking from it towards the roots, last token
//! first. Where chains meet they are one, so the walk's work is bounded by the queries and by the runs that any of them
//! reads, and its memory by the queries alone.

use std::collections::BinaryHeap;
use std::ops::Range;

use aepo::train::batch::TreeBatch;

use crate::kernels::lanes::MAX_KEYS;

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

    /// Cuts all tokens into blocks of queries, `n_rows` at most. A block ends before a run begins where half of it is
    /// filled, since queries of one run see the same keys.
    #[must_use]
    pub fn query_blocks(&self, n_rows: usize) -> Vec<Range<usize>> {
        let mut blocks = Vec::with_capacity(self.n_tokens.div_ceil(n_rows));
        let mut start = 0;
        while start < self.n_tokens {
            let half = start + n_rows.div_ceil(2);
            let next_run = self.runs.get(self.runs.partition_point(|r| (r.start as usize) < half));
            let end = (start + n_rows).min(next_run.map_or(self.n_tokens, |r| r.start as usize));
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
    /// For each key the queries of the block that see it, from the lowest bit on. Bits without a query are set.
    pub bits: Vec<u64>,
    /// Whether every query sees every key.
    pub is_full: bool,
}

/// Successive tokens, first and last, and the queries that see them.
type Piece = (u32, u32, u64);

/// The walk from a block of queries towards the roots; kept from block to block for its memory.
#[derive(Debug, Default)]
pub struct Walk {
    /// Where queries (bits) enter the runs that are still to come: at this token.
    entries: BinaryHeap<(u32, u64)>,
    /// Where the walk goes on inside a run: at this token, with these queries, in this run.
    here: Option<(u32, u64, usize)>,
    /// What the last block left of a piece.
    rest: Option<Piece>,
    /// Depth of the first token that each query sees; empty without a window.
    first_depths: Vec<u32>,
    wanted: Range<u32>,
    /// Bits without a query.
    no_query: u64,
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
        self.no_query = if n == 64 { 0 } else { u64::MAX << n };
        let mut run = visible.run_of(queries.start as u32);
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

    /// The next keys towards the roots; `None` where there are no more.
    pub fn next(&mut self, visible: &Visibility) -> Option<&KeyBlock> {
        let mut room = KEY_BLOCK as u32;
        self.pieces.clear();
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
            block.bits.resize(block.bits.len() + piece.len(), bits | self.no_query);
            match block.ranges.last_mut().filter(|before| before.end == piece.start) {
                Some(before) => before.end = piece.end,
                None => block.ranges.push(piece),
            }
        }
        block.is_full = block.bits.iter().all(|&bits| bits == u64::MAX);
        Some(block)
    }

    /// The next successive tokens that the same queries see.
    fn piece(&mut self, visible: &Visibility) -> Option<Piece> {
        loop {
            let (last, mut bits, run) = match self.here.take() {
                Some(here) => here,
                None => self.entries.pop().map(|(token, bits)| (token, bits, visible.run_of(token)))?,
            };
            while let Some((_, more)) = self.entries.peek().filter(|(token, _)| *token == last) {
                bits |= more;
                self.entries.pop();
            }
            let Run { start, depth, parent } = visible.runs[run];
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
            if let Some(&(token, _)) = self.entries.peek()
                && token >= first
            {
                first = token + 1;
            }
            if first > start {
                self.here = Some((first - 1, bits, run));
            } else if let Some(parent) = parent {
                self.entries.push((parent, bits));
            }
            return Some((first, last, bits));
        }
    }
}
