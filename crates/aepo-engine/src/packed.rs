//! Weights as sampling reads them: packed once for all tokens between two steps of the optimiser.
//!
//! Few rows meet each weight at a time, so what a token costs is the reading of all weights: in the order of the kernel,
//! and in bf16 where products are made from it.

use crate::gemm::{Along, Factor, Packed};
use crate::kernels::product;
use crate::linear::Site;
use crate::model::Model;
use crate::real::Real;

/// All matrices of a model, LoRA's excepted.
#[derive(Debug)]
pub struct PackedWeights {
    /// Of each block, by [`Site`].
    layers: Vec<[Packed; 4]>,
    /// The output projection.
    pub(crate) head: Packed,
}

impl PackedWeights {
    /// A product's weights.
    pub(crate) fn of(&self, layer: usize, site: Site) -> &Packed {
        &self.layers[layer][site as usize]
    }

    /// Bytes of it.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.layers.iter().flatten().chain([&self.head]).map(Packed::n_bytes).sum()
    }
}

impl<T: Real> Model<T> {
    /// Packs the weights as they are now, unless that has been done.
    pub fn pack(&mut self) {
        if self.packed.is_some() {
            return;
        }
        let pack = |range: std::ops::Range<usize>, d_in: usize| {
            let d_out = range.len() / d_in;
            let numbers = product::numbers(self.params.matrix(range))?;
            let factor = Factor::new(numbers, d_out, d_in, d_in, Along::Inner);
            Some(Packed::new(factor, self.arithmetic, &self.team))
        };
        let layers = (0..self.layout.layers.len()).map(|layer| {
            let of = |site| {
                let (range, d_in, _) = self.site(layer, site);
                pack(range, d_in)
            };
            Some([of(Site::Qkv)?, of(Site::Output)?, of(Site::GateUp)?, of(Site::Down)?])
        });
        // Numbers that are no `f32` are not packed at all.
        let layers: Option<Vec<[Packed; 4]>> = layers.collect();
        let head = pack(self.layout.head.clone(), self.config.hidden_size);
        self.packed = layers.zip(head).map(|(layers, head)| PackedWeights { layers, head });
    }

    /// Forgets the packed weights: they are about to change, or their memory is needed.
    pub fn unpack(&mut self) {
        self.packed = None;
    }
}
