//! How do the kernels make a transformer? The forward and backward pass of a whole tree batch.
//!
//! Block: `x ← x + o(attention(qkv(norm(x))))`, `x ← x + down(silu(gate) · up)` with both from `norm(x)`. The forward
//! pass keeps, per block, what the backward pass cannot cheaply recompute: `3·hidden + 2·qkv + 2·intermediate` numbers
//! a token (`qkv` = queries, keys and values together); norms and the gated product are computed again.

use std::ops::Range;

use aepo::train::batch::TreeBatch;

use crate::config::ModelConfig;
use crate::kernels::attention::{
    AttentionShape, TreeRange, tree_attention, tree_attention_backward, trees as find_trees,
};
use crate::kernels::head::{Head, RowStats, head_backward, head_forward};
use crate::kernels::norm::{rms_norm, rms_norm_backward};
use crate::kernels::qkv::{Heads, RopeTable, merge_heads, split_heads, split_heads_backward, unmerge_heads};
use crate::kernels::swiglu::{swiglu, swiglu_backward_in_place};
use crate::kernels::{add_bias, add_bias_backward, gather_rows, scatter_add_rows};
use crate::layout::{LayerRanges, Layout};
use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::real::Real;

/// A transformer's weights and constants.
pub struct Model<T> {
    /// Shape.
    pub config: ModelConfig,
    /// Where each weight lies in `params`.
    pub layout: Layout,
    /// All weights.
    pub params: Vec<T>,
    /// RoPE angles.
    pub rope: RopeTable<T>,
    /// Threads for matrix products.
    pub threads: usize,
}

/// What one block's forward pass leaves for its backward pass.
#[derive(Default)]
struct LayerActivations<T> {
    /// `[n, hidden]`, the block's input.
    x: Vec<T>,
    /// `[n, qkv_dim]`, projections before norm and rotation.
    qkv: Vec<T>,
    /// `[heads][n][hd]`, queries, keys, values.
    heads: Vec<T>,
    /// `[n_q][n][hd]`
    o: Vec<T>,
    /// `[n_q][n]`
    lse: Vec<T>,
    /// `[n, hidden]`, between attention and MLP.
    x_mid: Vec<T>,
    /// `[n, 2·intermediate]`
    gate_up: Vec<T>,
}

/// Buffers of a pass over a batch; reused from batch to batch.
#[derive(Default)]
pub struct Workspace<T> {
    layers: Vec<LayerActivations<T>>,
    trees: Vec<TreeRange>,
    positions: Vec<u32>,
    /// `[n, hidden]`, the residual stream.
    x: Vec<T>,
    /// `[n, hidden]`
    normed: Vec<T>,
    /// `[n, max(q_dim, intermediate)]`
    wide: Vec<T>,
    /// `[n_targets]`
    sources: Vec<u32>,
    targets: Vec<u32>,
    stats: Vec<RowStats<T>>,
    temperature: f64,
}

impl<T: Real> Model<T> {
    /// Puts weights and constants together. `params` must have the layout's length.
    #[must_use]
    pub fn new(config: ModelConfig, params: Vec<T>, threads: usize) -> Self {
        let layout = Layout::new(&config);
        assert_eq!(params.len(), layout.n_parameters());
        let rope = RopeTable::new(&config);
        Model { config, layout, params, rope, threads }
    }

    /// Log-probabilities and entropies of the batch's targets, `[n_targets]` each. Token ids and depths must be in
    /// range (the caller checks). With `keep`, `work` is ready for [`Model::backward`].
    pub fn forward(
        &self,
        batch: &TreeBatch,
        temperature: f64,
        keep: bool,
        work: &mut Workspace<T>,
    ) -> (Vec<T>, Vec<T>) {
        let (n, d) = (batch.tokens.len(), self.config.hidden_size);
        work.trees = find_trees(batch);
        work.positions.clear();
        for s in &batch.segments {
            work.positions.extend(s.depth..s.depth + s.n_tokens);
        }
        work.x.resize(n * d, T::ZERO);
        work.normed.resize(n * d, T::ZERO);
        gather_rows(self.weight(&self.layout.embed), d, &batch.tokens, &mut work.x);
        work.layers.resize_with(if keep { self.layout.layers.len() } else { 1 }, LayerActivations::default);
        for (i, ranges) in self.layout.layers.iter().enumerate() {
            let mut layer = std::mem::take(&mut work.layers[if keep { i } else { 0 }]);
            self.layer_forward(batch, i, ranges, &mut layer, work);
            work.layers[if keep { i } else { 0 }] = layer;
        }
        work.sources.clear();
        work.sources.extend(batch.targets.iter().map(|t| t.from_idx));
        work.targets.clear();
        work.targets.extend(batch.targets.iter().map(|t| t.token));
        work.temperature = temperature;
        let n_targets = batch.targets.len();
        let mut hidden = vec![T::ZERO; n_targets * d];
        gather_rows(&work.x, d, &work.sources, &mut hidden);
        let mut normed = vec![T::ZERO; n_targets * d];
        rms_norm(&hidden, self.weight(&self.layout.final_norm), self.config.rms_norm_eps, &mut normed);
        let mut logprobs = vec![T::ZERO; n_targets];
        work.stats.clear();
        work.stats.resize(n_targets, RowStats::default());
        head_forward(self.head(temperature), &normed, &work.targets, &mut logprobs, &mut work.stats);
        (logprobs, work.stats.iter().map(|s| s.entropy).collect())
    }

    /// Adds to `grads` the gradient of `Σ c·logp + Σ d·H` over the batch of the last kept forward pass. `c`:
    /// `[n_targets]`; `d`: `[n_targets]` or empty. Targets whose coefficients are zero cost nothing in the head.
    pub fn backward(&self, batch: &TreeBatch, c: &[T], d: &[T], work: &mut Workspace<T>, grads: &mut [T]) {
        let (n, dim) = (batch.tokens.len(), self.config.hidden_size);
        let mut dx = vec![T::ZERO; n * dim];
        self.head_backward(c, d, work, &mut dx, grads);
        let mut buffers = BackwardBuffers::default();
        for i in (0..self.layout.layers.len()).rev() {
            let mut layer = std::mem::take(&mut work.layers[i]);
            self.layer_backward(batch, i, &mut layer, work, &mut dx, &mut buffers, grads);
            work.layers[i] = layer;
        }
        scatter_add_rows(&dx, dim, &batch.tokens, &mut grads[self.layout.embed.clone()]);
    }

    fn layer_forward(
        &self,
        batch: &TreeBatch,
        index: usize,
        w: &LayerRanges,
        a: &mut LayerActivations<T>,
        work: &mut Workspace<T>,
    ) {
        let c = &self.config;
        let (n, d, f, eps) = (batch.tokens.len(), c.hidden_size, c.intermediate_size, c.rms_norm_eps);
        a.x.clone_from(&work.x);
        rms_norm(&a.x, self.weight(&w.input_norm), eps, &mut work.normed);
        a.qkv.resize(n * c.qkv_dim(), T::ZERO);
        self.project(&work.normed, &w.qkv, n, d, Store::Replace, &mut a.qkv);
        if let Some(bias) = &w.qkv_bias {
            add_bias(&mut a.qkv, self.weight(bias));
        }
        a.heads.resize(n * c.qkv_dim(), T::ZERO);
        split_heads(&self.heads(w), &a.qkv, &work.positions, &mut a.heads);
        a.o.resize(n * c.q_dim(), T::ZERO);
        a.lse.resize(n * c.num_attention_heads, T::ZERO);
        tree_attention(batch, &work.trees, self.attention_shape(index), &a.heads, &mut a.o, &mut a.lse);
        work.wide.resize(n * c.q_dim(), T::ZERO);
        merge_heads(&a.o, c.num_attention_heads, c.head_dim, &mut work.wide);
        self.project(&work.wide, &w.o, n, c.q_dim(), Store::Add, &mut work.x);
        a.x_mid.clone_from(&work.x);
        rms_norm(&a.x_mid, self.weight(&w.post_norm), eps, &mut work.normed);
        a.gate_up.resize(n * 2 * f, T::ZERO);
        self.project(&work.normed, &w.gate_up, n, d, Store::Replace, &mut a.gate_up);
        work.wide.resize(n * f, T::ZERO);
        swiglu(&a.gate_up, f, &mut work.wide);
        self.project(&work.wide, &w.down, n, f, Store::Add, &mut work.x);
    }

    fn head_backward(&self, c: &[T], d: &[T], work: &mut Workspace<T>, dx: &mut [T], grads: &mut [T]) {
        let dim = self.config.hidden_size;
        let live: Vec<usize> =
            (0..c.len()).filter(|&i| c[i] != T::ZERO || d.get(i).is_some_and(|&d| d != T::ZERO)).collect();
        let sources: Vec<u32> = live.iter().map(|&i| work.sources[i]).collect();
        let targets: Vec<u32> = live.iter().map(|&i| work.targets[i]).collect();
        let stats: Vec<RowStats<T>> = live.iter().map(|&i| work.stats[i]).collect();
        let c: Vec<T> = live.iter().map(|&i| c[i]).collect();
        let d: Vec<T> = if d.is_empty() { Vec::new() } else { live.iter().map(|&i| d[i]).collect() };
        let mut hidden = vec![T::ZERO; live.len() * dim];
        gather_rows(&work.x, dim, &sources, &mut hidden);
        let norm = self.weight(&self.layout.final_norm);
        let mut normed = vec![T::ZERO; hidden.len()];
        rms_norm(&hidden, norm, self.config.rms_norm_eps, &mut normed);
        let mut dnormed = vec![T::ZERO; hidden.len()];
        let head = self.head(work.temperature);
        let dweight = &mut grads[self.layout.head.clone()];
        head_backward(head, &normed, &targets, &stats, &c, &d, &mut dnormed, dweight);
        let mut dhidden = vec![T::ZERO; hidden.len()];
        let dnorm = &mut grads[self.layout.final_norm.clone()];
        rms_norm_backward(&hidden, norm, self.config.rms_norm_eps, &dnormed, &mut dhidden, dnorm);
        scatter_add_rows(&dhidden, dim, &sources, dx);
    }

    /// Turns `dx`, the gradient of the block's output, into that of its input.
    #[allow(clippy::too_many_arguments)]
    fn layer_backward(
        &self,
        batch: &TreeBatch,
        index: usize,
        a: &mut LayerActivations<T>,
        work: &mut Workspace<T>,
        dx: &mut [T],
        b: &mut BackwardBuffers<T>,
        grads: &mut [T],
    ) {
        let (w, c) = (&self.layout.layers[index], &self.config);
        let (n, d, f, eps) = (batch.tokens.len(), c.hidden_size, c.intermediate_size, c.rms_norm_eps);
        // MLP.
        work.wide.resize(n * f, T::ZERO);
        swiglu(&a.gate_up, f, &mut work.wide);
        b.wide.resize(n * f, T::ZERO);
        self.project_backward(&work.wide, &w.down, n, f, dx, &mut b.wide, grads);
        swiglu_backward_in_place(&mut a.gate_up, f, &b.wide);
        rms_norm(&a.x_mid, self.weight(&w.post_norm), eps, &mut work.normed);
        b.normed.resize(n * d, T::ZERO);
        self.project_backward(&work.normed, &w.gate_up, n, d, &a.gate_up, &mut b.normed, grads);
        let post_norm = self.weight(&w.post_norm);
        rms_norm_backward(&a.x_mid, post_norm, eps, &b.normed, dx, &mut grads[w.post_norm.clone()]);
        // Attention.
        work.wide.resize(n * c.q_dim(), T::ZERO);
        merge_heads(&a.o, c.num_attention_heads, c.head_dim, &mut work.wide);
        b.wide.resize(n * c.q_dim(), T::ZERO);
        self.project_backward(&work.wide, &w.o, n, c.q_dim(), dx, &mut b.wide, grads);
        unmerge_heads(&b.wide, c.num_attention_heads, c.head_dim, &mut work.wide);
        b.heads.resize(n * c.qkv_dim(), T::ZERO);
        let shape = self.attention_shape(index);
        tree_attention_backward(batch, &work.trees, shape, &a.heads, &a.o, &a.lse, &work.wide, &mut b.heads);
        b.qkv.resize(n * c.qkv_dim(), T::ZERO);
        let dnorm = w.qk_norm.as_ref().map(|(q, k)| {
            let (before, after) = grads.split_at_mut(k.start);
            (&mut before[q.clone()], &mut after[..k.len()])
        });
        split_heads_backward(&self.heads(w), &a.qkv, &work.positions, &mut b.heads, &mut b.qkv, dnorm);
        if let Some(bias) = &w.qkv_bias {
            add_bias_backward(&b.qkv, &mut grads[bias.clone()]);
        }
        rms_norm(&a.x, self.weight(&w.input_norm), eps, &mut work.normed);
        self.project_backward(&work.normed, &w.qkv, n, d, &b.qkv, &mut b.normed, grads);
        let input_norm = self.weight(&w.input_norm);
        rms_norm_backward(&a.x, input_norm, eps, &b.normed, dx, &mut grads[w.input_norm.clone()]);
    }

    /// `y = x·Wᵀ`.
    pub(crate) fn project(&self, x: &[T], w: &Range<usize>, n: usize, d_in: usize, store: Store, y: &mut [T]) {
        let d_out = w.len() / d_in;
        let weight = Mat::new(self.weight(w), d_out, d_in);
        matmul(MatMut::new(y, n, d_out), store, Mat::new(x, n, d_in), weight.t(), self.threads);
    }

    /// `dx = dy·W`, `dW += dyᵀ·x`.
    #[allow(clippy::too_many_arguments)]
    fn project_backward(
        &self,
        x: &[T],
        w: &Range<usize>,
        n: usize,
        d_in: usize,
        dy: &[T],
        dx: &mut [T],
        grads: &mut [T],
    ) {
        let d_out = w.len() / d_in;
        let (weight, dy) = (Mat::new(self.weight(w), d_out, d_in), Mat::new(dy, n, d_out));
        matmul(MatMut::new(dx, n, d_in), Store::Replace, dy, weight, self.threads);
        let dw = MatMut::new(&mut grads[w.clone()], d_out, d_in);
        matmul(dw, Store::Add, dy.t(), Mat::new(x, n, d_in), self.threads);
    }

    /// The numbers of one tensor or group.
    pub(crate) fn weight(&self, range: &Range<usize>) -> &[T] {
        &self.params[range.clone()]
    }

    /// The output projection at a temperature.
    pub(crate) fn head(&self, temperature: f64) -> Head<'_, T> {
        let weight = self.weight(&self.layout.head);
        Head { weight, d: self.config.hidden_size, temperature, threads: self.threads }
    }

    pub(crate) fn heads(&self, w: &LayerRanges) -> Heads<'_, T> {
        Heads {
            n_q: self.config.num_attention_heads,
            n_kv: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            qk_norm: w.qk_norm.as_ref().map(|(q, k)| (self.weight(q), self.weight(k))),
            eps: self.config.rms_norm_eps,
            rope: &self.rope,
        }
    }

    fn attention_shape(&self, layer: usize) -> AttentionShape {
        AttentionShape {
            n_q: self.config.num_attention_heads,
            n_kv: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            window: self.config.window(layer),
        }
    }
}

/// Gradient buffers of one block, reused from block to block.
#[derive(Default)]
struct BackwardBuffers<T> {
    normed: Vec<T>,
    wide: Vec<T>,
    heads: Vec<T>,
    qkv: Vec<T>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rope::RopeScaling;
    use crate::config::{Family, SlidingWindow};
    use crate::real::dot;
    use crate::testing::{assert_gradient, config, random, tree_batch};

    fn model<T: Real>(family: Family, tied: bool) -> Model<T> {
        let config = config(family, tied);
        let n = Layout::new(&config).n_parameters();
        Model::new(config, random(9, n).into_iter().map(|x| T::of(x * 0.5)).collect(), 1)
    }

    /// With everything that a configuration can ask for beyond the plain block: a window in one block, and a scaling of
    /// RoPE that also changes the scores.
    fn stretched(mut config: ModelConfig) -> ModelConfig {
        config.sliding_window = Some(SlidingWindow { n_tokens: 3, layers: vec![false, true] });
        config.rope_scaling = RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: 8,
            attention_factor: Some(1.3),
            beta_fast: 2.0,
            beta_slow: 0.1,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        };
        config
    }

    #[test]
    fn whole_model_backward_is_the_derivative() {
        let batch = tree_batch(&[3, 2, 1, 2, 2], 40);
        let (c, d) = (random(1, batch.targets.len()), random(2, batch.targets.len()));
        for (family, tied) in [(Family::Llama, false), (Family::Qwen2, true), (Family::Qwen3, false)] {
            let mut m = model::<f64>(family, tied);
            if family == Family::Qwen2 {
                m = Model::new(stretched(m.config), m.params, 1);
            }
            let mut work = Workspace::default();
            m.forward(&batch, 0.8, true, &mut work);
            let mut grads = vec![0.0; m.params.len()];
            m.backward(&batch, &c, &d, &mut work, &mut grads);
            // Every tensor, a spread of its elements: all of them would take minutes.
            let picked: Vec<usize> =
                m.layout.tensors.iter().flat_map(|t| t.range.clone().step_by(t.range.len() / 7 + 1)).collect();
            let x: Vec<f64> = picked.iter().map(|&i| m.params[i]).collect();
            let g: Vec<f64> = picked.iter().map(|&i| grads[i]).collect();
            let cell = std::cell::RefCell::new((&mut m, Workspace::default()));
            assert_gradient(&x, &g, |x| {
                let (m, work) = &mut *cell.borrow_mut();
                for (&i, &v) in picked.iter().zip(x) {
                    m.params[i] = v;
                }
                let (logp, entropy) = m.forward(&batch, 0.8, false, work);
                dot(&logp, &c) + dot(&entropy, &d)
            });
        }
    }

    /// Each root-to-leaf path as a tree of its own; returns for each of its targets the index in the tree's targets.
    fn unroll(batch: &TreeBatch) -> (TreeBatch, Vec<usize>) {
        let mut unrolled = TreeBatch::default();
        let mut origin = Vec::new();
        let is_parent = |i: usize| batch.segments.iter().any(|s| s.parent == Some(i as u32));
        for leaf in (0..batch.segments.len()).filter(|&i| !is_parent(i)) {
            let mut path = vec![leaf];
            while let Some(p) = batch.segments[*path.last().unwrap()].parent {
                path.push(p as usize);
            }
            path.reverse();
            let ranges: Vec<std::ops::Range<usize>> = path
                .iter()
                .map(|&i| batch.segments[i].start_idx as usize..batch.last_idx(i as u32) as usize + 1)
                .collect();
            let old: Vec<usize> = ranges.into_iter().flatten().collect();
            let tokens: Vec<u32> = old.iter().map(|&i| batch.tokens[i]).collect();
            let start = unrolled.tokens.len();
            unrolled.push_segment(None, &tokens);
            for w in 1..old.len() {
                let t = batch.targets.iter().position(|t| t.from_idx as usize == old[w - 1] && t.token == tokens[w]);
                unrolled
                    .targets
                    .push(aepo::train::batch::Target { from_idx: (start + w - 1) as u32, token: tokens[w] });
                origin.push(t.unwrap());
            }
        }
        (unrolled, origin)
    }

    /// Invariant 3: training on the tree gives the gradient of training on the unrolled trajectories, where a shared
    /// token's coefficient is the sum over its trajectories.
    #[test]
    fn tree_equals_unrolled() {
        let batch = tree_batch(&[9, 30, 5, 17, 40, 8, 3, 2], 40);
        let (unrolled, origin) = unroll(&batch);
        assert!(unrolled.tokens.len() > batch.tokens.len());
        let c: Vec<f32> = random(1, origin.len()).into_iter().map(|x| x as f32).collect();
        let mut summed = vec![0.0f32; batch.targets.len()];
        for (&i, &c) in origin.iter().zip(&c) {
            summed[i] += c;
        }
        let plain = model::<f32>(Family::Qwen3, true);
        let stretched = Model::new(stretched(plain.config.clone()), plain.params.clone(), 1);
        for m in [plain, stretched] {
            let mut work = Workspace::default();
            let (logp, _) = m.forward(&batch, 1.0, true, &mut work);
            let mut grads = vec![0.0; m.params.len()];
            m.backward(&batch, &summed, &[], &mut work, &mut grads);
            let (logp_unrolled, _) = m.forward(&unrolled, 1.0, true, &mut work);
            let mut grads_unrolled = vec![0.0; m.params.len()];
            m.backward(&unrolled, &c, &[], &mut work, &mut grads_unrolled);
            for (&i, &l) in origin.iter().zip(&logp_unrolled) {
                assert!((l - logp[i]).abs() < 1e-5);
            }
            let difference: f64 = grads.iter().zip(&grads_unrolled).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let norm: f64 = grads.iter().map(|a| f64::from(*a).powi(2)).sum();
            assert!((difference / norm).sqrt() < 1e-5, "relative error {}", (difference / norm).sqrt());
        }
    }

    #[test]
    fn zero_coefficients_give_a_zero_gradient() {
        let batch = tree_batch(&[3, 2, 1, 2, 2], 40);
        let m = model::<f32>(Family::Llama, true);
        let mut work = Workspace::default();
        m.forward(&batch, 1.0, true, &mut work);
        let mut grads = vec![0.0; m.params.len()];
        m.backward(&batch, &vec![0.0; batch.targets.len()], &[], &mut work, &mut grads);
        assert!(grads.iter().all(|&g| g == 0.0));
    }
}
