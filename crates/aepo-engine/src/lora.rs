//! How is a model trained through small matrices? LoRA (arXiv 2106.09685): `W + (α/r)·B·A`, with `W` frozen.
//!
//! `A` (`[r, in]`) begins uniform in ±1/√in and `B` (`[out, r]`) at zero, as PEFT begins, so that the first step starts
//! from the model as it was. Nothing is ever merged while training: a product is `x·Wᵀ + (α/r)·(x·Aᵀ)·Bᵀ`.

use std::ops::Range;

use aepo::config::lora::Projection;
use aepo::seed::Seed;

use crate::config::ModelConfig;
use crate::gemm::{Arithmetic, Buffers};
use crate::layout::Tensor;
use crate::matmul::{How, Mat, MatMut, Store, multiply};
use crate::real::Real;
use crate::setup::LoraSpec;
use crate::team::Team;

/// `A` and `B` of one projection, and which columns of the product they add to.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// `[r, in]`
    pub a: Range<usize>,
    /// `[out, r]`
    pub b: Range<usize>,
    /// Of the fused product (q, k, v; gate, up) or of a product that stands alone.
    pub columns: Range<usize>,
}

/// The pairs of one block, by the product that they add to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerPairs {
    /// Queries, keys, values.
    pub qkv: Vec<Pair>,
    /// Output of attention.
    pub o: Vec<Pair>,
    /// Gate, up.
    pub gate_up: Vec<Pair>,
    /// Output of the MLP.
    pub down: Vec<Pair>,
}

/// Where each matrix lies in one contiguous buffer.
#[derive(Clone, Debug)]
pub struct LoraLayout {
    /// Every matrix in the order of the buffer, under PEFT's names.
    pub tensors: Vec<Tensor>,
    /// One entry a block.
    pub layers: Vec<LayerPairs>,
}

/// The matrices of a model.
#[derive(Clone, Debug)]
pub struct Lora<T> {
    /// Rank, factor and places.
    pub spec: LoraSpec,
    /// Where each matrix lies in `params`.
    pub layout: LoraLayout,
    /// All of them.
    pub params: Vec<T>,
}

/// A projection's rows and columns: its output and its input.
#[must_use]
pub fn shape(config: &ModelConfig, projection: Projection) -> (usize, usize) {
    let (d, f, q, kv) = (config.hidden_size, config.intermediate_size, config.q_dim(), config.kv_dim());
    match projection {
        Projection::Q => (q, d),
        Projection::K | Projection::V => (kv, d),
        Projection::O => (d, q),
        Projection::Gate | Projection::Up => (f, d),
        Projection::Down => (d, f),
    }
}

/// The module's name within a block.
fn module(projection: Projection) -> &'static str {
    match projection {
        Projection::Q => "self_attn.q_proj",
        Projection::K => "self_attn.k_proj",
        Projection::V => "self_attn.v_proj",
        Projection::O => "self_attn.o_proj",
        Projection::Gate => "mlp.gate_proj",
        Projection::Up => "mlp.up_proj",
        Projection::Down => "mlp.down_proj",
    }
}

/// Numbers that LoRA adds to a model: `L·r·Σ(in + out)` over its targets.
#[must_use]
pub fn n_parameters(config: &ModelConfig, spec: &LoraSpec) -> usize {
    let widths = spec.targets.projections().iter().map(|&p| shape(config, p));
    config.num_hidden_layers * spec.rank * widths.map(|(rows, columns)| rows + columns).sum::<usize>()
}

impl LoraLayout {
    /// Lays out the matrices.
    #[must_use]
    pub fn new(config: &ModelConfig, spec: &LoraSpec) -> LoraLayout {
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut add = |name: String, shape: [usize; 2]| {
            let start = tensors.last().map_or(0, |t| t.range.end);
            let range = start..start + shape[0] * shape[1];
            tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone() });
            range
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for i in 0..config.num_hidden_layers {
            let mut pairs = LayerPairs::default();
            for &projection in spec.targets.projections() {
                let (rows, columns) = shape(config, projection);
                let name = format!("base_model.model.model.layers.{i}.{}", module(projection));
                let a = add(format!("{name}.lora_A.weight"), [spec.rank, columns]);
                let b = add(format!("{name}.lora_B.weight"), [rows, spec.rank]);
                let (list, first) = match projection {
                    Projection::Q => (&mut pairs.qkv, 0),
                    Projection::K => (&mut pairs.qkv, config.q_dim()),
                    Projection::V => (&mut pairs.qkv, config.q_dim() + config.kv_dim()),
                    Projection::O => (&mut pairs.o, 0),
                    Projection::Gate => (&mut pairs.gate_up, 0),
                    Projection::Up => (&mut pairs.gate_up, config.intermediate_size),
                    Projection::Down => (&mut pairs.down, 0),
                };
                list.push(Pair { a, b, columns: first..first + rows });
            }
            layers.push(pairs);
        }
        LoraLayout { tensors, layers }
    }

    /// Number of weights.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.range.end)
    }
}

impl<T: Real> Lora<T> {
    /// Matrices that add nothing yet. PEFT draws `A` by Kaiming's rule with a = √5: a gain of √(2/(1 + a²)) and a bound
    /// of gain·√(3/in), which is 1/√in.
    #[must_use]
    pub fn new(config: &ModelConfig, spec: LoraSpec, seed: Seed) -> Lora<T> {
        let layout = LoraLayout::new(config, &spec);
        let mut params = vec![T::ZERO; layout.n_parameters()];
        for (i, tensor) in layout.tensors.iter().enumerate().step_by(2) {
            let (bound, seed) = (1.0 / (tensor.shape[1] as f64).sqrt(), seed.child(i as u64));
            for (j, x) in params[tensor.range.clone()].iter_mut().enumerate() {
                *x = T::of((seed.uniform(j as u64) * 2.0 - 1.0) * bound);
            }
        }
        Lora { spec, layout, params }
    }

    /// `(α/r)·B·A` of the weights with a name, `[out, in]`; `None` where nothing is added to them.
    #[must_use]
    pub fn product(&self, weight: &str, team: &Team) -> Option<Vec<T>> {
        let name = format!("base_model.model.{}.lora_A.weight", weight.strip_suffix(".weight")?);
        let a = self.layout.tensors.iter().position(|t| t.name == name)?;
        let (a, b) = (&self.layout.tensors[a], &self.layout.tensors[a + 1]);
        let (rows, rank, columns) = (b.shape[0], a.shape[0], a.shape[1]);
        let mut product = vec![T::ZERO; rows * columns];
        let down = Mat::new(&self.params[a.range.clone()], rank, columns);
        let up = Mat::new(&self.params[b.range.clone()], rows, rank);
        let how = How { arithmetic: Arithmetic::F32, team };
        let out = MatMut::new(&mut product, rows, columns);
        multiply(out, Store::Replace, up, down, how, &mut Buffers::default());
        let scale = T::of(self.spec.scale());
        product.iter_mut().for_each(|x| *x = *x * scale);
        Some(product)
    }
}
