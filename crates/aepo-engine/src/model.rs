//! How do the kernels make a transformer? The forward and backward pass of a whole tree batch.
//!
//! Block: `x ← x + o(attention(qkv(norm(x))))`, `x ← x + down(silu(gate) · up)` with both from `norm(x)`. The forward
//! pass keeps, per block, what the backward pass cannot cheaply recompute: `3·hidden + 2·qkv + 2·intermediate` numbers
//! a token (`qkv` = queries, keys and values together); norms and the gated product are computed again.

use std::ops::Range;
use std::sync::Arc;

use aepo::train::batch::TreeBatch;

use crate::config::ModelConfig;
use crate::gemm::{Along, Arithmetic, Packed};
use crate::kernels::attention::{AttentionShape, Visibility, tree_attention, tree_attention_backward};
use crate::kernels::head::fused::KEPT_BYTES;
use crate::kernels::head::{self, Head, HeadGradient, RowStats};
use crate::kernels::norm::{rms_norm, rms_norm_backward, rms_norm_keeping};
use crate::kernels::qkv::{Heads, RopeTable, merge_heads, split_heads, split_heads_backward, unmerge_heads};
use crate::kernels::swiglu::{swiglu, swiglu_backward_in_place};
use crate::kernels::{add_bias, add_bias_backward, gather_rows, row_parts, scatter_add_rows};
use crate::layout::{LayerRanges, Layout, Tensor};
use crate::linear::{Buffers, Grads, Site};
use crate::lora::Lora;
use crate::matmul::Store;
use crate::packed::PackedWeights;
use crate::real::{Real, fit};
use crate::team::Team;
use crate::weights::{Matrix, Weights};

/// Rows that go through a block's products one behind the other: what one leaves is still near the processor when the
/// next reads it. A multiple of the rows whose sums are taken together (`SUM_CHUNK`), so that it changes none.
pub(crate) const PART: usize = 512;

/// Where rows of a width lie.
fn of(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

/// A transformer's weights and constants.
pub struct Model<T> {
    /// Shape.
    pub config: ModelConfig,
    /// Where each weight lies in `params`.
    pub layout: Layout,
    /// All weights of the layout.
    pub params: Weights<T>,
    /// What is added to them and trained in their place.
    pub lora: Option<Lora<T>>,
    /// RoPE angles.
    pub rope: RopeTable<T>,
    /// Numbers that products are made from.
    pub arithmetic: Arithmetic,
    /// Weights packed for sampling, while they are current.
    pub packed: Option<PackedWeights>,
    /// Who works.
    pub team: Arc<Team>,
}

/// What a forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there will be none.
    #[default]
    Nothing,
    /// What went into each block; the backward pass computes the block again, to the same bits.
    Inputs,
    /// What each block computed.
    All,
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
    /// One of each block, or, where only inputs are kept, one that all blocks share and the inputs of each behind it.
    layers: Vec<LayerActivations<T>>,
    kept: Keep,
    linear: Buffers<T>,
    visible: Visibility,
    positions: Vec<u32>,
    /// `[n, hidden]`, the residual stream.
    x: Vec<T>,
    /// `[PART, hidden]`
    normed: Vec<T>,
    /// `[n, q_dim]`, what attention gives, or its gradient.
    merged: Vec<T>,
    /// `[PART, intermediate]`
    gated: Vec<T>,
    /// The weights of a block's products.
    panels: [Packed; 4],
    /// `[n_targets]`
    sources: Vec<u32>,
    targets: Vec<u32>,
    stats: Vec<RowStats<T>>,
    temperature: f64,
    backward: BackwardBuffers<T>,
    logits: head::Buffers<T>,
}

impl<T: Real> Model<T> {
    /// Puts weights and constants together. `params` must have the layout's length.
    #[must_use]
    pub fn new(config: ModelConfig, params: Vec<T>, team: Arc<Team>) -> Self {
        Model::with(config, Weights::full(params), None, team)
    }

    /// [`Model::new`] of weights that may be rounded or shared, with LoRA's matrices where there are any.
    #[must_use]
    pub fn with(config: ModelConfig, params: Weights<T>, lora: Option<Lora<T>>, team: Arc<Team>) -> Self {
        let layout = Layout::new(&config);
        assert_eq!(params.len(), layout.n_parameters());
        let rope = RopeTable::new(&config);
        Model { config, layout, params, lora, rope, arithmetic: Arithmetic::F32, packed: None, team }
    }

    /// Numbers that an optimiser step changes: LoRA's where there are any, all weights otherwise.
    #[must_use]
    pub fn n_trained(&self) -> usize {
        self.lora.as_ref().map_or(self.params.len(), |lora| lora.params.len())
    }

    /// The tensors that an optimiser step changes and their numbers; `None` where they are rounded or shared.
    pub(crate) fn trained_mut(&mut self) -> Option<(&[Tensor], &mut [T])> {
        match &mut self.lora {
            Some(lora) => Some((&lora.layout.tensors, &mut lora.params)),
            None => Some((&self.layout.tensors, self.params.numbers_mut()?)),
        }
    }

    /// Log-probabilities and entropies of the batch's targets, `[n_targets]` each. Token ids and depths must be in
    /// range (the caller checks). Unless `keep` is [`Keep::Nothing`], `work` is ready for [`Model::backward`].
    pub fn forward(
        &self,
        batch: &TreeBatch,
        temperature: f64,
        keep: Keep,
        work: &mut Workspace<T>,
    ) -> (Vec<T>, Vec<T>) {
        let (n, d) = (batch.tokens.len(), self.config.hidden_size);
        work.visible = Visibility::new(batch);
        work.positions.clear();
        for s in &batch.segments {
            work.positions.extend(s.depth..s.depth + s.n_tokens);
        }
        fit(&mut work.x, n * d);
        gather_rows(&self.team, self.params.matrix(self.layout.embed.clone()), d, &batch.tokens, &mut work.x);
        let n_layers = self.layout.layers.len();
        let wanted = [1, n_layers + 1, n_layers][keep as usize].max(work.layers.len());
        work.layers.resize_with(wanted, LayerActivations::default);
        work.kept = keep;
        for i in 0..n_layers {
            let slot = if keep == Keep::All { i } else { 0 };
            let mut layer = std::mem::take(&mut work.layers[slot]);
            self.block_inside(batch, i, keep != Keep::Nothing, &mut layer, work);
            self.block_output(batch.tokens.len(), i, &layer, work);
            if keep == Keep::Inputs {
                std::mem::swap(&mut layer.x, &mut work.layers[i + 1].x);
            }
            work.layers[slot] = layer;
        }
        work.sources.clear();
        work.sources.extend(batch.targets.iter().map(|t| t.from_idx));
        work.targets.clear();
        work.targets.extend(batch.targets.iter().map(|t| t.token));
        work.temperature = temperature;
        let n_targets = batch.targets.len();
        let (hidden, normed) = (&mut work.backward.hidden, &mut work.backward.normed);
        fit(hidden, n_targets * d);
        gather_rows(&self.team, Matrix::Full(&work.x), d, &work.sources, hidden);
        fit(normed, n_targets * d);
        rms_norm(&self.team, hidden, self.weight(&self.layout.final_norm), self.config.rms_norm_eps, normed);
        let mut logprobs = vec![T::ZERO; n_targets];
        work.stats.clear();
        work.stats.resize(n_targets, RowStats::default());
        let logits = &mut work.logits;
        let (head, keep) = (self.head(temperature), if keep == Keep::All { KEPT_BYTES } else { 0 });
        T::head_forward(head, normed, &work.targets, keep, &mut logprobs, &mut work.stats, logits);
        (logprobs, work.stats.iter().map(|s| s.entropy).collect())
    }

    /// Adds to `grads` (`[n_trained]`) the gradient of `Σ c·logp + Σ d·H` over the batch of the last kept forward pass.
    /// `c`: `[n_targets]`; `d`: `[n_targets]` or empty. Targets whose coefficients are zero cost nothing in the head.
    pub fn backward(&self, batch: &TreeBatch, c: &[T], d: &[T], work: &mut Workspace<T>, grads: &mut [T]) {
        assert_eq!(grads.len(), self.n_trained());
        let mut grads = if self.lora.is_some() { Grads::Lora(grads) } else { Grads::All(grads) };
        let (n, dim) = (batch.tokens.len(), self.config.hidden_size);
        let mut buffers = std::mem::take(&mut work.backward);
        let mut dx = std::mem::take(&mut buffers.dx);
        fit(&mut dx, n * dim);
        dx.fill(T::ZERO);
        self.head_backward(c, d, work, &mut dx, &mut buffers, &mut grads);
        for i in (0..self.layout.layers.len()).rev() {
            let slot = if work.kept == Keep::All { i } else { 0 };
            let mut layer = std::mem::take(&mut work.layers[slot]);
            if work.kept == Keep::Inputs {
                work.x.copy_from_slice(&work.layers[i + 1].x);
                self.block_inside(batch, i, true, &mut layer, work);
            }
            self.layer_backward(batch, i, &mut layer, work, &mut dx, &mut buffers, &mut grads);
            work.layers[slot] = layer;
        }
        if let Some(dembed) = grads.of(&self.layout.embed) {
            scatter_add_rows(&self.team, &dx, dim, &batch.tokens, dembed);
        }
        buffers.dx = dx;
        work.backward = buffers;
    }

    /// A block but for its last product. `keep` is whether the backward pass will need what came into its norms.
    fn block_inside(
        &self,
        batch: &TreeBatch,
        index: usize,
        keep: bool,
        a: &mut LayerActivations<T>,
        work: &mut Workspace<T>,
    ) {
        let (w, c, team) = (&self.layout.layers[index], &self.config, &*self.team);
        let (n, d, f) = (batch.tokens.len(), c.hidden_size, c.intermediate_size);
        let Workspace { x, normed, merged, panels: [qkv, output, gate_up, _], linear, .. } = work;
        let qkv = self.product_of_parts(index, Site::Qkv, Along::Inner, qkv);
        let output = self.product_of_parts(index, Site::Output, Along::Inner, output);
        let gate_up = self.product_of_parts(index, Site::GateUp, Along::Inner, gate_up);
        fit(normed, PART.min(n) * d);
        fit(&mut a.qkv, n * c.qkv_dim());
        for rows in row_parts(n, PART) {
            let kept = keep.then_some(&mut a.x);
            self.norm_of_stream(&w.input_norm, &rows, x, normed, kept);
            let y = &mut a.qkv[of(&rows, c.qkv_dim())];
            self.project(qkv, normed, rows.len(), Store::Replace, y, linear);
        }
        if let Some(bias) = &w.qkv_bias {
            add_bias(team, &mut a.qkv, self.weight(bias));
        }
        fit(&mut a.heads, n * c.qkv_dim());
        split_heads(team, &self.heads(w), &a.qkv, &work.positions, &mut a.heads);
        fit(&mut a.o, n * c.q_dim());
        fit(&mut a.lse, n * c.num_attention_heads);
        tree_attention(team, &work.visible, self.attention_shape(index), &a.heads, &mut a.o, &mut a.lse);
        fit(merged, n * c.q_dim());
        merge_heads(team, &a.o, c.num_attention_heads, c.head_dim, merged);
        fit(&mut a.gate_up, n * 2 * f);
        for rows in row_parts(n, PART) {
            let (merged, y) = (&merged[of(&rows, c.q_dim())], &mut x[of(&rows, d)]);
            self.project(output, merged, rows.len(), Store::Add, y, linear);
            let kept = keep.then_some(&mut a.x_mid);
            self.norm_of_stream(&w.post_norm, &rows, x, normed, kept);
            let y = &mut a.gate_up[of(&rows, 2 * f)];
            self.project(gate_up, normed, rows.len(), Store::Replace, y, linear);
        }
    }

    /// Some rows of the stream `x`, normed to the beginning of `normed`, and copied to `kept` where that is wanted.
    fn norm_of_stream(
        &self,
        norm: &Range<usize>,
        rows: &Range<usize>,
        x: &[T],
        normed: &mut [T],
        kept: Option<&mut Vec<T>>,
    ) {
        let (weight, eps) = (self.weight(norm), self.config.rms_norm_eps);
        let rows = of(rows, self.config.hidden_size);
        let normed = &mut normed[..rows.len()];
        match kept {
            Some(kept) => {
                fit(kept, x.len());
                rms_norm_keeping(&self.team, &x[rows.clone()], weight, eps, normed, &mut kept[rows]);
            }
            None => rms_norm(&self.team, &x[rows], weight, eps, normed),
        }
    }

    /// The last product of a block.
    fn block_output(&self, n: usize, index: usize, a: &LayerActivations<T>, work: &mut Workspace<T>) {
        let (d, f) = (self.config.hidden_size, self.config.intermediate_size);
        let Workspace { x, gated, panels: [.., down], linear, .. } = work;
        let down = self.product_of_parts(index, Site::Down, Along::Inner, down);
        fit(gated, PART.min(n) * f);
        for rows in row_parts(n, PART) {
            let gated = &mut gated[..rows.len() * f];
            swiglu(&self.team, &a.gate_up[of(&rows, 2 * f)], f, gated);
            self.project(down, gated, rows.len(), Store::Add, &mut x[of(&rows, d)], linear);
        }
    }

    fn head_backward(
        &self,
        c: &[T],
        d: &[T],
        work: &mut Workspace<T>,
        dx: &mut [T],
        b: &mut BackwardBuffers<T>,
        grads: &mut Grads<'_, T>,
    ) {
        let dim = self.config.hidden_size;
        let live: Vec<usize> =
            (0..c.len()).filter(|&i| c[i] != T::ZERO || d.get(i).is_some_and(|&d| d != T::ZERO)).collect();
        let sources: Vec<u32> = live.iter().map(|&i| work.sources[i]).collect();
        let targets: Vec<u32> = live.iter().map(|&i| work.targets[i]).collect();
        let stats: Vec<RowStats<T>> = live.iter().map(|&i| work.stats[i]).collect();
        let c: Vec<T> = live.iter().map(|&i| c[i]).collect();
        let d: Vec<T> = if d.is_empty() { Vec::new() } else { live.iter().map(|&i| d[i]).collect() };
        let (team, eps) = (&*self.team, self.config.rms_norm_eps);
        for buffer in [&mut b.hidden, &mut b.normed, &mut b.dnormed, &mut b.dhidden] {
            fit(buffer, live.len() * dim);
        }
        gather_rows(team, Matrix::Full(&work.x), dim, &sources, &mut b.hidden);
        let norm = self.weight(&self.layout.final_norm);
        rms_norm(team, &b.hidden, norm, eps, &mut b.normed);
        let head = self.head(work.temperature);
        let of = HeadGradient { hidden: &b.normed, rows: &live, targets: &targets, stats: &stats, c: &c, d: &d };
        T::head_backward(head, of, &mut b.dnormed, grads.of(&self.layout.head), &mut work.logits);
        b.dhidden.fill(T::ZERO);
        let dnorm = grads.of(&self.layout.final_norm);
        rms_norm_backward(team, &b.hidden, norm, eps, &b.dnormed, &mut b.dhidden, dnorm, &mut b.partials);
        scatter_add_rows(team, &b.dhidden, dim, &sources, dx);
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
        grads: &mut Grads<'_, T>,
    ) {
        let (w, c, team) = (&self.layout.layers[index], &self.config, &*self.team);
        let (n, d, f, eps) = (batch.tokens.len(), c.hidden_size, c.intermediate_size, c.rms_norm_eps);
        let Workspace { normed, merged, gated, panels: [qkv, output, gate_up, down], linear, .. } = work;
        let down = self.product_of_parts(index, Site::Down, Along::Outer, down);
        let gate_up = self.product_of_parts(index, Site::GateUp, Along::Outer, gate_up);
        let output = self.product_of_parts(index, Site::Output, Along::Outer, output);
        let qkv = self.product_of_parts(index, Site::Qkv, Along::Outer, qkv);
        fit(merged, n * c.q_dim());
        merge_heads(team, &a.o, c.num_attention_heads, c.head_dim, merged);
        for buffer in [&mut *normed, &mut b.normed] {
            fit(buffer, PART.min(n) * d);
        }
        for buffer in [&mut *gated, &mut b.gated] {
            fit(buffer, PART.min(n) * f);
        }
        fit(&mut b.merged, n * c.q_dim());
        for rows in row_parts(n, PART) {
            let (m, x_mid, dx) = (rows.len(), &a.x_mid[of(&rows, d)], &mut dx[of(&rows, d)]);
            // MLP.
            let gates = &mut a.gate_up[of(&rows, 2 * f)];
            let (gated, dgated) = (&mut gated[..m * f], &mut b.gated[..m * f]);
            let (normed, dnormed) = (&mut normed[..m * d], &mut b.normed[..m * d]);
            swiglu(team, gates, f, gated);
            self.project_backward(down, gated, m, dx, dgated, grads, linear);
            swiglu_backward_in_place(team, gates, f, dgated);
            rms_norm(team, x_mid, self.weight(&w.post_norm), eps, normed);
            self.project_backward(gate_up, normed, m, gates, dnormed, grads, linear);
            let (norm, dnorm) = (self.weight(&w.post_norm), grads.of(&w.post_norm));
            rms_norm_backward(team, x_mid, norm, eps, dnormed, dx, dnorm, &mut b.partials);
            // Attention.
            let (merged, dmerged) = (&merged[of(&rows, c.q_dim())], &mut b.merged[of(&rows, c.q_dim())]);
            self.project_backward(output, merged, m, dx, dmerged, grads, linear);
        }
        unmerge_heads(team, &b.merged, c.num_attention_heads, c.head_dim, merged);
        fit(&mut b.heads, n * c.qkv_dim());
        let shape = self.attention_shape(index);
        tree_attention_backward(team, &work.visible, shape, &a.heads, &a.o, &a.lse, merged, &mut b.heads);
        fit(&mut b.qkv, n * c.qkv_dim());
        // The two norms lie behind each other.
        let dnorm = w.qk_norm.as_ref().and_then(|(q, k)| Some(grads.of(&(q.start..k.end))?.split_at_mut(q.len())));
        let (heads, sums) = (self.heads(w), &mut b.partials);
        split_heads_backward(team, &heads, &a.qkv, &work.positions, &mut b.heads, &mut b.qkv, dnorm, sums);
        if let Some(dbias) = w.qkv_bias.as_ref().and_then(|bias| grads.of(bias)) {
            add_bias_backward(team, &b.qkv, dbias, &mut b.partials);
        }
        for rows in row_parts(n, PART) {
            let (m, x, dx) = (rows.len(), &a.x[of(&rows, d)], &mut dx[of(&rows, d)]);
            let (normed, dnormed) = (&mut normed[..m * d], &mut b.normed[..m * d]);
            let norm = self.weight(&w.input_norm);
            rms_norm(team, x, norm, eps, normed);
            let dy = &b.qkv[of(&rows, c.qkv_dim())];
            self.project_backward(qkv, normed, m, dy, dnormed, grads, linear);
            rms_norm_backward(team, x, norm, eps, dnormed, dx, grads.of(&w.input_norm), &mut b.partials);
        }
    }

    /// The numbers of a norm or a bias.
    pub(crate) fn weight(&self, range: &Range<usize>) -> &[T] {
        self.params.vector(range.clone())
    }

    /// The output projection at a temperature.
    pub(crate) fn head(&self, temperature: f64) -> Head<'_, T> {
        let weight = self.params.matrix(self.layout.head.clone());
        Head { weight, d: self.config.hidden_size, temperature, how: self.how() }
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

impl<T> Workspace<T> {
    /// Bytes of what a pass leaves.
    pub(crate) fn n_bytes(&self) -> usize {
        let of_layer = |a: &LayerActivations<T>| {
            [&a.x, &a.qkv, &a.heads, &a.o, &a.lse, &a.x_mid, &a.gate_up].map(Vec::capacity).iter().sum::<usize>()
        };
        let of_pass = [&self.x, &self.normed, &self.merged, &self.gated].map(Vec::capacity).iter().sum::<usize>();
        size_of::<T>() * (self.layers.iter().map(of_layer).sum::<usize>() + of_pass)
    }
}

/// Buffers of the head and of the backward pass, reused from block to block and from batch to batch.
#[derive(Default)]
struct BackwardBuffers<T> {
    /// `[n, hidden]`, the gradient of the residual stream.
    dx: Vec<T>,
    /// `[n, q_dim]`
    merged: Vec<T>,
    /// `[PART, intermediate]`
    gated: Vec<T>,
    /// `[PART, hidden]`, or `[n_targets, hidden]` for the head.
    normed: Vec<T>,
    heads: Vec<T>,
    qkv: Vec<T>,
    /// `[n_targets, hidden]`: what the head reads, and the gradients of it.
    hidden: Vec<T>,
    dnormed: Vec<T>,
    dhidden: Vec<T>,
    /// Sums over some rows, of each weight of a norm or a bias.
    partials: Vec<T>,
}

#[cfg(test)]
mod tests;
