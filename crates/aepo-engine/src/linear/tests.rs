//! Are models with LoRA, with rounded weights and with recomputed blocks the models that they should be?

use aepo::config::lora::{LoraTargets, Projection};
use aepo::seed::Seed;
use aepo::train::batch::TreeBatch;
use half::bf16;

use crate::cache::{BlockPool, PathCache};
use crate::config::Family;
use crate::decode::{DecodeBuffers, Row};
use crate::layout::Layout;
use crate::lora::Lora;
use crate::model::{Keep, Model, Workspace};
use crate::real::{Real, dot};
use crate::sampler::Scratch;
use crate::setup::LoraSpec;
use crate::testing::{assert_gradient, config, random, team, tree_batch};
use crate::weights::Weights;

const LENGTHS: [usize; 5] = [3, 2, 1, 2, 2];

fn params(family: Family, tied: bool) -> Vec<f64> {
    let config = config(family, tied);
    random(9, Layout::new(&config).n_parameters()).into_iter().map(|x| x * 0.5).collect()
}

/// With matrices of which neither is zero.
fn lora<T: Real>(family: Family, rank: usize, targets: &[Projection]) -> Lora<T> {
    let spec = LoraSpec { rank, alpha: 3.0, targets: LoraTargets::new(targets).unwrap() };
    let mut lora = Lora::new(&config(family, false), spec, Seed(1));
    let numbers = random(8, lora.params.len());
    lora.params.iter_mut().zip(numbers).for_each(|(p, x)| *p = T::of(x * 0.3));
    lora
}

fn model<T: Real>(family: Family, tied: bool, lora: Option<Lora<T>>) -> Model<T> {
    let numbers = params(family, tied).into_iter().map(T::of).collect();
    Model::with(config(family, tied), Weights::full(numbers), lora, team(1))
}

#[test]
fn the_gradient_of_lora_is_the_derivative() {
    let batch = tree_batch(&LENGTHS, 40);
    let (c, d) = (random(1, batch.targets.len()), random(2, batch.targets.len()));
    let all = &Projection::ALL[..];
    let some = &[Projection::K, Projection::Up];
    for (family, tied, targets) in [
        (Family::Llama, false, all),
        (Family::Qwen2, true, some),
        (Family::Qwen3, true, all),
        (Family::Llama, true, some),
    ] {
        let mut m = model(family, tied, Some(lora::<f64>(family, 3, targets)));
        let mut work = Workspace::default();
        m.forward(&batch, 0.8, Keep::All, &mut work);
        let mut grads = vec![0.0; m.n_trained()];
        m.backward(&batch, &c, &d, &mut work, &mut grads);
        let tensors = &m.lora.as_ref().unwrap().layout.tensors;
        let picked: Vec<usize> = tensors.iter().flat_map(|t| t.range.clone().step_by(t.range.len() / 7 + 1)).collect();
        let x: Vec<f64> = picked.iter().map(|&i| m.lora.as_ref().unwrap().params[i]).collect();
        let g: Vec<f64> = picked.iter().map(|&i| grads[i]).collect();
        assert!(g.iter().filter(|g| **g != 0.0).count() > g.len() / 2);
        let cell = std::cell::RefCell::new((&mut m, Workspace::default()));
        assert_gradient(&x, &g, |x| {
            let (m, work) = &mut *cell.borrow_mut();
            let params = &mut m.lora.as_mut().unwrap().params;
            for (&i, &v) in picked.iter().zip(x) {
                params[i] = v;
            }
            let (logp, entropy) = m.forward(&batch, 0.8, Keep::Nothing, work);
            dot(&logp, &c) + dot(&entropy, &d)
        });
    }
}

#[test]
fn lora_is_the_model_with_its_product_added() {
    let batch = tree_batch(&[9, 30, 5, 17, 40], 40);
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let with = model(family, false, Some(lora::<f64>(family, 5, &Projection::ALL)));
        let mut merged = params(family, false);
        for tensor in &with.layout.tensors {
            if let Some(added) = with.lora.as_ref().unwrap().product(&tensor.name, &with.team) {
                merged[tensor.range.clone()].iter_mut().zip(added).for_each(|(w, x)| *w += x);
            }
        }
        let merged = Model::new(config(family, false), merged, team(1));
        let of = |m: &Model<f64>| m.forward(&batch, 1.0, Keep::Nothing, &mut Workspace::default()).0;
        let (a, b, plain) = (of(&with), of(&merged), of(&model(family, false, None)));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-10));
        assert!(a.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 0.1));
        // As it begins, it changes nothing.
        let spec = LoraSpec { rank: 4, alpha: 8.0, targets: LoraTargets::all() };
        let fresh = of(&model(family, false, Some(Lora::new(&config(family, false), spec, Seed(3)))));
        assert_eq!(fresh, plain);
    }
}

#[test]
fn the_first_matrices_are_drawn_as_peft_draws_them() {
    let spec = LoraSpec { rank: 6, alpha: 8.0, targets: LoraTargets::all() };
    let lora = Lora::<f64>::new(&config(Family::Llama, true), spec.clone(), Seed(3));
    for pair in lora.layout.tensors.chunks_exact(2) {
        let (a, b) = (&lora.params[pair[0].range.clone()], &lora.params[pair[1].range.clone()]);
        // Uniform in ±1/√in has the variance 1/(3·in).
        let (n_in, n) = (pair[0].shape[1] as f64, a.len() as f64);
        assert!(a.iter().all(|x| x.abs() <= 1.0 / n_in.sqrt()));
        let variance = a.iter().map(|x| x * x).sum::<f64>() / n;
        assert!((variance * 3.0 * n_in - 1.0).abs() < 6.0 / n.sqrt(), "{}: {variance}", pair[0].name);
        assert!(b.iter().all(|&x| x == 0.0));
    }
    let other = Lora::<f64>::new(&config(Family::Llama, true), spec, Seed(4));
    assert_ne!(lora.params, other.params);
}

fn gradient(m: &Model<f32>, batch: &TreeBatch, keep: Keep, work: &mut Workspace<f32>) -> (Vec<f32>, Vec<f32>) {
    let c: Vec<f32> = random(1, batch.targets.len()).into_iter().map(|x| x as f32).collect();
    let (logp, _) = m.forward(batch, 1.0, keep, work);
    let mut grads = vec![0.0; m.n_trained()];
    m.backward(batch, &c, &c, work, &mut grads);
    (logp, grads)
}

#[test]
fn recomputed_blocks_give_the_same_bits() {
    let batches = [tree_batch(&[9, 30, 5, 17, 40, 8, 3, 2], 40), tree_batch(&LENGTHS, 40)];
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        for lora in [None, Some(lora(family, 4, &Projection::ALL))] {
            let m = model::<f32>(family, true, lora);
            let (mut kept, mut again) = (Workspace::default(), Workspace::default());
            for batch in &batches {
                let all = gradient(&m, batch, Keep::All, &mut kept);
                m.forward(&batches[0], 1.0, Keep::Nothing, &mut again);
                assert!(all == gradient(&m, batch, Keep::Inputs, &mut again), "{family:?}");
                assert!(all.1.iter().any(|&g| g != 0.0));
            }
        }
    }
}

/// The logits of a sequence, read in two pieces.
fn decoded(m: &Model<f32>, tokens: &[u32]) -> Vec<f32> {
    let (mut pool, mut cache, mut buffers) =
        (BlockPool::new(&m.config), PathCache::default(), DecodeBuffers::default());
    let mut logits = Vec::new();
    for piece in [0..tokens.len() - 1, tokens.len() - 1..tokens.len()] {
        let wanted: Vec<usize> = (0..piece.len()).collect();
        let rows: Vec<Row> = piece.map(|i| Row { path: 0, token: tokens[i], position: i }).collect();
        let read = |_: usize, logits: &[f32], _: &mut Scratch| logits.to_vec();
        let mut read_rows = Vec::new();
        m.decode(&rows, &mut [&mut cache], &mut pool, &wanted, &mut buffers, &mut read_rows, read);
        logits.extend(read_rows.into_iter().flatten().flatten());
    }
    logits
}

#[test]
fn weights_in_bf16_are_those_weights_rounded() {
    let batch = tree_batch(&[9, 30, 5, 17, 40, 8, 3, 2], 40);
    let tokens: Vec<u32> = (0..50).map(|i| i * 7 % 40).collect();
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        for tied in [false, true] {
            let rounded: Vec<bf16> = params(family, tied).into_iter().map(bf16::from_f64).collect();
            let wide = rounded.iter().map(|x| x.to_f32()).collect();
            let (config, lora) = (config(family, tied), lora(family, 4, &Projection::ALL));
            let narrow = Weights::narrow(&Layout::new(&config), rounded);
            assert!(narrow.n_bytes() < 2 * narrow.len() + narrow.len() / 4);
            let full = Model::with(config.clone(), Weights::full(wide), Some(lora.clone()), team(2));
            let narrow = Model::with(config, narrow, Some(lora), team(2));
            let of = |m: &Model<f32>| gradient(m, &batch, Keep::All, &mut Workspace::default());
            assert!(of(&full) == of(&narrow), "{family:?}");
            assert!(decoded(&full, &tokens) == decoded(&narrow, &tokens), "{family:?}");
        }
    }
}
