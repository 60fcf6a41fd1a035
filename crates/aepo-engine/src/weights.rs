//! In which numbers is a model kept? In full, where training may change it, or in bf16 at half the memory.
//!
//! Widening a bf16 number is exact, and every product is computed in the engine's own numbers: a model kept in bf16 is
//! the model whose matrices, norms and biases were rounded once, with the same bits in everything that is computed.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::bf16;

use crate::layout::Layout;
use crate::real::{Real, vectorize};

/// All weights of a model, in the order of its layout. A clone shares them.
#[derive(Clone, Debug)]
pub enum Weights<T> {
    /// As they are.
    Full(Arc<Vec<T>>),
    /// Rounded.
    Bf16(Arc<Narrow<T>>),
}

/// Weights in bf16.
#[derive(Debug)]
pub struct Narrow<T> {
    /// All of them.
    numbers: Vec<bf16>,
    /// Norms and biases widened again, one behind the other: they are few, and read as they are.
    vectors: Vec<T>,
    /// Where a vector of the layout lies among them.
    starts: BTreeMap<usize, usize>,
}

/// The numbers of one matrix or of several below each other.
#[derive(Clone, Copy, Debug)]
pub enum Matrix<'a, T> {
    /// As they are.
    Full(&'a [T]),
    /// Rounded.
    Bf16(&'a [bf16]),
}

impl<T: Real> Weights<T> {
    /// Weights that are kept as they are.
    #[must_use]
    pub fn full(numbers: Vec<T>) -> Weights<T> {
        Weights::Full(Arc::new(numbers))
    }

    /// Weights of a layout that have been rounded.
    #[must_use]
    pub fn narrow(layout: &Layout, numbers: Vec<bf16>) -> Weights<T> {
        let (mut vectors, mut starts) = (Vec::new(), BTreeMap::new());
        for tensor in layout.tensors.iter().filter(|t| !t.decays()) {
            starts.insert(tensor.range.start, vectors.len());
            vectors.extend(numbers[tensor.range.clone()].iter().map(|&x| T::from_bf16(x)));
        }
        Weights::Bf16(Arc::new(Narrow { numbers, vectors, starts }))
    }

    /// Number of weights.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Weights::Full(numbers) => numbers.len(),
            Weights::Bf16(narrow) => narrow.numbers.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take, shared or not.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        match self {
            Weights::Full(numbers) => size_of::<T>() * numbers.len(),
            Weights::Bf16(narrow) => 2 * narrow.numbers.len() + size_of::<T>() * narrow.vectors.len(),
        }
    }

    /// All of them, where they are kept as they are.
    #[must_use]
    pub fn numbers(&self) -> Option<&[T]> {
        match self {
            Weights::Full(numbers) => Some(numbers),
            Weights::Bf16(_) => None,
        }
    }

    /// All of them, to be changed: `None` where they are rounded, or shared with another model.
    pub fn numbers_mut(&mut self) -> Option<&mut [T]> {
        match self {
            Weights::Full(numbers) => Arc::get_mut(numbers).map(Vec::as_mut_slice),
            Weights::Bf16(_) => None,
        }
    }

    /// Matrices that lie in a range of the layout.
    #[must_use]
    pub fn matrix(&self, range: std::ops::Range<usize>) -> Matrix<'_, T> {
        match self {
            Weights::Full(numbers) => Matrix::Full(&numbers[range]),
            Weights::Bf16(narrow) => Matrix::Bf16(&narrow.numbers[range]),
        }
    }

    /// A norm's or bias's numbers; biases that follow each other in the layout may be taken together.
    #[must_use]
    pub fn vector(&self, range: std::ops::Range<usize>) -> &[T] {
        match self {
            Weights::Full(numbers) => &numbers[range],
            Weights::Bf16(narrow) => &narrow.vectors[narrow.starts[&range.start]..][..range.len()],
        }
    }
}

impl<'a, T: Real> Matrix<'a, T> {
    /// How many numbers.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Matrix::Full(numbers) => numbers.len(),
            Matrix::Bf16(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A part of it.
    #[must_use]
    pub fn part(self, range: std::ops::Range<usize>) -> Matrix<'a, T> {
        match self {
            Matrix::Full(numbers) => Matrix::Full(&numbers[range]),
            Matrix::Bf16(numbers) => Matrix::Bf16(&numbers[range]),
        }
    }

    /// Copies numbers, widened where they are rounded.
    pub fn copy_to(self, to: &mut [T]) {
        match self {
            Matrix::Full(numbers) => to.copy_from_slice(numbers),
            Matrix::Bf16(numbers) => widen(numbers, to),
        }
    }
}

fn widen<T: Real>(from: &[bf16], to: &mut [T]) {
    vectorize(
        #[inline(always)]
        || {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = T::from_bf16(from);
            }
        },
    );
}

/// A number that weights are read into.
pub trait Kept: Copy + PartialEq + Send + Sync + 'static {
    /// Rounds to it.
    fn rounded(x: f32) -> Self;
    /// Whether it is a number.
    fn is_a_number(self) -> bool;
    /// Appends `n` numbers that `fill` writes.
    fn extend<E>(to: &mut Vec<Self>, n: usize, fill: impl FnOnce(&mut [f32]) -> Result<(), E>) -> Result<(), E>;
}

impl Kept for f32 {
    fn rounded(x: f32) -> f32 {
        x
    }
    fn is_a_number(self) -> bool {
        self.is_finite()
    }
    fn extend<E>(to: &mut Vec<f32>, n: usize, fill: impl FnOnce(&mut [f32]) -> Result<(), E>) -> Result<(), E> {
        let start = to.len();
        to.resize(start + n, 0.0);
        fill(&mut to[start..])
    }
}

impl Kept for bf16 {
    fn rounded(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
    fn is_a_number(self) -> bool {
        self.is_finite()
    }
    fn extend<E>(to: &mut Vec<bf16>, n: usize, fill: impl FnOnce(&mut [f32]) -> Result<(), E>) -> Result<(), E> {
        let mut wide = vec![0.0; n];
        fill(&mut wide)?;
        to.extend(wide.into_iter().map(bf16::from_f32));
        Ok(())
    }
}
