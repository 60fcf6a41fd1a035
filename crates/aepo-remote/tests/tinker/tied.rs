//! What would the engine learn if projections that read the same states shared their `A`, as they do in SkyRL's JAX models?
//!
//! There `q_proj`, `k_proj` and `v_proj` are one matrix with one pair of LoRA's matrices, and so are `gate_proj` and
//! `up_proj` (`FusedLoRALinear` of SkyRL 0.4.0). Its files hold the same `A` several times. The gradient of a shared `A`
//! is the sum of the gradients of its copies, and it counts once in a norm: `|Σgᵢ|²` where the engine has `Σ|gᵢ|²`.

use std::ops::Range;
use std::path::Path;

use aepo::policy::{Learner, PolicyError, StepParams, StepReport, TokenStats};
use aepo::train::batch::TreeBatch;
use aepo_engine::Engine;
use aepo_engine::adamw::{self, Moments};
use aepo_engine::lora::LoraLayout;
use aepo_engine::setup::LoraSpec;
use aepo_engine::team::Team;

/// An engine whose gradients are those of shared matrices. It does not move: the next weights are only told.
pub struct Tied {
    pub engine: Engine,
    layout: LoraLayout,
    moments: Moments,
    /// `[n_trained]`, the weights behind the last step.
    pub next: Vec<f32>,
    /// The norm that the last step's gradient has where nothing is shared.
    pub untied_norm: f64,
}

impl Tied {
    pub fn new(engine: Engine, spec: &LoraSpec) -> Tied {
        let layout = LoraLayout::new(engine.config(), spec);
        Tied { engine, layout, moments: Moments::default(), next: Vec::new(), untied_norm: 0.0 }
    }

    /// Places of the copies of each shared `A`.
    fn shared(&self) -> Vec<Vec<Range<usize>>> {
        let copies = |pairs: &[aepo_engine::lora::Pair]| pairs.iter().map(|pair| pair.a.clone()).collect();
        self.layout.layers.iter().flat_map(|layer| [copies(&layer.qkv), copies(&layer.gate_up)]).collect()
    }

    /// The largest difference between copies of one matrix.
    pub fn copies_differ(&self, weights: &[f32]) -> f32 {
        let mut most = 0.0f32;
        for copies in self.shared() {
            for other in &copies[1..] {
                let pairs = weights[copies[0].clone()].iter().zip(&weights[other.clone()]);
                most = pairs.map(|(a, b)| (a - b).abs()).fold(most, f32::max);
            }
        }
        most
    }
}

impl Learner for Tied {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        self.engine.forward(batch, temperature, keep)
    }

    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        self.engine.backward(batch, dlogp, dentropy)
    }

    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        assert_eq!(params.max_grad_norm, f32::INFINITY, "nothing is clipped");
        let square = |x: &[f32]| x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        let mut gradient = self.engine.gradient().to_vec();
        let mut squares = square(&gradient);
        self.untied_norm = squares.sqrt();
        for copies in self.shared() {
            let mut sum = vec![0.0; copies[0].len()];
            for copy in &copies {
                squares -= square(&gradient[copy.clone()]);
                sum.iter_mut().zip(&gradient[copy.clone()]).for_each(|(sum, g)| *sum += g);
            }
            squares += square(&sum);
            copies.iter().for_each(|copy| gradient[copy.clone()].copy_from_slice(&sum));
        }
        self.next = self.engine.adapter().unwrap().to_vec();
        let team = Team::new(1).unwrap();
        adamw::step(&team, &self.layout.tensors, &mut self.next, &mut gradient, &mut self.moments, params);
        // The engine's own step forgets the gradient; its weights are replaced before the next.
        self.engine.step(params)?;
        Ok(StepReport { grad_norm: squares.sqrt() as f32, applied: true })
    }

    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        self.engine.save(dir, optimizer)
    }
}
