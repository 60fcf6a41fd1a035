//! How many operations does a case need? Counted from the model's shape, whatever the engine does to get there.
//!
//! A product of an `m × k` with a `k × n` matrix is `2·m·k·n` operations. With `W` numbers in the matrices of all blocks,
//! a token costs `2W` forward; a target costs `2·vocab·d` for its logits; a token that sees `s` tokens, itself included,
//! costs `4·s·q` a block for its scores and its mix of values, `q` being the width of all query heads. A backward pass is
//! twice the forward pass. Looking up embeddings, norms, rotations, activations, the optimiser and whatever an
//! implementation computes a second time count nothing.

use aepo::train::batch::TreeBatch;
use aepo_engine::config::ModelConfig;

/// Numbers in the matrices of all blocks.
pub fn block_weights(c: &ModelConfig) -> u64 {
    let (d, f) = (c.hidden_size, c.intermediate_size);
    (c.num_hidden_layers * (d * c.qkv_dim() + c.q_dim() * d + 3 * d * f)) as u64
}

/// Numbers in the output head.
pub fn head_weights(c: &ModelConfig) -> u64 {
    (c.vocab_size * c.hidden_size) as u64
}

/// Operations of a forward pass over `n_tokens` tokens that see `n_seen` tokens in all and have `n_targets` targets.
pub fn forward(c: &ModelConfig, n_tokens: u64, n_seen: u64, n_targets: u64) -> u64 {
    let attention = 4 * n_seen * (c.q_dim() * c.num_hidden_layers) as u64;
    2 * n_tokens * block_weights(c) + 2 * n_targets * head_weights(c) + attention
}

/// Tokens that the tokens of a batch see, each itself and its ancestors, added up.
pub fn n_seen(batch: &TreeBatch) -> u64 {
    let of = |depth: u64, n: u64| n * depth + n * (n + 1) / 2;
    batch.segments.iter().map(|s| of(u64::from(s.depth), u64::from(s.n_tokens))).sum()
}

/// Operations of a training step over a batch.
pub fn step(c: &ModelConfig, batch: &TreeBatch) -> u64 {
    3 * forward(c, batch.tokens.len() as u64, n_seen(batch), batch.targets.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::Shape;

    #[test]
    fn the_shapes_have_the_weights_of_their_names() {
        let all = |shape: Shape| block_weights(&shape.config()) + head_weights(&shape.config());
        // llama2.c's "stories15M" and "stories110M", and SmolLM2-135M, norms left out.
        assert_eq!(all(Shape::M15), 6 * (4 * 288 * 288 + 3 * 288 * 768) + 32000 * 288);
        assert_eq!((all(Shape::M110) + 500_000) / 1_000_000, 110);
        assert_eq!(all(Shape::M135) / 100_000, 1344);
    }

    #[test]
    fn a_token_sees_itself_and_its_ancestors() {
        let mut batch = TreeBatch::default();
        let root = batch.push_segment(None, &[1, 2, 3]);
        batch.push_segment(Some(root), &[4, 5]);
        batch.push_segment(Some(root), &[6]);
        // 1+2+3, then 4+5, then 4.
        assert_eq!(n_seen(&batch), 6 + 9 + 4);
        let c = Shape::M15.config();
        assert_eq!(forward(&c, 1, 10, 0) - forward(&c, 1, 0, 0), 4 * 10 * 288 * 6);
    }
}
