//! How does a block apply its matrices? As they are, or with LoRA's beside them; forward, and backward to what may change.
//!
//! With LoRA, `y = x·Wᵀ + s·u·Bᵀ`, `u = x·Aᵀ`, `s = α/r`. Backward, with `v = s·dy·B`: `dx = dy·W + v·A`,
//! `dA = vᵀ·x`, `dB = s·dyᵀ·u`. Of frozen weights no gradient is computed.

use std::ops::Range;

use crate::gemm::{self, Along, Factor, Packed};
use crate::kernels::product::{self, Columns, Weight};
use crate::lora::Pair;
use crate::matmul::{How, Mat, MatMut, Store, multiply};
use crate::model::Model;
use crate::real::{Real, fit};
use crate::team::Team;
use crate::weights::Matrix;

/// A product of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Site {
    /// Queries, keys and values.
    Qkv,
    /// Output of attention.
    Output,
    /// Gate and up.
    GateUp,
    /// Output of the MLP.
    Down,
}

/// A product and its weights, where somebody has packed them for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    layer: usize,
    site: Site,
    packed: Option<&'a Packed>,
}

/// Buffers, reused from product to product.
#[derive(Debug, Default)]
pub(crate) struct Buffers<T> {
    products: gemm::Buffers,
    /// `[n, r]`
    u: Vec<T>,
    /// `[n, r]`
    v: Vec<T>,
}

impl<T> Buffers<T> {
    /// Bytes of it.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of::<T>() * (self.u.capacity() + self.v.capacity()) + self.products.n_bytes()
    }
}

/// Where gradients go.
pub(crate) enum Grads<'a, T> {
    /// Of all weights, in the order of the layout.
    All(&'a mut [T]),
    /// Of LoRA's matrices alone.
    Lora(&'a mut [T]),
}

impl<T> Grads<'_, T> {
    /// The gradient of weights of the model's own layout; `None` where they are frozen.
    pub(crate) fn of(&mut self, range: &Range<usize>) -> Option<&mut [T]> {
        match self {
            Grads::All(grads) => Some(&mut grads[range.clone()]),
            Grads::Lora(_) => None,
        }
    }
}

impl<T: Real> Model<T> {
    /// How products are made.
    pub(crate) fn how(&self) -> How<'_> {
        How { arithmetic: self.arithmetic, team: &self.team }
    }

    /// Where a product's weights are, the width of what goes in, and what LoRA adds.
    pub(crate) fn site(&self, layer: usize, site: Site) -> (Range<usize>, usize, &[Pair]) {
        let (w, c) = (&self.layout.layers[layer], &self.config);
        let pairs = self.lora.as_ref().map(|lora| &lora.layout.layers[layer]);
        match site {
            Site::Qkv => (w.qkv.clone(), c.hidden_size, pairs.map_or(&[], |p| &p.qkv)),
            Site::Output => (w.o.clone(), c.q_dim(), pairs.map_or(&[], |p| &p.o)),
            Site::GateUp => (w.gate_up.clone(), c.hidden_size, pairs.map_or(&[], |p| &p.gate_up)),
            Site::Down => (w.down.clone(), c.intermediate_size, pairs.map_or(&[], |p| &p.down)),
        }
    }

    /// A product of few rows: its weights are packed where sampling has done that.
    pub(crate) fn product(&self, layer: usize, site: Site) -> Product<'_> {
        Product { layer, site, packed: self.packed.as_ref().map(|packed| packed.of(layer, site)) }
    }

    /// A product of rows in many parts, forward (with weights along [`Along::Inner`]) or backward (along the other
    /// dimension): its weights are packed into `panels`, unless sampling has done that.
    pub(crate) fn product_of_parts<'a>(
        &'a self,
        layer: usize,
        site: Site,
        along: Along,
        panels: &'a mut Packed,
    ) -> Product<'a> {
        let done = self.product(layer, site);
        if done.packed.is_some() && along == Along::Inner {
            return done;
        }
        let (range, d_in, _) = self.site(layer, site);
        let (d_out, matrix) = (range.len() / d_in, self.params.matrix(range));
        let packed = product::numbers(matrix).map(|numbers| {
            let (outer, inner) = if along == Along::Inner { (d_out, d_in) } else { (d_in, d_out) };
            panels.fill(Factor::new(numbers, outer, inner, d_in, along), self.arithmetic, &self.team);
            &*panels
        });
        Product { layer, site, packed }
    }

    /// `y = x·W'ᵀ` or `y += x·W'ᵀ` for `n` rows.
    pub(crate) fn project(
        &self,
        product: Product<'_>,
        x: &[T],
        n: usize,
        store: Store,
        y: &mut [T],
        b: &mut Buffers<T>,
    ) {
        let (range, d_in, pairs) = self.site(product.layer, product.site);
        let d_out = range.len() / d_in;
        let (x, y) = (&x[..n * d_in], &mut y[..n * d_out]);
        let columns = Columns { data: &mut *y, width: d_out, range: 0..d_out };
        let weight = Weight { matrix: self.params.matrix(range), packed: product.packed };
        product::forward(columns, store, x, n, weight, self.how(), &mut b.products);
        for pair in pairs {
            let (params, rank, scale) = self.lora_parts();
            self.lora_down(params, pair, x, n, rank, b);
            scale_by(&self.team, &mut b.u, scale);
            let columns = Columns { data: &mut *y, width: d_out, range: pair.columns.clone() };
            let up = Matrix::Full(&params[pair.b.clone()]);
            product::forward(columns, Store::Add, &b.u, n, up.into(), self.how(), &mut b.products);
        }
    }

    /// Overwrites `dx` with the gradient of what went in, and adds to that of what may change.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn project_backward(
        &self,
        product: Product<'_>,
        x: &[T],
        n: usize,
        dy: &[T],
        dx: &mut [T],
        grads: &mut Grads<'_, T>,
        b: &mut Buffers<T>,
    ) {
        let (range, d_in, pairs) = self.site(product.layer, product.site);
        let d_out = range.len() / d_in;
        let (x, dy) = (&x[..n * d_in], &dy[..n * d_out]);
        let weight = Weight { matrix: self.params.matrix(range.clone()), packed: product.packed };
        product::backward(dx, dy, n, weight, d_out, self.how(), &mut b.products);
        let rows = Mat::new(x, n, d_in);
        match grads {
            Grads::All(grads) => {
                let dw = MatMut::new(&mut grads[range], d_out, d_in);
                multiply(dw, Store::Add, Mat::new(dy, n, d_out).t(), rows, self.how(), &mut b.products);
            }
            Grads::Lora(grads) => {
                for pair in pairs {
                    let (params, rank, scale) = self.lora_parts();
                    let columns = pair.columns.len();
                    let dy = Mat::strided(&dy[pair.columns.start..], n, columns, d_out);
                    self.lora_down(params, pair, x, n, rank, b);
                    scale_by(&self.team, &mut b.u, scale);
                    let db = MatMut::new(&mut grads[pair.b.clone()], columns, rank);
                    multiply(db, Store::Add, dy.t(), Mat::new(&b.u, n, rank), self.how(), &mut b.products);
                    fit(&mut b.v, n * rank);
                    let up = Mat::new(&params[pair.b.clone()], columns, rank);
                    multiply(MatMut::new(&mut b.v, n, rank), Store::Replace, dy, up, self.how(), &mut b.products);
                    scale_by(&self.team, &mut b.v, scale);
                    let v = Mat::new(&b.v, n, rank);
                    let da = MatMut::new(&mut grads[pair.a.clone()], rank, d_in);
                    multiply(da, Store::Add, v.t(), rows, self.how(), &mut b.products);
                    let down = Mat::new(&params[pair.a.clone()], rank, d_in);
                    multiply(MatMut::new(dx, n, d_in), Store::Add, v, down, self.how(), &mut b.products);
                }
            }
        }
    }

    /// `u = x·Aᵀ`
    fn lora_down(&self, params: &[T], pair: &Pair, x: &[T], n: usize, rank: usize, b: &mut Buffers<T>) {
        fit(&mut b.u, n * rank);
        let columns = Columns { data: &mut b.u, width: rank, range: 0..rank };
        let down = Matrix::Full(&params[pair.a.clone()]);
        product::forward(columns, Store::Replace, x, n, down.into(), self.how(), &mut b.products);
    }

    /// LoRA's numbers, rank and factor; nothing where there is no LoRA, and then there are no pairs either.
    fn lora_parts(&self) -> (&[T], usize, T) {
        match &self.lora {
            Some(lora) => (&lora.params, lora.spec.rank, T::of(lora.spec.scale())),
            None => (&[], 0, T::ZERO),
        }
    }
}

fn scale_by<T: Real>(team: &Team, x: &mut [T], factor: T) {
    team.split((x, 1 << 14), |_, x| x.iter_mut().for_each(|x| *x = *x * factor));
}

#[cfg(test)]
mod tests;
