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
//!   Beside them the pass itself has `4n·(d + q)`, and of `p = min(n, 512)` rows at once `4p·(d + f)`;
//! - backward, while it runs: `4n·(d + q + 2c) + 4p·(d + f)`, and `8n·r` for LoRA of rank `r`;
//! - head: `4n·4d` of hidden rows; of `m = min(n, 2048)` rows at once four sums for each 384 of the vocabulary and ten
//!   rows of gradients and factors, `4m·(vocab/96 + 10d)`; 384 logits of 256 rows a thread and the weights of those,
//!   `4t·384·(256 + 2d)`; and, unless there is recomputation, the logits that a backward pass will need, `4n·vocab` but no
//!   more than 256 MiB;
//! - attention, for each thread a block of queries, which does not grow with the length of paths: of `b` queries (at
//!   most about 100, or 16 of each head that shares keys), `4t·b·(2·hd + 67)`, backward `4t·(b·(5·hd + 130) + 128·hd)`
//!   more, and in decoding `4t·b·(4·hd + 71)`;
//! - cache: `16·⌈s/16⌉` slots a path, each of `8·L·kv` bytes, `kv` being the width of the keys;
//! - decoding: `4·rows·(2d + c + max(q, f) + 2f)`, where prompts are read 1024 tokens at once, and `4·128·(2d + vocab)`
//!   of logits; all matrices once more, packed, `4P` or in bf16 arithmetic `2P`, while paths are sampled;
//! - products: the rows at once rounded, `2·rows·max(c, 2f)` in bf16 arithmetic, or where weights are trained the
//!   gradients of `p` rows, `4p·max(c, 2f)` (half of it in bf16); the matrices of a block, packed.
//!
//! What is left out: the program itself with its tools, token ids, the packing buffers of matrix products (a few MiB a
//! thread), and mapped files while weights are read, which the system takes back.

use aepo::config::{Arithmetic, Stored};

use crate::attend;
use crate::cache::BLOCK;
use crate::config::ModelConfig;
use crate::engine::Engine;
use crate::gemm::Packed;
use crate::kernels::attention::{self, AttentionShape};
use crate::kernels::head::CHUNK;
use crate::kernels::head::fused::{GROUPS, KEPT_BYTES, NEAR, ROWS, n_kept};
use crate::kernels::stats::BLOCK as COLUMNS;
use crate::layout::Layout;
use crate::live::MAX_ROWS;
use crate::lora;
use crate::model::PART;
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
    /// What passes over batches keep, those of a reference policy included.
    pub activations: u64,
    /// Keys and values of live paths.
    pub kv_cache: u64,
    /// Logits and hidden rows of the training pass.
    pub head: u64,
    /// Rows and logits of sampling.
    pub decoding: u64,
    /// Matrices packed for sampling.
    pub packed: u64,
    /// What only a backward pass, attention and products take while they run.
    pub scratch: u64,
}

impl Estimate {
    /// Everything at once: no buffer is given back while an engine lives.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights
            + self.gradients
            + self.moments
            + self.activations
            + self.kv_cache
            + self.head
            + self.decoding
            + self.packed
            + self.scratch
    }
}

/// The formula above.
#[must_use]
pub fn estimate(config: &ModelConfig, plan: &Plan) -> Estimate {
    let Plan { setup, pass_tokens: n, path_tokens, live_paths, reference } = plan;
    let n_weights = config_parameters(config);
    let kept = |stored: Stored| match stored {
        Stored::F32 => 4 * n_weights.all,
        Stored::Bf16 => 2 * n_weights.all + 4 * n_weights.vectors,
    };
    let (rank, n_lora) = match &setup.train {
        Train::Lora(spec) => (spec.rank, lora::n_parameters(config, spec)),
        Train::All | Train::Nothing => (0, 0),
    };
    let (n_trained, learns) = match setup.train {
        Train::All => (n_weights.all, true),
        Train::Lora(_) => (n_lora, true),
        Train::Nothing => (0, false),
    };
    let (blocks, d, f) = (config.num_hidden_layers, config.hidden_size, config.intermediate_size);
    let (q, qkv, threads) = (config.q_dim(), config.qkv_dim(), setup.n_threads.max(1));
    let of_block = 2 * d + 2 * qkv + q + config.num_attention_heads + 2 * f;
    let of_pass = d + q;
    let part = PART.min(*n);
    let of_part = part * (d + f);
    let of_blocks = match (learns, setup.recompute) {
        (false, _) => of_block,
        (true, false) => blocks * of_block,
        (true, true) => blocks * d + of_block,
    };
    let of_reference = if *reference == Reference::None { 0 } else { n * (of_block + of_pass) + of_part };
    let of_backward = if learns { n * (d + q + 2 * qkv + 2 * rank) + of_part } else { 0 };
    let (group, head_dim) = (config.group_size(), config.head_dim);
    let (n_q, n_kv) = (config.num_attention_heads, config.num_key_value_heads);
    let shape = AttentionShape { n_q, n_kv, head_dim, window: None };
    let of_attention = threads * (attention::n_numbers(shape, learns) + attend::n_numbers(group, head_dim));
    let n_rows = if *live_paths == 0 { 0 } else { *live_paths.max(&MAX_ROWS) };
    let widest = qkv.max(2 * f);
    let units = |numbers: usize| if setup.arithmetic == Arithmetic::Bf16 { numbers.div_ceil(2) } else { numbers };
    let rounded = if setup.arithmetic == Arithmetic::Bf16 { part.max(n_rows) * units(widest) } else { 0 };
    let of_products = rounded.max(if learns { widest * units(part) } else { 0 });
    let rows = n_rows * (2 * d + qkv + q.max(f) + 2 * f);
    let at_once = *n.min(&ROWS);
    let near = if *n == 0 { 0 } else { threads * COLUMNS * (NEAR.min(*n) + 2 * d) };
    let of_logits_kept =
        if learns && !setup.recompute { config.vocab_size * n_kept(*n, config.vocab_size, KEPT_BYTES) } else { 0 };
    let of_head = at_once * (4 * config.vocab_size.div_ceil(COLUMNS) + (GROUPS + 2) * d) + near + of_logits_kept;
    let of_logits = CHUNK * (2 * d + config.vocab_size);
    let of_panels = if *n == 0 { 0 } else { panels(config, setup.arithmetic) };
    let slots = live_paths * path_tokens.next_multiple_of(BLOCK);
    let of_own = if *reference == Reference::Own { kept(setup.frozen) } else { 0 };
    let bytes = |numbers: usize| 4 * numbers as u64;
    Estimate {
        weights: (kept(setup.stored()) + of_own) as u64 + bytes(n_lora),
        gradients: bytes(n_trained),
        moments: 2 * bytes(n_trained),
        activations: bytes(n * (of_blocks + of_pass) + of_part + of_reference),
        kv_cache: bytes(slots * blocks * 2 * config.kv_dim()),
        head: bytes(of_head + n * 4 * d),
        decoding: if *live_paths == 0 { 0 } else { bytes(rows + of_logits) },
        packed: if *live_paths == 0 { 0 } else { packed(config, setup.arithmetic) },
        scratch: bytes(of_backward + of_attention + of_products) + of_panels,
    }
}

/// Bytes of all matrices in panels.
fn packed(config: &ModelConfig, arithmetic: Arithmetic) -> u64 {
    let head = Packed::bytes_of(config.vocab_size, config.hidden_size, arithmetic) as u64;
    config.num_hidden_layers as u64 * panels(config, arithmetic) + head
}

/// Bytes of a block's matrices in panels.
fn panels(config: &ModelConfig, arithmetic: Arithmetic) -> u64 {
    let matrix = |d_out: usize, d_in: usize| Packed::bytes_of(d_out, d_in, arithmetic) as u64;
    let (d, f, q) = (config.hidden_size, config.intermediate_size, config.q_dim());
    matrix(config.qkv_dim(), d) + matrix(d, q) + matrix(2 * f, d) + matrix(d, f)
}

/// What an engine's buffers hold now; of what is given back after a pass there is nothing.
#[must_use]
pub fn held(engine: &Engine) -> Estimate {
    let n_lora = engine.model.lora.as_ref().map_or(0, |lora| lora.params.capacity());
    Estimate {
        weights: (engine.model.params.n_bytes() + 4 * n_lora) as u64,
        gradients: 4 * engine.grads.capacity() as u64,
        moments: 4 * (engine.moments.first.capacity() + engine.moments.second.capacity()) as u64,
        activations: engine.work.n_bytes() as u64,
        kv_cache: engine.pool.n_bytes() as u64,
        head: 0,
        decoding: engine.buffers.n_bytes() as u64,
        packed: engine.model.packed.as_ref().map_or(0, |packed| packed.n_bytes() as u64),
        scratch: 0,
    }
}

/// Numbers of weights.
struct Parameters {
    all: usize,
    /// Of norms and biases.
    vectors: usize,
}

fn config_parameters(config: &ModelConfig) -> Parameters {
    let tensors = Layout::new(config).tensors;
    let vectors = tensors.iter().filter(|t| !t.decays()).map(|t| t.range.len()).sum();
    Parameters { all: tensors.last().map_or(0, |t| t.range.end), vectors }
}

#[cfg(test)]
mod tests {
    use aepo::config::lora::LoraTargets;
    use aepo::policy::{Learner, SampleParams, SampleRequest, Sampler, StepParams};
    use aepo::seed::Seed;
    use aepo::stop::Stop;

    use super::*;
    use crate::config::Family;
    use crate::setup::LoraSpec;
    use crate::testing::{config, tree_batch};

    /// An engine that has sampled and been trained, tokens of its largest batch, and bytes that were packed meanwhile.
    fn used(config: &ModelConfig, setup: &Setup, n_paths: usize, path_tokens: usize) -> (Engine, usize, u64) {
        let mut engine = Engine::random_as(config.clone(), Seed(1), setup).unwrap();
        let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
        let mut n_open = n_paths;
        for i in 0..n_paths {
            let path = engine.open(&[i as u32]).unwrap();
            let (stop, seed) = (Stop::at(&[]), Seed(i as u64));
            // The last token that is sampled is never read.
            engine.submit(SampleRequest { path, max_tokens: path_tokens, stop, n_turn: 0, params, seed }).unwrap();
        }
        while n_open > 0 {
            for done in engine.poll().unwrap() {
                engine.close(done.path);
                n_open -= 1;
            }
        }
        let packed = held(&engine).packed;
        // A smaller batch before the larger one must not leave more than the larger one needs.
        let largest = tree_batch(&[30, 20, 9, 40], 40);
        for batch in [tree_batch(&[30, 20, 9, 20], 40), largest.clone(), tree_batch(&[3, 2, 1], 40)] {
            engine.forward(&batch, 1.0, false).unwrap();
            engine.forward(&batch, 1.0, true).unwrap();
            engine.backward(&batch, &vec![-0.1; batch.targets.len()], &[]).unwrap();
            let (learning_rate, weight_decay, max_grad_norm) = (1e-3, 0.0, 1.0);
            let (beta1, beta2, eps) = (0.9, 0.95, 1e-8);
            let params = StepParams { learning_rate, weight_decay, beta1, beta2, eps, max_grad_norm };
            engine.step(&params).unwrap();
        }
        (engine, largest.tokens.len(), packed)
    }

    #[test]
    fn the_formula_is_what_buffers_take() {
        let spec = LoraSpec { rank: 3, alpha: 4.0, targets: LoraTargets::all() };
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
            for tied in [false, true] {
                for (train, frozen, arithmetic, recompute) in [
                    (Train::All, Stored::F32, Arithmetic::F32, false),
                    (Train::All, Stored::F32, Arithmetic::Bf16, true),
                    (Train::Lora(spec.clone()), Stored::F32, Arithmetic::F32, true),
                    (Train::Lora(spec.clone()), Stored::Bf16, Arithmetic::Bf16, false),
                ] {
                    let config = config(family, tied);
                    let setup = Setup { train, frozen, arithmetic, recompute, ..Setup::full(1) };
                    let (n_paths, path_tokens) = (5, 37);
                    let (engine, pass_tokens, packed) = used(&config, &setup, n_paths, path_tokens);
                    let reference = Reference::None;
                    let plan = Plan { setup, pass_tokens, path_tokens, live_paths: n_paths, reference };
                    let (said, found) = (estimate(&config, &plan), held(&engine));
                    let exact = |e: Estimate| (e.weights, e.gradients, e.moments, e.activations, e.kv_cache);
                    assert_eq!(exact(said), exact(found), "{plan:?}");
                    assert_eq!((said.packed, found.packed), (packed, 0), "{plan:?}");
                    // Rows of sampling are counted as for long prompts, which these are not.
                    assert!(found.decoding > 0 && found.decoding <= said.decoding + said.scratch);
                    assert_eq!(said.total(), exact_total(said));
                }
            }
        }
    }

    fn exact_total(e: Estimate) -> u64 {
        let Estimate { weights, gradients, moments, activations, kv_cache, head, decoding, packed, scratch } = e;
        [weights, gradients, moments, activations, kv_cache, head, decoding, packed, scratch].iter().sum()
    }

    #[test]
    fn what_is_shared_or_not_there_costs_nothing() {
        let config = config(Family::Llama, false);
        let plan = |train, reference| Plan {
            setup: Setup { train, frozen: Stored::Bf16, ..Setup::full(2) },
            pass_tokens: 100,
            path_tokens: 50,
            live_paths: 4,
            reference,
        };
        let of = |train, reference| estimate(&config, &plan(train, reference));
        let all = of(Train::All, Reference::None);
        let own = of(Train::All, Reference::Own);
        let spec = LoraSpec { rank: 2, alpha: 4.0, targets: LoraTargets::all() };
        let lora = of(Train::Lora(spec.clone()), Reference::None);
        let shared = of(Train::Lora(spec), Reference::Shared);
        assert!(own.weights > all.weights && own.weights < 2 * all.weights);
        assert_eq!(lora.weights, shared.weights);
        assert!(shared.activations > lora.activations);
        assert!(lora.weights < all.weights && lora.gradients < all.gradients / 2);
        let nothing = of(Train::Nothing, Reference::None);
        assert_eq!((nothing.gradients, nothing.moments), (0, 0));
        let idle = Plan { live_paths: 0, pass_tokens: 0, ..plan(Train::Nothing, Reference::None) };
        let idle = estimate(&config, &idle);
        assert_eq!((idle.activations, idle.kv_cache, idle.head, idle.decoding), (0, 0, 0, 0));
    }
}
