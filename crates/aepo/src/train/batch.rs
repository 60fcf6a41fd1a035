//! In what shape do trajectories reach the model? As token trees, each token once.

/// A run of consecutive tokens inside a [`TreeBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the segment whose last token precedes this one's first; `None` starts a tree. Always smaller than
    /// this segment's own index.
    pub parent: Option<u32>,
    /// Index of its first token in [`TreeBatch::tokens`].
    pub start_idx: u32,
    /// How many tokens, ≥ 1.
    pub n_tokens: u32,
    /// Depth of its first token, which is its position for RoPE: the number of ancestors.
    pub depth: u32,
}

/// A next-token prediction to be scored or trained: the model, having read up to `from_idx`, emits `token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index in [`TreeBatch::tokens`] of the last token read.
    pub from_idx: u32,
    /// The token whose log-probability is asked for.
    pub token: u32,
}

/// A set of token trees. Tokens are laid out segment by segment, parents before children; a token attends to itself,
/// to the earlier tokens of its segment, and to all tokens of its ancestor segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeBatch {
    /// `[n_tokens]`, every token of every tree once.
    pub tokens: Vec<u32>,
    /// In topological order; their ranges tile `tokens`.
    pub segments: Vec<Segment>,
    /// `[n_targets]`; the sampled tokens, in the order in which results and coefficients are exchanged. Tokens that
    /// the model did not sample are never targets.
    pub targets: Vec<Target>,
}

impl TreeBatch {
    /// Appends a segment behind `parent` and returns its index. Empty token lists are refused by the caller: an
    /// empty node simply is no segment.
    pub fn push_segment(&mut self, parent: Option<u32>, tokens: &[u32]) -> u32 {
        debug_assert!(!tokens.is_empty());
        let depth = parent.map_or(0, |p| {
            let p = &self.segments[p as usize];
            p.depth + p.n_tokens
        });
        self.segments.push(Segment {
            parent,
            start_idx: self.tokens.len() as u32,
            n_tokens: tokens.len() as u32,
            depth,
        });
        self.tokens.extend_from_slice(tokens);
        self.segments.len() as u32 - 1
    }

    /// Index in `tokens` of the last token of `segment`.
    #[must_use]
    pub fn last_idx(&self, segment: u32) -> u32 {
        let s = &self.segments[segment as usize];
        s.start_idx + s.n_tokens - 1
    }
}
