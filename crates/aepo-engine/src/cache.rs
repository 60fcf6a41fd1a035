//! Where do keys and values live? In reference-counted blocks of sixteen tokens; a fork shares blocks, copies nothing.
//!
//! A block holds every layer and head of its tokens. Keys are stored transposed (`[head_dim][16]`) so that one query
//! meets sixteen keys in one vector; values are rows. A path's block `i` holds its positions from `16·i` on, whoever
//! shares it: so what a path reads together, and in which order, is the same in any company. A fork inside a block
//! takes that block too, and gets a copy of its own before it writes: nobody ever writes where somebody else reads.

use crate::config::ModelConfig;

/// Tokens in a block.
pub const BLOCK: usize = 16;

/// All blocks of an engine.
pub struct BlockPool {
    n_kv: usize,
    head_dim: usize,
    block_len: usize,
    blocks: Vec<Box<[f32]>>,
    n_refs: Vec<u32>,
    free: Vec<u32>,
}

/// The cache of one path.
#[derive(Debug, Default)]
pub struct PathCache {
    /// Indices in the pool, in order of position; all are full but the last one.
    pub blocks: Vec<u32>,
    /// Tokens cached.
    pub n_tokens: usize,
    /// Whether this path may write behind its tokens in its last block.
    owns_tail: bool,
}

impl BlockPool {
    /// An empty pool.
    #[must_use]
    pub fn new(config: &ModelConfig) -> Self {
        let per_head = 2 * config.head_dim * BLOCK;
        BlockPool {
            n_kv: config.num_key_value_heads,
            head_dim: config.head_dim,
            block_len: config.num_hidden_layers * config.num_key_value_heads * per_head,
            blocks: Vec::new(),
            n_refs: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Makes room for one more token at the end of `path`; [`BlockPool::write`] then fills it layer by layer.
    pub fn push(&mut self, path: &mut PathCache) {
        if path.n_tokens.is_multiple_of(BLOCK) {
            path.blocks.push(self.allocate());
        } else if let Some(last) = path.blocks.last_mut()
            && !path.owns_tail
            && self.n_refs[*last as usize] > 1
        {
            // Its owner goes on in it, or another fork does.
            let copy = self.allocate();
            let [from, to] = [*last, copy].map(|block| block as usize);
            let held = std::mem::take(&mut self.blocks[from]);
            self.blocks[to].copy_from_slice(&held);
            self.blocks[from] = held;
            self.give_back(*last);
            *last = copy;
        }
        path.owns_tail = true;
        path.n_tokens += 1;
    }

    /// Stores one token's key and value rows (`[n_kv · head_dim]` each) of `layer` at `slot` of `block`.
    pub fn write(&mut self, block: u32, slot: usize, layer: usize, key: &[f32], value: &[f32]) {
        let hd = self.head_dim;
        for head in 0..self.n_kv {
            let offset = (layer * self.n_kv + head) * 2 * hd * BLOCK;
            let (keys, values) = self.blocks[block as usize][offset..][..2 * hd * BLOCK].split_at_mut(hd * BLOCK);
            for (d, &x) in key[head * hd..][..hd].iter().enumerate() {
                keys[d * BLOCK + slot] = x;
            }
            values[slot * hd..][..hd].copy_from_slice(&value[head * hd..][..hd]);
        }
    }

    /// Keys (`[hd][BLOCK]`) and values (`[BLOCK][hd]`) of one block, layer and head.
    #[inline(always)]
    pub fn read(&self, block: u32, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let len = self.head_dim * BLOCK;
        let offset = (layer * self.n_kv + head) * 2 * len;
        self.blocks[block as usize][offset..][..2 * len].split_at(len)
    }

    /// A second path over the first `n_tokens` of `path`.
    pub fn fork(&mut self, path: &PathCache, n_tokens: usize) -> PathCache {
        debug_assert!(n_tokens <= path.n_tokens);
        let blocks = path.blocks[..n_tokens.div_ceil(BLOCK)].to_vec();
        for &block in &blocks {
            self.n_refs[block as usize] += 1;
        }
        PathCache { blocks, n_tokens, owns_tail: false }
    }

    /// Gives a path's blocks back; those nobody else holds are reused.
    pub fn release(&mut self, path: PathCache) {
        for block in path.blocks {
            self.give_back(block);
        }
    }

    fn give_back(&mut self, block: u32) {
        let n = &mut self.n_refs[block as usize];
        *n -= 1;
        if *n == 0 {
            self.free.push(block);
        }
    }

    /// Bytes of all blocks, in use or not.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        4 * self.block_len * self.blocks.len()
    }

    /// Blocks in use.
    #[must_use]
    pub fn n_live(&self) -> usize {
        self.blocks.len() - self.free.len()
    }

    fn allocate(&mut self) -> u32 {
        let block = self.free.pop().unwrap_or_else(|| {
            self.blocks.push(vec![0.0; self.block_len].into_boxed_slice());
            self.n_refs.push(0);
            self.blocks.len() as u32 - 1
        });
        self.n_refs[block as usize] = 1;
        block
    }
}

impl PathCache {
    /// Block and slot of the token pushed last.
    #[must_use]
    pub fn tail(&self) -> Option<(u32, usize)> {
        self.blocks.last().map(|&block| (block, (self.n_tokens - 1) % BLOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;

    #[test]
    fn forks_share_blocks_and_never_write_into_each_other() {
        let config = crate::testing::config(Family::Llama, true);
        let (kv, mut pool) = (config.kv_dim(), BlockPool::new(&config));
        let write = |pool: &mut BlockPool, path: &mut PathCache, x: f32| {
            pool.push(path);
            let (block, slot) = path.tail().unwrap();
            for layer in 0..2 {
                pool.write(block, slot, layer, &vec![x; kv], &vec![-x; kv]);
            }
        };
        let mut a = PathCache::default();
        for i in 0..20 {
            write(&mut pool, &mut a, i as f32);
        }
        assert_eq!(pool.n_live(), 2);
        let mut b = pool.fork(&a, 18);
        assert_eq!(pool.n_live(), 2, "a fork copies nothing");
        for i in 0..20 {
            write(&mut pool, &mut a, 100.0 + i as f32);
            write(&mut pool, &mut b, 200.0 + i as f32);
        }
        let values = |pool: &BlockPool, path: &PathCache| -> Vec<f32> {
            let of = |i: usize| {
                let (keys, values) = pool.read(path.blocks[i / BLOCK], 1, 1);
                assert_eq!(keys[3 * BLOCK + i % BLOCK], -values[i % BLOCK * 8 + 3]);
                keys[i % BLOCK]
            };
            (0..path.n_tokens).map(of).collect()
        };
        let expect = |n: usize, base: f32| -> Vec<f32> {
            (0..n).map(|i| i as f32).chain((0..20).map(|i| base + i as f32)).collect()
        };
        assert_eq!(values(&pool, &a), expect(20, 100.0));
        assert_eq!(values(&pool, &b), expect(18, 200.0));
        pool.release(a);
        assert_eq!(values(&pool, &b), expect(18, 200.0));
        // With the first fork gone, the second has the blocks for itself and goes on in them.
        let mut c = pool.fork(&b, 21);
        pool.release(b);
        assert_eq!(pool.n_live(), 2);
        write(&mut pool, &mut c, 300.0);
        assert_eq!(pool.n_live(), 2);
        assert_eq!(values(&pool, &c), [&expect(18, 200.0)[..21], &[300.0]].concat());
        pool.release(c);
        assert_eq!(pool.n_live(), 0);
        let mut c = PathCache::default();
        let before = pool.blocks.len();
        write(&mut pool, &mut c, 1.0);
        assert_eq!(pool.blocks.len(), before, "blocks are reused");
    }
}
