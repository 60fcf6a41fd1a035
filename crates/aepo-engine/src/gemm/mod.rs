//! How are large matrices multiplied? From packed panels, in numbers of 32 or of 16 bits, on all threads.
//!
//! One number of a product is a chain for every 512 units of the inner dimension, whose terms are added in order, each by
//! a fused multiplication and addition, beginning with zero; and the chains are added in order to what the output holds
//! or to the first of them. So a small sum is not rounded at each term to what a large output has room for. In
//! [`Arithmetic::Bf16`] both factors are rounded to bf16 first and their products, which are exact in `f32`, are added in
//! pairs, the odd one before the even one; that is the order of AVX-512's dot product, so a processor without it gives the
//! same bits. Neither the other rows nor threads have a part in the order: a row has the same bits in any company.
//!
//! The right factor is packed into panels of [`WIDTH`] columns, `[k][WIDTH]`, of *units*: a number in `f32`, or two
//! neighbours of the inner dimension in bf16. Weights that are read often are packed once ([`Packed`]), others while
//! they are multiplied, a group of panels at a time that stays near the processor.

mod kernel;
mod pack;

use std::ops::Range;

use half::bf16;

use crate::team::Team;

pub use aepo::config::Arithmetic;

/// Columns of a panel.
pub const WIDTH: usize = 48;
/// Rows of a tile.
const HEIGHT: usize = 8;
/// Units of a chain: what is multiplied of the inner dimension before the next tile.
const DEPTH: usize = 512;
/// Panels that one task packs and multiplies: what fits beside the rows into a processor's own cache.
const GROUP: usize = 4;
/// Panels that one task multiplies at most where there are few rows.
const FAR: usize = 32;

/// Numbers in memory.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// In full.
    F32(&'a [f32]),
    /// Rounded.
    Bf16(&'a [bf16]),
}

impl Numbers<'_> {
    fn len(&self) -> usize {
        match self {
            Numbers::F32(x) => x.len(),
            Numbers::Bf16(x) => x.len(),
        }
    }
}

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// A row of the left factor or a column of the right one is contiguous.
    Inner,
    /// Neighbours are those of the outer dimension.
    Outer,
}

/// A factor: `outer` rows of the left one, or columns of the right one, with `inner` numbers each.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    numbers: Numbers<'a>,
    outer: usize,
    inner: usize,
    stride: usize,
    along: Along,
}

impl<'a> Factor<'a> {
    /// A view into `numbers`, whose lines (of `inner` numbers if these are contiguous, else of `outer`) lie `stride`
    /// apart.
    ///
    /// # Panics
    /// If the view reaches out of the slice.
    #[must_use]
    pub fn new(numbers: Numbers<'a>, outer: usize, inner: usize, stride: usize, along: Along) -> Factor<'a> {
        let (lines, len) = if along == Along::Inner { (outer, inner) } else { (inner, outer) };
        let is_empty = lines == 0 || len == 0;
        assert!(len <= stride && (is_empty || (lines - 1) * stride + len <= numbers.len()), "a view out of its slice");
        Factor { numbers, outer, inner, stride, along }
    }
}

/// 64 bytes that lie in one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// A buffer of units.
#[derive(Debug, Default)]
struct Units(Vec<Line>);

impl Units {
    /// At least `n` units; what they hold is not defined.
    fn fit(&mut self, n: usize) -> &mut [u32] {
        let lines = n.div_ceil(16);
        if self.0.len() < lines {
            self.0 = Vec::with_capacity(lines);
            crate::huge::advise(&self.0);
            self.0.resize(lines, Line::default());
        }
        // SAFETY: `Line` is sixteen `u32` without padding (its size is its alignment), so the lines of a vector are
        // `16·len` initialised `u32` in a row, of which there are `n`; the mutable borrow is handed on.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), n) }
    }

    fn all(&self) -> &[u32] {
        // SAFETY: as above, of all lines, for a shared borrow.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    fn n_bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }
}

/// A right factor in panels.
#[derive(Debug, Default)]
pub struct Packed {
    panels: Units,
    arithmetic: Arithmetic,
    outer: usize,
    inner: usize,
}

impl Packed {
    /// Packs a whole factor.
    #[must_use]
    pub fn new(factor: Factor<'_>, arithmetic: Arithmetic, team: &Team) -> Packed {
        let mut packed = Packed::default();
        packed.fill(factor, arithmetic, team);
        packed
    }

    /// Packs another factor in the place of this one.
    pub fn fill(&mut self, factor: Factor<'_>, arithmetic: Arithmetic, team: &Team) {
        let n_units = units(arithmetic, factor.inner);
        (self.arithmetic, self.outer, self.inner) = (arithmetic, factor.outer, factor.inner);
        let all = self.panels.fit(panel_units(factor.outer, n_units));
        team.split((all, (WIDTH * n_units).max(1)), |i, panel| {
            pack::pack::<WIDTH>(&factor, arithmetic, i * WIDTH, 0..n_units, panel);
        });
    }

    /// Bytes that a factor takes in panels.
    #[must_use]
    pub fn bytes_of(outer: usize, inner: usize, arithmetic: Arithmetic) -> usize {
        panel_units(outer, units(arithmetic, inner)).div_ceil(16) * size_of::<Line>()
    }

    /// Bytes of it.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.panels.n_bytes()
    }
}

/// Rows of a left factor, rounded once for several products.
#[derive(Debug, Default)]
pub struct Rows {
    units: Units,
    n_units: usize,
    outer: usize,
    inner: usize,
    arithmetic: Arithmetic,
}

impl Rows {
    /// Takes the rows of a factor, which must be contiguous, in the place of earlier ones.
    ///
    /// # Panics
    /// If they are not contiguous.
    pub fn fill(&mut self, factor: Factor<'_>, arithmetic: Arithmetic, team: &Team) {
        assert_eq!(factor.along, Along::Inner, "rows that are contiguous");
        let n_units = units(arithmetic, factor.inner);
        round(&factor, arithmetic, n_units, self.units.fit(factor.outer * n_units), team);
        (self.n_units, self.outer, self.inner, self.arithmetic) = (n_units, factor.outer, factor.inner, arithmetic);
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> RowsPart<'_> {
        assert!(rows.end <= self.outer, "rows out of their buffer");
        let units = &self.units.all()[rows.start * self.n_units..rows.end * self.n_units];
        RowsPart { units, n_units: self.n_units, outer: rows.len(), inner: self.inner, arithmetic: self.arithmetic }
    }
}

/// Rows of a left factor that were rounded before.
#[derive(Clone, Copy, Debug)]
pub struct RowsPart<'a> {
    units: &'a [u32],
    n_units: usize,
    outer: usize,
    inner: usize,
    arithmetic: Arithmetic,
}

/// The left factor of a product.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a> {
    /// As it lies in memory.
    Plain(Factor<'a>),
    /// Rounded before.
    Rows(RowsPart<'a>),
}

impl<'a> From<Factor<'a>> for Left<'a> {
    fn from(factor: Factor<'a>) -> Self {
        Left::Plain(factor)
    }
}

/// The right factor of a product.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// As it lies in memory; packed on the way.
    Plain(Factor<'a>),
    /// Packed before.
    Packed(&'a Packed),
}

/// Where a product goes: the first rows and columns of a matrix whose rows lie `stride` apart.
#[derive(Debug)]
pub struct Target<'a> {
    /// From the first number of the product on.
    pub data: &'a mut [f32],
    /// Distance of rows.
    pub stride: usize,
    /// Whether the product is added to what is there.
    pub add: bool,
}

/// Buffers, reused from product to product.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Rows of the left factor, rounded or packed.
    left: Units,
    /// Of each thread, the panels that it packs and multiplies.
    panels: Vec<Units>,
}

impl Buffers {
    /// Bytes of it.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.left.n_bytes() + self.panels.iter().map(Units::n_bytes).sum::<usize>()
    }
}

/// Units of all panels of a factor.
fn panel_units(outer: usize, n_units: usize) -> usize {
    outer.next_multiple_of(WIDTH) * n_units
}

/// Units of an inner dimension.
fn units(arithmetic: Arithmetic, inner: usize) -> usize {
    match arithmetic {
        Arithmetic::F32 => inner,
        Arithmetic::Bf16 => inner.div_ceil(2),
    }
}

/// Left factor as the kernel reads it: unit `k` of row `i` is at `i·row + k·unit` of a tile, tiles lie `tile` apart.
#[derive(Clone, Copy)]
struct Tiles<'a> {
    units: &'a [u32],
    row: usize,
    unit: usize,
    tile: usize,
}

/// The address of an output that tasks write disjoint parts of.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: `multiply` hands each task columns of its own, and no task reads or writes others.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}

/// `out = left·right` or `out += left·right`.
///
/// # Panics
/// If the shapes do not fit.
pub fn multiply<'a>(
    out: Target<'_>,
    left: impl Into<Left<'a>>,
    right: Right<'_>,
    arithmetic: Arithmetic,
    team: &Team,
    buffers: &mut Buffers,
) {
    let left = left.into();
    let (m, k) = match left {
        Left::Plain(factor) => (factor.outer, factor.inner),
        Left::Rows(rows) => (rows.outer, rows.inner),
    };
    if let Left::Rows(rows) = left {
        assert_eq!(rows.arithmetic, arithmetic, "arithmetic of rounded rows");
    }
    let (n, right_inner) = match right {
        Right::Plain(factor) => (factor.outer, factor.inner),
        Right::Packed(packed) => (packed.outer, packed.inner),
    };
    assert_eq!(k, right_inner, "inner dimensions of a product");
    if let Right::Packed(packed) = right {
        assert_eq!(packed.arithmetic, arithmetic, "arithmetic of a packed factor");
    }
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= out.stride && (m - 1) * out.stride + n <= out.data.len(), "a product out of its target");
    let n_units = units(arithmetic, k);
    let n_panels = n.div_ceil(WIDTH);
    // Where few rows meet each weight once, what counts is that a thread reads on where it is: panels in long rows. Many
    // rows want panels that stay near, and enough tasks for all.
    let (tasks_of_thread, most) = if m <= HEIGHT { (2, FAR) } else { (4, GROUP) };
    let group = n_panels.div_ceil(tasks_of_thread * team.n_threads()).clamp(1, most);
    let n_tasks = n_panels.div_ceil(group);
    let address = Shared(out.data.as_mut_ptr());
    let Buffers { left: rows_buffer, panels: panels_buffers } = buffers;
    panels_buffers.resize_with(team.n_threads().max(panels_buffers.len()), Units::default);
    let rows = match left {
        Left::Plain(factor) => prepare(&factor, arithmetic, n_units, team, rows_buffer),
        Left::Rows(rows) => Tiles { units: rows.units, row: rows.n_units, unit: 1, tile: HEIGHT * rows.n_units },
    };
    // Multiplies all rows with some panels over a part of the inner dimension; the panels' units for it lie `stride`
    // apart from panel to panel.
    let multiply = |panels: Range<usize>, depth: Range<usize>, units: &[u32], stride: usize| {
        let add = out.add || depth.start > 0;
        for tile in 0..m.div_ceil(HEIGHT) {
            let height = HEIGHT.min(m - tile * HEIGHT);
            for (i, panel) in panels.clone().enumerate() {
                let width = WIDTH.min(n - panel * WIDTH);
                // SAFETY: the assertion above says that rows `0..m` and columns `0..n` lie in the target; this tile's
                // are among them, and its columns belong to this task alone.
                unsafe {
                    let c = address.get().add(tile * HEIGHT * out.stride + panel * WIDTH);
                    let b = &units[i * stride..][..depth.len() * WIDTH];
                    let tile_out = kernel::Out { c, stride: out.stride, height, width, add };
                    kernel::tile(arithmetic, rows.at(tile, depth.start), b, tile_out);
                }
            }
        }
    };
    // An inner dimension of nothing is a part as well: its product is zero.
    let depths = || (0..n_units.max(1)).step_by(DEPTH).map(|start| start..n_units.min(start + DEPTH));
    let panels_buffers = &mut panels_buffers[..team.n_threads()];
    team.for_each_with(panels_buffers, n_tasks, |own, index| {
        let panels = index * group..n_panels.min((index + 1) * group);
        for depth in depths() {
            match right {
                Right::Packed(packed) => {
                    let units = &packed.panels.all()[(panels.start * n_units + depth.start) * WIDTH..];
                    multiply(panels.clone(), depth, units, n_units * WIDTH);
                }
                Right::Plain(factor) => {
                    let stride = depth.len() * WIDTH;
                    let own = own.fit(panels.len() * stride);
                    for (panel, own) in panels.clone().zip(own.chunks_exact_mut(stride.max(1))) {
                        pack::pack::<WIDTH>(&factor, arithmetic, panel * WIDTH, depth.clone(), own);
                    }
                    multiply(panels.clone(), depth, own, stride);
                }
            }
        }
    });
}

/// All rows of a left factor, where and how the kernel can read them.
fn prepare<'a>(
    left: &Factor<'a>,
    arithmetic: Arithmetic,
    n_units: usize,
    team: &Team,
    buffer: &'a mut Units,
) -> Tiles<'a> {
    let m = left.outer;
    match (left.along, arithmetic, left.numbers) {
        (Along::Inner, Arithmetic::F32, Numbers::F32(x)) => {
            // SAFETY: `f32` and `u32` have one size and alignment, and every bit pattern is either.
            let units = unsafe { std::slice::from_raw_parts(x.as_ptr().cast::<u32>(), x.len()) };
            Tiles { units, row: left.stride, unit: 1, tile: HEIGHT * left.stride }
        }
        (Along::Inner, ..) => {
            let all = buffer.fit(m * n_units);
            round(left, arithmetic, n_units, all, team);
            Tiles { units: all, row: n_units, unit: 1, tile: HEIGHT * n_units }
        }
        (Along::Outer, ..) => {
            let all = buffer.fit(m.next_multiple_of(HEIGHT) * n_units);
            team.split((&mut *all, (ROWS * n_units).max(1)), |chunk, tiles| {
                for (i, tile) in tiles.chunks_exact_mut(HEIGHT * n_units).enumerate() {
                    pack::pack::<HEIGHT>(left, arithmetic, chunk * ROWS + i * HEIGHT, 0..n_units, tile);
                }
            });
            Tiles { units: all, row: 1, unit: HEIGHT, tile: HEIGHT * n_units }
        }
    }
}

/// Rows that one task rounds.
const ROWS: usize = 32;

/// Writes the units of each row of a factor, one row behind the other.
fn round(factor: &Factor<'_>, arithmetic: Arithmetic, n_units: usize, to: &mut [u32], team: &Team) {
    team.split((to, (ROWS * n_units).max(1)), |chunk, rows| {
        for (i, row) in rows.chunks_exact_mut(n_units).enumerate() {
            pack::row(factor, arithmetic, chunk * ROWS + i, row);
        }
    });
}

impl<'a> Tiles<'a> {
    /// A tile from unit `start` of the inner dimension on.
    fn at(&self, tile: usize, start: usize) -> Tiles<'a> {
        let first = tile * self.tile + start * self.unit;
        Tiles { units: &self.units[first.min(self.units.len())..], ..*self }
    }
}

#[cfg(test)]
mod tests;
