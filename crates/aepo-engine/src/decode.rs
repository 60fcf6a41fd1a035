//! How are new tokens of many paths computed at once? All rows together through the matrices, and through attention
//! with those that share what they read.
//!
//! A *row* is one token of one path whose keys are not cached yet: prompts, tool results and just-sampled tokens go
//! through the same code. Each row's bits depend on its own path only, because every product's do.

use crate::attend::{AttendBuffers, AttendPlan};
use crate::cache::{BlockPool, PathCache};
use crate::kernels::norm::rms_norm;
use crate::kernels::product::{self, Columns, Weight};
use crate::kernels::swiglu::swiglu;
use crate::kernels::{add_bias, gather_rows, rows_of};
use crate::linear::{Buffers, Site};
use crate::matmul::Store;
use crate::model::Model;
use crate::real::{fit, vectorize};
use crate::sampler::Scratch;

/// One token to be computed.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index of its path in the caches handed to [`Model::decode`].
    pub path: usize,
    /// Token id.
    pub token: u32,
    /// Depth of the token.
    pub position: usize,
}

/// Buffers of decoding, reused from step to step.
#[derive(Default)]
pub struct DecodeBuffers {
    tokens: Vec<u32>,
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    wide: Vec<f32>,
    gate_up: Vec<f32>,
    slots: Vec<(u32, usize)>,
    hidden: Vec<f32>,
    logits: Vec<f32>,
    linear: Buffers<f32>,
    products: crate::gemm::Buffers,
    /// One for each thread.
    scratch: Vec<Scratch>,
    attend: AttendBuffers,
}

impl DecodeBuffers {
    /// Bytes of it.
    pub(crate) fn n_bytes(&self) -> usize {
        let numbers = [&self.x, &self.normed, &self.qkv, &self.wide, &self.gate_up, &self.hidden, &self.logits];
        4 * numbers.map(Vec::capacity).iter().sum::<usize>() + self.linear.n_bytes() + self.products.n_bytes()
    }
}

impl Model<f32> {
    /// Computes `rows` (a path's rows in order of position, directly behind its cached tokens) and caches their keys
    /// and values. Then calls `read` with the number and the logits (`[vocab]`) of each row index in `wanted`, in
    /// parallel, and leaves what it returns in `results`.
    #[allow(clippy::too_many_arguments)]
    pub fn decode<R: Send>(
        &self,
        rows: &[Row],
        caches: &mut [&mut PathCache],
        pool: &mut BlockPool,
        wanted: &[usize],
        b: &mut DecodeBuffers,
        results: &mut Vec<Option<R>>,
        read: impl Fn(usize, &[f32], &mut Scratch) -> R + Sync,
    ) {
        let c = &self.config;
        let (d, f, n, team) = (c.hidden_size, c.intermediate_size, rows.len(), &*self.team);
        b.tokens.clear();
        b.tokens.extend(rows.iter().map(|r| r.token));
        b.slots.clear();
        for row in rows {
            let cache = &mut *caches[row.path];
            debug_assert_eq!(cache.n_tokens, row.position);
            pool.push(cache);
            b.slots.extend(cache.tail());
        }
        for (buffer, width) in [(&mut b.x, d), (&mut b.normed, d), (&mut b.qkv, c.qkv_dim()), (&mut b.gate_up, 2 * f)] {
            fit(buffer, n * width);
        }
        fit(&mut b.wide, n * c.q_dim().max(f));
        gather_rows(team, self.params.matrix(self.layout.embed.clone()), d, &b.tokens, &mut b.x);
        b.scratch.resize_with(team.n_threads(), Scratch::default);
        b.attend.fit(team.n_threads());
        let plan = AttendPlan::new(rows, caches, c.group_size(), c.num_key_value_heads, team.n_threads());
        for (layer, w) in self.layout.layers.iter().enumerate() {
            rms_norm(team, &b.x, self.weight(&w.input_norm), c.rms_norm_eps, &mut b.normed);
            self.project(self.product(layer, Site::Qkv), &b.normed, n, Store::Replace, &mut b.qkv, &mut b.linear);
            if let Some(bias) = &w.qkv_bias {
                add_bias(team, &mut b.qkv, self.weight(bias));
            }
            self.prepare_rows(rows, w, &mut b.qkv);
            for ((&(block, slot), qkv), _) in b.slots.iter().zip(b.qkv.chunks_exact(c.qkv_dim())).zip(rows) {
                let (key, value) = qkv[c.q_dim()..].split_at(c.kv_dim());
                pool.write(block, slot, layer, key, value);
            }
            self.attend_rows(&plan, pool, layer, &b.qkv, &mut b.wide, &mut b.attend);
            self.project(self.product(layer, Site::Output), &b.wide, n, Store::Add, &mut b.x, &mut b.linear);
            rms_norm(team, &b.x, self.weight(&w.post_norm), c.rms_norm_eps, &mut b.normed);
            self.project(
                self.product(layer, Site::GateUp),
                &b.normed,
                n,
                Store::Replace,
                &mut b.gate_up,
                &mut b.linear,
            );
            swiglu(team, &b.gate_up, f, &mut b.wide[..n * f]);
            self.project(self.product(layer, Site::Down), &b.wide, n, Store::Add, &mut b.x, &mut b.linear);
        }
        self.read_logits(wanted, b, results, read);
    }

    /// Norm and rotation of each row's queries and keys, in place.
    fn prepare_rows(&self, rows: &[Row], w: &crate::layout::LayerRanges, qkv: &mut [f32]) {
        let (heads, width) = (self.heads(w), self.config.qkv_dim());
        let n_rows = rows_of(width);
        self.team.split((qkv, n_rows * width), |i, qkv| {
            vectorize(
                #[inline(always)]
                || {
                    for (qkv, row) in qkv.chunks_exact_mut(width).zip(&rows[i * n_rows..]) {
                        heads.prepare_row(row.position, qkv);
                    }
                },
            );
        });
    }

    fn read_logits<R: Send>(
        &self,
        wanted: &[usize],
        b: &mut DecodeBuffers,
        results: &mut Vec<Option<R>>,
        read: impl Fn(usize, &[f32], &mut Scratch) -> R + Sync,
    ) {
        /// Rows of logits held at once.
        const CHUNK: usize = 128;
        let (d, vocab) = (self.config.hidden_size, self.config.vocab_size);
        results.clear();
        results.resize_with(wanted.len(), || None);
        for (start, chunk) in (0..).step_by(CHUNK).zip(wanted.chunks(CHUNK)) {
            let n = chunk.len();
            fit(&mut b.normed, n * d);
            b.hidden.clear();
            for &i in chunk {
                b.hidden.extend_from_slice(&b.x[i * d..][..d]);
            }
            let norm = self.weight(&self.layout.final_norm);
            rms_norm(&self.team, &b.hidden, norm, self.config.rms_norm_eps, &mut b.normed[..n * d]);
            fit(&mut b.logits, n * vocab);
            let packed = self.packed.as_ref().map(|packed| &packed.head);
            let weight = Weight { matrix: self.params.matrix(self.layout.head.clone()), packed };
            let out = Columns { data: &mut b.logits, width: vocab, range: 0..vocab };
            product::forward(out, Store::Replace, &b.normed[..n * d], n, weight, self.how(), &mut b.products);
            let (logits, results) = (&b.logits, &mut results[start..start + n]);
            self.team.split_with(&mut b.scratch, (results, 1), |scratch, i, result| {
                result[0] = Some(read(start + i, &logits[i * vocab..][..vocab], scratch));
            });
        }
    }
}
