//! Is the backward pass of a whole model its derivative, and a tree the trajectories that it stands for?

use super::*;
use crate::config::rope::RopeScaling;
use crate::config::{Family, SlidingWindow};
use crate::real::dot;
use crate::testing::{assert_gradient, config, random, team, tree_batch};

fn model<T: Real>(family: Family, tied: bool) -> Model<T> {
    let config = config(family, tied);
    let n = Layout::new(&config).n_parameters();
    Model::new(config, random(9, n).into_iter().map(|x| T::of(x * 0.5)).collect(), team(1))
}

/// With everything that a configuration can ask for beyond the plain block: a window in one block, and a scaling of
/// RoPE that also changes the scores.
fn stretched(mut config: ModelConfig) -> ModelConfig {
    config.sliding_window = Some(SlidingWindow { n_tokens: 3, layers: vec![false, true] });
    config.rope_scaling = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 8,
        attention_factor: Some(1.3),
        beta_fast: 2.0,
        beta_slow: 0.1,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    };
    config
}

#[test]
fn whole_model_backward_is_the_derivative() {
    let batch = tree_batch(&[3, 2, 1, 2, 2], 40);
    let (c, d) = (random(1, batch.targets.len()), random(2, batch.targets.len()));
    for (family, tied) in [(Family::Llama, false), (Family::Qwen2, true), (Family::Qwen3, false)] {
        let mut m = model::<f64>(family, tied);
        if family == Family::Qwen2 {
            m = Model::with(stretched(m.config), m.params, None, team(1));
        }
        let mut work = Workspace::default();
        m.forward(&batch, 0.8, Keep::All, &mut work);
        let mut grads = vec![0.0; m.n_trained()];
        m.backward(&batch, &c, &d, &mut work, &mut grads);
        // Every tensor, a spread of its elements: all of them would take minutes.
        let picked: Vec<usize> =
            m.layout.tensors.iter().flat_map(|t| t.range.clone().step_by(t.range.len() / 7 + 1)).collect();
        let x: Vec<f64> = picked.iter().map(|&i| m.params.numbers().unwrap()[i]).collect();
        let g: Vec<f64> = picked.iter().map(|&i| grads[i]).collect();
        let cell = std::cell::RefCell::new((&mut m, Workspace::default()));
        assert_gradient(&x, &g, |x| {
            let (m, work) = &mut *cell.borrow_mut();
            let params = m.params.numbers_mut().unwrap();
            for (&i, &v) in picked.iter().zip(x) {
                params[i] = v;
            }
            let (logp, entropy) = m.forward(&batch, 0.8, Keep::Nothing, work);
            dot(&logp, &c) + dot(&entropy, &d)
        });
    }
}

/// Each root-to-leaf path as a tree of its own; returns for each of its targets the index in the tree's targets.
fn unroll(batch: &TreeBatch) -> (TreeBatch, Vec<usize>) {
    let mut unrolled = TreeBatch::default();
    let mut origin = Vec::new();
    let is_parent = |i: usize| batch.segments.iter().any(|s| s.parent == Some(i as u32));
    for leaf in (0..batch.segments.len()).filter(|&i| !is_parent(i)) {
        let mut path = vec![leaf];
        while let Some(p) = batch.segments[*path.last().unwrap()].parent {
            path.push(p as usize);
        }
        path.reverse();
        let ranges: Vec<std::ops::Range<usize>> =
            path.iter().map(|&i| batch.segments[i].start_idx as usize..batch.last_idx(i as u32) as usize + 1).collect();
        let old: Vec<usize> = ranges.into_iter().flatten().collect();
        let tokens: Vec<u32> = old.iter().map(|&i| batch.tokens[i]).collect();
        let start = unrolled.tokens.len();
        unrolled.push_segment(None, &tokens);
        for w in 1..old.len() {
            let t = batch.targets.iter().position(|t| t.from_idx as usize == old[w - 1] && t.token == tokens[w]);
            unrolled.targets.push(aepo::train::batch::Target { from_idx: (start + w - 1) as u32, token: tokens[w] });
            origin.push(t.unwrap());
        }
    }
    (unrolled, origin)
}

/// Invariant 3: training on the tree gives the gradient of training on the unrolled trajectories, where a shared
/// token's coefficient is the sum over its trajectories.
#[test]
fn tree_equals_unrolled() {
    let batch = tree_batch(&[9, 30, 5, 17, 40, 8, 3, 2], 40);
    let (unrolled, origin) = unroll(&batch);
    assert!(unrolled.tokens.len() > batch.tokens.len());
    let c: Vec<f32> = random(1, origin.len()).into_iter().map(|x| x as f32).collect();
    let mut summed = vec![0.0f32; batch.targets.len()];
    for (&i, &c) in origin.iter().zip(&c) {
        summed[i] += c;
    }
    let plain = model::<f32>(Family::Qwen3, true);
    let stretched = Model::with(stretched(plain.config.clone()), plain.params.clone(), None, team(1));
    for m in [plain, stretched] {
        let mut work = Workspace::default();
        let (logp, _) = m.forward(&batch, 1.0, Keep::All, &mut work);
        let mut grads = vec![0.0; m.n_trained()];
        m.backward(&batch, &summed, &[], &mut work, &mut grads);
        let (logp_unrolled, _) = m.forward(&unrolled, 1.0, Keep::All, &mut work);
        let mut grads_unrolled = vec![0.0; m.n_trained()];
        m.backward(&unrolled, &c, &[], &mut work, &mut grads_unrolled);
        for (&i, &l) in origin.iter().zip(&logp_unrolled) {
            assert!((l - logp[i]).abs() < 1e-5);
        }
        let difference: f64 = grads.iter().zip(&grads_unrolled).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let norm: f64 = grads.iter().map(|a| f64::from(*a).powi(2)).sum();
        assert!((difference / norm).sqrt() < 1e-5, "relative error {}", (difference / norm).sqrt());
    }
}

#[test]
fn zero_coefficients_give_a_zero_gradient() {
    let batch = tree_batch(&[3, 2, 1, 2, 2], 40);
    let m = model::<f32>(Family::Llama, true);
    let mut work = Workspace::default();
    m.forward(&batch, 1.0, Keep::All, &mut work);
    let mut grads = vec![0.0; m.n_trained()];
    m.backward(&batch, &vec![0.0; batch.targets.len()], &[], &mut work, &mut grads);
    assert!(grads.iter().all(|&g| g == 0.0));
}
