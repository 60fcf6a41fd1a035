//! How do gradients of attention come back? Block by block, from the saved log-sum-exp.
//!
//! Keys are cut into *spans*, and queries into chunks at the same tokens. A task is one key head, one span and one
//! chunk; tasks whose chunk lies equally far behind their span write to different places and run together, nearest
//! first. So every gradient is a sum in one order, whatever the number of threads, and nobody needs a sum of his own.

use std::ops::Range;

use super::visible::{KEY_BLOCK, Strip, Visibility, Walk};
use super::{AttentionShape, rows, rows_of};
use crate::kernels::lanes::{LANES, Mask, Output, Scalars, Start, Vectors, product, softmax_backward, transpose};
use crate::real::{Real, dot, fit, vectorize};
use crate::team::Team;

/// Tokens of a span at least.
const SPAN: usize = 512;
/// Spans at most.
const MAX_SPANS: usize = 16;

/// The forward pass's inputs and results, and the gradient of the results.
#[derive(Clone, Copy)]
pub struct Saved<'a, T> {
    /// `[n_q + 2·n_kv][n][hd]`
    pub heads: &'a [T],
    /// `[n_q][n][hd]`
    pub o: &'a [T],
    /// `[n_q][n]`
    pub lse: &'a [T],
    /// `[n_q][n][hd]`
    pub d_o: &'a [T],
}

/// One key head, one span of keys, one chunk of queries.
struct Task<'a, T> {
    kv: usize,
    keys: Range<usize>,
    blocks: &'a [Range<usize>],
    /// Whether nothing has been written to the outputs.
    is_first: bool,
    /// Of each query head of the group, the chunk's rows.
    dq: Vec<&'a mut [T]>,
    /// The span's rows.
    dk: &'a mut [T],
    dv: &'a mut [T],
}

pub fn backward<T: Real>(
    team: &Team,
    visible: &Visibility,
    shape: AttentionShape,
    saved: Saved<'_, T>,
    dheads: &mut [T],
) {
    let (n, hd, group) = (visible.n_tokens(), shape.head_dim, shape.n_q / shape.n_kv);
    if n == 0 {
        return;
    }
    let blocks = visible.query_blocks(shape.block_rows());
    let spans = spans(&blocks, n);
    let bounds: Vec<Range<usize>> = spans.iter().map(|s| blocks[s.start].start..blocks[s.end - 1].end).collect();
    let (dq, dkv) = dheads.split_at_mut(shape.n_q * n * hd);
    let (dk, dv) = dkv.split_at_mut(shape.n_kv * n * hd);
    let mut scratch: Vec<Scratch<T>> = (0..team.n_threads()).map(|_| Scratch::default()).collect();
    for distance in 0..spans.len() {
        let mut tasks = Vec::new();
        let heads =
            dq.chunks_exact_mut(group * n * hd).zip(dk.chunks_exact_mut(n * hd)).zip(dv.chunks_exact_mut(n * hd));
        for (kv, ((dq, dk), dv)) in heads.enumerate() {
            let mut dq: Vec<_> = dq.chunks_exact_mut(n * hd).map(|dq| split(dq, &bounds, hd).skip(distance)).collect();
            for (i, (dk, dv)) in
                split(dk, &bounds, hd).zip(split(dv, &bounds, hd)).enumerate().take(spans.len() - distance)
            {
                tasks.push(Task {
                    kv,
                    keys: bounds[i].clone(),
                    blocks: &blocks[spans[i + distance].clone()],
                    is_first: distance == 0,
                    dq: dq.iter_mut().filter_map(Iterator::next).collect(),
                    dk,
                    dv,
                });
            }
        }
        team.split_with(&mut scratch, (&mut tasks[..], 1), |scratch, _, task| {
            run(visible, shape, saved, &mut task[0], scratch);
        });
    }
}

/// Which blocks of queries make up each span.
fn spans(blocks: &[Range<usize>], n: usize) -> Vec<Range<usize>> {
    let wanted = SPAN.max(n.div_ceil(MAX_SPANS));
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for (i, block) in blocks.iter().enumerate() {
        if block.end - blocks[start].start >= wanted || i + 1 == blocks.len() {
            spans.push(start..i + 1);
            start = i + 1;
        }
    }
    spans
}

fn split<'a, T>(mut x: &'a mut [T], bounds: &[Range<usize>], width: usize) -> impl Iterator<Item = &'a mut [T]> {
    bounds.iter().map(move |bounds| {
        let (part, rest) = std::mem::take(&mut x).split_at_mut(bounds.len() * width);
        x = rest;
        part
    })
}

/// Buffers of a task. Rows are `width` numbers, the head's width filled up to a multiple of [`LANES`].
#[derive(Default)]
struct Scratch<T> {
    walk: Walk,
    /// `[head_dim][lanes]`, queries over `√head_dim`.
    queries_t: Vec<T>,
    /// `[head_dim][lanes]`
    d_o_t: Vec<T>,
    /// `[lanes][width]`, queries over `√head_dim`.
    queries: Vec<T>,
    /// `[lanes][width]`
    d_o: Vec<T>,
    /// `[lanes]`
    lse: Vec<T>,
    /// `[lanes]`, `Σ_d do·o`.
    delta: Vec<T>,
    /// `[KEY_BLOCK][lanes]`
    scores: Vec<T>,
    /// `[KEY_BLOCK][lanes]`
    dscores: Vec<T>,
    /// `[head_dim][lanes]`
    dq_t: Vec<T>,
    /// `[KEY_BLOCK][width]`, where heads are no whole vectors.
    dkeys: Vec<T>,
    /// `[rows][head_dim]`
    rows: Vec<T>,
    strips: Vec<Strip>,
}

/// Numbers that a thread holds beside those of the forward pass.
pub fn n_numbers(lanes: usize, head_dim: usize) -> usize {
    let width = head_dim.next_multiple_of(LANES);
    lanes * (3 * head_dim + 2 * width + 2 * KEY_BLOCK + 2) + KEY_BLOCK * (width + head_dim)
}

fn run<T: Real>(
    visible: &Visibility,
    shape: AttentionShape,
    saved: Saved<'_, T>,
    task: &mut Task<'_, T>,
    s: &mut Scratch<T>,
) {
    let (n, hd, group) = (visible.n_tokens(), shape.head_dim, shape.n_q / shape.n_kv);
    let k = rows(saved.heads, shape.n_q + task.kv, n, hd);
    let v = rows(saved.heads, shape.n_q + shape.n_kv + task.kv, n, hd);
    if task.is_first {
        task.dk.fill(T::ZERO);
        task.dv.fill(T::ZERO);
        task.dq.iter_mut().for_each(|dq| dq.fill(T::ZERO));
    }
    let first = task.blocks[0].start;
    let width = hd.next_multiple_of(LANES);
    let mut walk = std::mem::take(&mut s.walk);
    for block in task.blocks {
        walk.begin(visible, block.clone(), shape.window, &task.keys);
        let n_rows = block.len().next_multiple_of(LANES);
        let lanes = group * n_rows;
        let mut is_loaded = false;
        while let Some(block_keys) = walk.next(visible) {
            if !is_loaded {
                s.load(shape, saved, n, task.kv * group..(task.kv + 1) * group, block);
                is_loaded = true;
            }
            block_keys.strips(lanes, &mut s.strips);
            for strip in &s.strips {
                for (tokens, first) in block_keys.parts(strip) {
                    for (data, from, to) in [(k, &s.queries_t, &mut s.scores), (v, &s.d_o_t, &mut s.dscores)] {
                        let a = Scalars { data: rows_of(data, &tokens, hd), row: hd, step: 1 };
                        let data = &mut to[first * lanes + strip.lane..];
                        let out = Output { data, stride: lanes, n_rows: tokens.len(), width: strip.n_lanes };
                        product(out, Start::Zero, a, Vectors { data: &from[strip.lane..], stride: lanes }, hd);
                    }
                }
            }
            let mask = match block_keys.is_full {
                true => Mask::Full,
                false => Mask::Rows { bits: &block_keys.bits, n_rows },
            };
            softmax_backward(&mut s.scores, &mut s.dscores, block_keys.bits.len(), mask, &s.lse, &s.delta);
            for strip in &s.strips {
                for (tokens, first) in block_keys.parts(strip) {
                    let at = first * lanes + strip.lane;
                    let a = Scalars { data: rows_of(k, &tokens, hd), row: 1, step: hd };
                    let b = Vectors { data: &s.dscores[at..], stride: lanes };
                    let data = &mut s.dq_t[strip.lane..];
                    let out = Output { data, stride: lanes, n_rows: hd, width: strip.n_lanes };
                    product(out, Start::Add, a, b, tokens.len());
                    let local = (tokens.start - task.keys.start) * hd..(tokens.end - task.keys.start) * hd;
                    for (from, by, to) in [
                        (&s.scores, &s.d_o, &mut task.dv[local.clone()]),
                        (&s.dscores, &s.queries, &mut task.dk[local]),
                    ] {
                        let a = Scalars { data: &from[at..], row: lanes, step: 1 };
                        let by = &by[strip.lane * width..];
                        add_rows(to, hd, tokens.len(), a, by, strip.n_lanes, &mut s.dkeys);
                    }
                }
            }
        }
        if is_loaded {
            let scale = T::of(1.0 / (hd as f64).sqrt());
            for (g, dq) in task.dq.iter_mut().enumerate() {
                let dq = &mut dq[(block.start - first) * hd..(block.end - first) * hd];
                fit(&mut s.rows, dq.len());
                transpose(&s.dq_t[g * n_rows..], lanes, (hd, block.len()), scale, &mut s.rows, hd);
                dq.iter_mut().zip(&s.rows).for_each(|(to, &x)| *to += x);
            }
        }
    }
    s.walk = walk;
}

/// `to(i, d) += Σ_t a(i, t)·by(t, d)`.
fn add_rows<T: Real>(
    to: &mut [T],
    hd: usize,
    n_rows: usize,
    a: Scalars<'_, T>,
    by: &[T],
    depth: usize,
    wide: &mut Vec<T>,
) {
    let width = hd.next_multiple_of(LANES);
    let b = Vectors { data: by, stride: width };
    if width == hd {
        product(Output { data: to, stride: hd, n_rows, width }, Start::Add, a, b, depth);
        return;
    }
    fit(wide, n_rows * width);
    product(Output { data: wide, stride: width, n_rows, width }, Start::Zero, a, b, depth);
    for (to, wide) in to.chunks_exact_mut(hd).zip(wide.chunks_exact(width)) {
        for (to, &x) in to.iter_mut().zip(wide) {
            *to += x;
        }
    }
}

impl<T: Real> Scratch<T> {
    /// Brings in a block of queries of some heads: lane `g·n_rows + i` is head `g`'s query `i`. Lanes without a query
    /// have gradients of 0 and so add nothing.
    fn load(
        &mut self,
        shape: AttentionShape,
        saved: Saved<'_, T>,
        n: usize,
        heads: Range<usize>,
        block: &Range<usize>,
    ) {
        let hd = shape.head_dim;
        let width = hd.next_multiple_of(LANES);
        let n_rows = block.len().next_multiple_of(LANES);
        let lanes = heads.len() * n_rows;
        for (buffer, len) in [
            (&mut self.queries_t, hd * lanes),
            (&mut self.d_o_t, hd * lanes),
            (&mut self.queries, lanes * width),
            (&mut self.d_o, lanes * width),
            (&mut self.lse, lanes),
            (&mut self.delta, lanes),
            (&mut self.dq_t, hd * lanes),
        ] {
            fit(buffer, len);
            buffer.fill(T::ZERO);
        }
        fit(&mut self.scores, KEY_BLOCK * lanes);
        fit(&mut self.dscores, KEY_BLOCK * lanes);
        let scale = T::of(1.0 / (hd as f64).sqrt());
        for (g, head) in heads.enumerate() {
            let lane = g * n_rows;
            let of = |x| &rows(x, head, n, hd)[block.start * hd..block.end * hd];
            let (q, o, d_o) = (of(saved.heads), of(saved.o), of(saved.d_o));
            transpose(q, hd, (block.len(), hd), scale, &mut self.queries_t[lane..], lanes);
            transpose(d_o, hd, (block.len(), hd), T::ONE, &mut self.d_o_t[lane..], lanes);
            self.lse[lane..lane + block.len()]
                .copy_from_slice(&saved.lse[head * n + block.start..head * n + block.end]);
            let to = &mut self.queries[lane * width..];
            for (to, q) in to.chunks_exact_mut(width).zip(q.chunks_exact(hd)) {
                to.iter_mut().zip(q).for_each(|(to, &x)| *to = x * scale);
            }
            let to = &mut self.d_o[lane * width..];
            for (to, d_o) in to.chunks_exact_mut(width).zip(d_o.chunks_exact(hd)) {
                to[..hd].copy_from_slice(d_o);
            }
            let delta = &mut self.delta[lane..];
            vectorize(
                #[inline(always)]
                || {
                    for (delta, (o, d_o)) in delta.iter_mut().zip(o.chunks_exact(hd).zip(d_o.chunks_exact(hd))) {
                        *delta = dot(o, d_o);
                    }
                },
            );
        }
    }
}
