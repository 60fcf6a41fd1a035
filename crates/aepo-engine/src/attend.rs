//! What does each new token read of its own path? Attention over the cached keys and values.
//!
//! A path's keys are met 64 positions at a time, a *chunk*, first ones first, with a running maximum and sum. Which keys
//! are a chunk depends on positions alone, and so do all sums, so that a path's bits do not depend on its company. Paths
//! that share a chunk's blocks read it together: the rows of a step are sorted by their blocks, so that those that share
//! more stand closer, and many rows over one chunk go through the tiles of training, sixteen queries to a vector. Where
//! few rows are left, each goes on alone, sixteen keys to a vector: the same operations in the same order.

mod alone;

use std::ops::Range;

use crate::cache::{BLOCK, BlockPool, PathCache};
use crate::decode::Row;
use crate::kernels::attention::{Keys, QueryTile, Strip};
use crate::kernels::lanes::{LANES, MAX_KEYS, Mask, Scalars};
use crate::model::Model;
use crate::real::fit;
use alone::{Block, Chunk, State};

/// Positions met at once.
const CHUNK: usize = MAX_KEYS;
/// Blocks of a chunk.
const CHUNK_BLOCKS: usize = CHUNK / BLOCK;
/// Queries of a tile at most.
const TILE_LANES: usize = 96;
/// Queries from which a chunk is read by all of them at once.
const MANY_LANES: usize = 12;

/// Who reads what together, in one step of decoding.
pub(crate) struct AttendPlan<'a> {
    rows: Vec<PlannedRow<'a>>,
    tiles: Vec<Tile>,
    /// Rows of a tile at most.
    tile_rows: usize,
}

#[derive(Clone, Copy)]
struct PlannedRow<'a> {
    /// Its index in the step.
    index: usize,
    /// Of its token.
    position: usize,
    blocks: &'a [u32],
}

/// Rows that one task computes.
struct Tile {
    /// Of the plan.
    rows: Range<usize>,
    /// In the order in which they are done.
    reads: Vec<Read>,
}

/// Rows of a tile meet a chunk of keys.
struct Read {
    chunk: usize,
    /// Of the tile; all have the same blocks in this chunk.
    rows: Range<usize>,
    /// Whether all at once or one after the other.
    is_together: bool,
}

/// Numbers that decoding's attention holds for each thread.
pub(crate) fn n_numbers(group: usize, head_dim: usize) -> usize {
    let lanes = TILE_LANES.div_ceil(group) * group;
    QueryTile::<f32>::n_numbers(lanes, head_dim) + lanes * (2 * head_dim + 4)
}

impl<'a> AttendPlan<'a> {
    /// For `rows` of paths with these caches, whose query heads share keys in groups of `group`, on so many threads.
    pub(crate) fn new(
        rows: &[Row],
        caches: &'a [&mut PathCache],
        group: usize,
        n_kv: usize,
        n_threads: usize,
    ) -> AttendPlan<'a> {
        let row = |(index, row): (usize, &Row)| PlannedRow {
            index,
            position: row.position,
            blocks: &caches[row.path].blocks[..=row.position / BLOCK],
        };
        let mut rows: Vec<PlannedRow<'a>> = rows.iter().enumerate().map(row).collect();
        rows.sort_unstable_by(|a, b| {
            a.blocks.cmp(b.blocks).then(a.position.cmp(&b.position)).then(a.index.cmp(&b.index))
        });
        // Enough tiles for all threads, and yet whole vectors.
        let wanted = rows.len() * n_kv / (4 * n_threads);
        let n_rows = wanted.clamp(LANES.div_ceil(group), TILE_LANES.div_ceil(group));
        let tile = |start: usize| {
            let range = start..(start + n_rows).min(rows.len());
            Tile { reads: reads(&rows[range.clone()], group), rows: range }
        };
        let tiles = (0..rows.len()).step_by(n_rows).map(tile).collect();
        AttendPlan { rows, tiles, tile_rows: n_rows }
    }
}

fn reads(rows: &[PlannedRow<'_>], group: usize) -> Vec<Read> {
    let n_chunks = rows.iter().map(|r| r.blocks.len().div_ceil(CHUNK_BLOCKS)).max().unwrap_or(0);
    let mut is_alone = vec![false; rows.len()];
    let mut reads = Vec::new();
    for chunk in 0..n_chunks {
        let mut start = 0;
        while start < rows.len() {
            if !rows[start].reaches(chunk) {
                start += 1;
                continue;
            }
            // The longest list of the chunk's blocks so far, which all of these rows begin.
            let mut blocks = rows[start].chunk(chunk);
            let mut same = 1;
            for row in rows[start + 1..].iter().take_while(|row| row.reaches(chunk)) {
                let own = row.chunk(chunk);
                if own.iter().zip(blocks).any(|(a, b)| a != b) {
                    break;
                }
                blocks = if own.len() > blocks.len() { own } else { blocks };
                same += 1;
            }
            let range = start..start + same;
            // Once alone a row stays so, since what it has read then stands in another place.
            let is_together = same * group >= MANY_LANES && !is_alone[range.clone()].contains(&true);
            is_alone[range.clone()].fill(!is_together);
            reads.push(Read { chunk, rows: range, is_together });
            start += same;
        }
    }
    reads
}

impl PlannedRow<'_> {
    fn reaches(&self, chunk: usize) -> bool {
        self.position >= chunk * CHUNK
    }

    fn chunk(&self, chunk: usize) -> &[u32] {
        &self.blocks[chunk * CHUNK_BLOCKS..self.blocks.len().min((chunk + 1) * CHUNK_BLOCKS)]
    }
}

/// Buffers, reused from step to step.
#[derive(Default)]
pub(crate) struct AttendBuffers {
    /// `[tiles, key heads][rows of a tile][group · head_dim]`
    tiles: Vec<f32>,
    scratch: Vec<Scratch>,
}

impl AttendBuffers {
    /// Buffers for each of so many threads.
    pub(crate) fn fit(&mut self, n_threads: usize) {
        self.scratch.resize_with(n_threads, Scratch::default);
    }
}

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    tile: QueryTile<f32>,
    /// `[lanes]`, positions that lanes of a read see.
    first: Vec<i32>,
    last: Vec<i32>,
    /// Of rows that read alone, `[lanes][head_dim]`: queries over `√head_dim`, and `Σ exp(s − top)·v`.
    queries: Vec<f32>,
    outputs: Vec<f32>,
    /// `[lanes]`
    top: Vec<f32>,
    sum: Vec<f32>,
    /// `[rows]`
    is_alone: Vec<bool>,
}

impl Model<f32> {
    /// Attention of each row over its own path, `out`: `[n, q_dim]`.
    pub(crate) fn attend_rows(
        &self,
        plan: &AttendPlan<'_>,
        pool: &BlockPool,
        layer: usize,
        qkv: &[f32],
        out: &mut [f32],
        b: &mut AttendBuffers,
    ) {
        let c = &self.config;
        let (group, hd, n_kv) = (c.group_size(), c.head_dim, c.num_key_value_heads);
        let (n_tiles, width) = (plan.tiles.len(), group * hd);
        // Of each tile and key head there is a chunk, so that tasks write apart; rows are put in their places below.
        // Rows of later positions read more: they come first.
        let chunk = plan.tile_rows * width;
        let at = |tile: usize, kv: usize| ((n_tiles - 1 - tile) * n_kv + kv) * chunk;
        fit(&mut b.tiles, n_tiles * n_kv * chunk);
        self.team.split_with(&mut b.scratch, (&mut b.tiles[..], chunk), |scratch, i, out| {
            let (tile, kv) = (&plan.tiles[n_tiles - 1 - i / n_kv], i % n_kv);
            let rows = &plan.rows[tile.rows.clone()];
            let queries = |row: &PlannedRow<'_>| &qkv[row.index * c.qkv_dim() + kv * width..][..width];
            let window = c.window(layer).unwrap_or(usize::MAX);
            let keys = |block: u32| pool.read(block, layer, kv);
            attend(rows, &tile.reads, group, hd, window, queries, keys, &mut out[..rows.len() * width], scratch);
        });
        for (i, tile) in plan.tiles.iter().enumerate() {
            for kv in 0..n_kv {
                for (row, from) in plan.rows[tile.rows.clone()].iter().zip(b.tiles[at(i, kv)..].chunks_exact(width)) {
                    out[row.index * c.q_dim() + kv * width..][..width].copy_from_slice(from);
                }
            }
        }
    }
}

/// One tile and one key head. `queries` gives a row's `[group][head_dim]`, `keys` a block's keys and values; `out`:
/// `[rows][group][head_dim]`.
#[allow(clippy::too_many_arguments)]
fn attend<'a>(
    rows: &[PlannedRow<'_>],
    reads: &[Read],
    group: usize,
    hd: usize,
    window: usize,
    queries: impl Fn(&PlannedRow<'_>) -> &'a [f32],
    keys: impl Fn(u32) -> (&'a [f32], &'a [f32]) + Copy,
    out: &mut [f32],
    s: &mut Scratch,
) {
    let lanes = rows.len() * group;
    let scale = 1.0 / (hd as f32).sqrt();
    for buffer in [&mut s.queries, &mut s.outputs] {
        fit(buffer, lanes * hd);
    }
    s.outputs.fill(0.0);
    s.sum.clear();
    s.sum.resize(lanes, 0.0);
    s.top.clear();
    s.top.resize(lanes, QueryTile::<f32>::LOWEST as f32);
    s.is_alone.clear();
    s.is_alone.resize(rows.len(), false);
    let any_together = reads.iter().any(|read| read.is_together);
    if any_together {
        s.tile.begin(lanes, hd);
    }
    for (i, row) in rows.iter().enumerate() {
        let to = &mut s.queries[i * group * hd..][..group * hd];
        if any_together {
            s.tile.set_queries(i * group, queries(row));
        }
        to.iter_mut().zip(queries(row)).for_each(|(to, &x)| *to = x * scale);
    }
    for read in reads {
        let start = read.chunk * CHUNK;
        let first_seen = |row: &PlannedRow<'_>| (row.position + 1).saturating_sub(window);
        let sees = |row: &PlannedRow<'_>| first_seen(row) < start + CHUNK;
        if read.is_together {
            let Some(last) = rows[read.rows.clone()].iter().filter(|r| sees(r)).max_by_key(|r| r.position) else {
                continue;
            };
            let n_keys = (last.position + 1 - start).min(CHUNK);
            let covered = read.rows.start * group / LANES * LANES
                ..(read.rows.end * group).next_multiple_of(LANES).min(lanes.next_multiple_of(LANES));
            s.first.clear();
            s.last.clear();
            for lane in covered.clone() {
                let row = Some(lane / group).filter(|i| read.rows.contains(i)).map(|i| &rows[i]);
                s.first.push(row.map_or(i32::MAX, |row| first_seen(row) as i32));
                s.last.push(row.map_or(-1, |row| row.position as i32));
            }
            let is_full =
                s.first.iter().all(|&x| x <= start as i32) && s.last.iter().all(|&x| x >= (start + n_keys - 1) as i32);
            let mask = match is_full {
                true => Mask::Full,
                false => Mask::Between { start: start as i32, first: &s.first, last: &s.last },
            };
            let blocks = last.chunk(read.chunk);
            let parts = |_: &Strip| {
                (0..n_keys).step_by(BLOCK).zip(blocks).map(|(first, &block)| {
                    let (keys, values) = keys(block);
                    (
                        Keys {
                            keys: Scalars { data: keys, row: 1, step: BLOCK },
                            values,
                            n: BLOCK.min(n_keys - first),
                        },
                        first,
                    )
                })
            };
            let strip = Strip { lane: covered.start, n_lanes: covered.len(), keys: 0..n_keys };
            s.tile.read(covered, &[strip], parts, n_keys, mask);
            continue;
        }
        for i in read.rows.clone() {
            let of_row = i * group..(i + 1) * group;
            if !std::mem::replace(&mut s.is_alone[i], true) && any_together {
                let (top, sum) = (&mut s.top[of_row.clone()], &mut s.sum[of_row.clone()]);
                s.tile.take(of_row.start, &mut s.outputs[of_row.start * hd..of_row.end * hd], top, sum);
            }
            let row = &rows[i];
            if !sees(row) {
                continue;
            }
            let seen = first_seen(row).saturating_sub(start)..(row.position + 1 - start).min(CHUNK);
            let blocks_of = |row: &PlannedRow<'_>, n: usize| {
                let mut blocks: [Block<'a>; CHUNK_BLOCKS] = [(&[], &[]); CHUNK_BLOCKS];
                let ids = &row.chunk(read.chunk)[..n];
                blocks.iter_mut().zip(ids).for_each(|(block, &id)| *block = keys(id));
                blocks
            };
            let n_own = seen.end.div_ceil(BLOCK);
            let own = blocks_of(row, n_own);
            let next = rows[i + 1..read.rows.end].first();
            let n_behind = next.map_or(0, |row| row.chunk(read.chunk).len());
            let behind = next.map_or(own, |row| blocks_of(row, n_behind));
            let chunk = Chunk { hd, blocks: &own[..n_own], behind: &behind[..n_behind], seen };
            let numbers = of_row.start * hd..of_row.end * hd;
            let state = State {
                outputs: &mut s.outputs[numbers.clone()],
                tops: &mut s.top[of_row.clone()],
                sums: &mut s.sum[of_row],
            };
            alone::meet(&s.queries[numbers], &chunk, state);
        }
    }
    for (i, out) in out.chunks_exact_mut(group * hd).enumerate() {
        let of_row = i * group..(i + 1) * group;
        if !s.is_alone[i] {
            let (top, sum) = (&mut s.top[of_row.clone()], &mut s.sum[of_row.clone()]);
            s.tile.take(of_row.start, &mut s.outputs[of_row.start * hd..of_row.end * hd], top, sum);
        }
        for (lane, out) in of_row.zip(out.chunks_exact_mut(hd)) {
            let inverse = 1.0 / s.sum[lane];
            out.iter_mut().zip(&s.outputs[lane * hd..]).for_each(|(to, &x)| *to = x * inverse);
        }
    }
}

#[cfg(test)]
mod tests;
