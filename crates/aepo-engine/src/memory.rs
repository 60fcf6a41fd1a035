//! How much memory will a run take? A formula over the model's shape and what it is used for, before anything starts.
//!
//! With `P` weights, `V` of them in vectors (norms, biases), `T` that may change, `L` blocks, `d` the residual stream,
//! `q`, `c` the widths of queries and of queries, keys and values together, `f` the gated MLP, `h` query heads, `n`
//! tokens of the largest pass and `t` threads, in bytes:
//!
//! - weights: `4P`, or `2P + 4V` where they are kept in bf16, and LoRA's own `4T`; the same again for a reference policy
//!   that shares nothing;
//! - gradients `4T`, AdamW's moments `8T`;
//! - activations: a block keeps `a = 2d + 2c + q + h + 2f` numbers a token. A backward pass needs those of all blocks,
//!   `4n·L·a`, or with recomputation the inputs of all and the rest of one, `4n·(L·d + a)`; a forward pass alone `4n·a`.
//!   Beside them `4n·(2d + max(q, f))` of the pass itself, and backward `4n·(2d + max(q, f) + 2c)`;
//! - attention: per thread the keys, values and scores of one path: `4t·s·(2·hd + 64)`, backward twice that, where `s` is
//!   the longest path;
//! - head: `4·128·vocab` of logits at once, and `4n·4d` of hidden rows;
//! - cache: `16·⌈s/16⌉` slots a path, each of `8·L·kv` bytes;
//! - decoding: `4·(1024 + paths)·(2d + c + max(q, f) + 2f)` and `4·128·vocab` of logits.
//!
//! What is left out: the program itself with its tools, token ids, the packing buffers of matrix products (a few MiB a
//! thread), and mapped files while weights are read, which the system takes back.

use aepo::config::Stored;

use crate::cache::BLOCK;
use crate::config::ModelConfig;
use crate::kernels::head::CHUNK;
use crate::layout::Layout;
use crate::lora;
use crate::setup::{Setup, Train};

/// What an engine will be used for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How it is made.
    pub setup: Setup,
    /// Tokens of the largest pass over a batch: `max_batch_tokens`, or the largest tree where that has more; 0 for an
    /// engine that only samples.
    pub pass_tokens: usize,
    /// Tokens of the longest path, the prompt included.
    pub path_tokens: usize,
    /// Paths that are sampled at the same time, each counted as if it shared no token with another.
    pub live_paths: usize,
    /// The policy that a divergence is measured from.
    pub reference: Reference,
}

/// Where the weights of a reference policy are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// There is none.
    None,
    /// They are the frozen weights under LoRA.
    Shared,
    /// In memory of their own, kept as [`Setup::frozen`] says.
    Own,
}

/// Bytes, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The model, LoRA's matrices and the reference policy.
    pub weights: u64,
    /// Of what may change.
    pub gradients: u64,
    /// AdamW's.
    pub moments: u64,
    /// Passes over batches, those of a reference policy included.
    pub activations: u64,
    /// Keys and values of live paths.
    pub kv_cache: u64,
    /// Logits and hidden rows of the training pass.
    pub head: u64,
    /// Rows and logits of sampling.
    pub decoding: u64,
}

impl Estimate {
    /// Everything at once: no buffer is given back while an engine lives.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations + self.kv_cache + self.head + self.decoding
    }
}

/// The formula above.
#[must_use]
pub fn estimate(config: &ModelConfig, plan: &Plan) -> Estimate {
    let layout = Layout::new(config);
    let n_vectors: usize = layout.tensors.iter().filter(|t| !t.decays()).map(|t| t.range.len()).sum();
    let (n_weights, n_vectors) = (layout.n_parameters() as u64, n_vectors as u64);
    let kept = |stored: Stored| match stored {
        Stored::F32 => 4 * n_weights,
        Stored::Bf16 => 2 * n_weights + 4 * n_vectors,
    };
    let n_lora = match &plan.setup.train {
        Train::Lora(spec) => lora::n_parameters(config, spec) as u64,
        Train::All | Train::Nothing => 0,
    };
    let n_trained = match plan.setup.train {
        Train::All => n_weights,
        Train::Lora(_) => n_lora,
        Train::Nothing => 0,
    };
    let of_reference = if plan.reference == Reference::Own { kept(plan.setup.frozen) } else { 0 };
    let backward = plan.setup.train != Train::Nothing;
    let (blocks, d, f) = (config.num_hidden_layers, config.hidden_size, config.intermediate_size);
    let (q, qkv, n) = (config.q_dim(), config.qkv_dim(), plan.pass_tokens);
    let of_block = 2 * d + 2 * qkv + q + config.num_attention_heads + 2 * f;
    let of_pass = 2 * d + q.max(f);
    let of_attention = plan.setup.n_threads.max(1) * plan.path_tokens.min(n) * (2 * config.head_dim + 64);
    let kept_blocks = match (backward, plan.setup.recompute) {
        (false, _) => of_block,
        (true, false) => blocks * of_block,
        (true, true) => blocks * d + of_block,
    };
    let of_backward = if backward { 2 * d + q.max(f) + 2 * qkv } else { 0 };
    let mut activations = n * (kept_blocks + of_pass + of_backward) + of_attention * if backward { 2 } else { 1 };
    if plan.reference != Reference::None {
        activations += n * (of_block + of_pass);
    }
    let logits = CHUNK * config.vocab_size;
    let rows = match plan.live_paths {
        0 => 0,
        paths => (crate::engine::MAX_ROWS + paths) * (2 * d + qkv + q.max(f) + 2 * f) + CHUNK * (2 * d) + logits,
    };
    let cached = plan.live_paths * plan.path_tokens.next_multiple_of(BLOCK) * blocks * 2 * config.kv_dim();
    Estimate {
        weights: kept(plan.setup.stored()) + 4 * n_lora + of_reference,
        gradients: 4 * n_trained,
        moments: 8 * n_trained,
        activations: 4 * activations as u64,
        kv_cache: 4 * cached as u64,
        head: if n == 0 { 0 } else { 4 * (logits + n * 4 * d) as u64 },
        decoding: 4 * rows as u64,
    }
}
