//! Can a model directory of lies make the engine panic? Thousands of seeded mutations of small ones: each loads, or is
//! refused with an error that names a file.

use std::collections::BTreeMap;
use std::path::Path;

use aepo::policy::Learner;
use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::checkpoint::{CONFIG, INDEX, load_model};
use serde_json::{Value, json};

const N_MUTANTS: u64 = 1500;

/// Numbers in order, each drawn once.
struct Draws {
    seed: Seed,
    n: u64,
}

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.n += 1;
        (self.seed.uniform(self.n) * n as f64) as usize
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn read(name: &str) -> Files {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transformers").join(name);
    let names = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let of_model = names.filter(|name| name.starts_with("model") || name == CONFIG);
    of_model.map(|name| (name.clone(), std::fs::read(dir.join(name)).unwrap())).collect()
}

fn odd_value(draws: &mut Draws) -> Value {
    let values = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(3.5),
        json!(1e300),
        json!(-1e-300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1u64 << 40),
        json!(1 << 20),
        json!(true),
        json!(false),
        json!(""),
        json!("../model.safetensors"),
        json!("model-00001-of-00002.safetensors"),
        json!("F32"),
        json!("BF16"),
        json!("F8_E4M3"),
        json!("yarn"),
        json!("llama3"),
        json!("qwen3"),
        json!([]),
        json!([1, 2]),
        json!([usize::MAX, usize::MAX]),
        json!(["sliding_attention", "full_attention"]),
        json!({}),
        json!({"rope_type": "yarn", "factor": 1e9, "original_max_position_embeddings": 1}),
        json!({"rope_type": "linear", "factor": 2, "rope_theta": 1.0000001}),
    ];
    values[draws.below(values.len())].clone()
}

/// Changes one place of a JSON document: a value replaced, a key removed, doubled under another name, or added.
fn bend(value: &mut Value, draws: &mut Draws) {
    let inner = match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(draws.below(map.len())).unwrap().clone();
            match draws.below(8) {
                0 => {
                    map.remove(&key);
                    return;
                }
                1 => {
                    let copy = map[&key].clone();
                    map.insert(format!("{key}.copy"), copy);
                    return;
                }
                2 => {
                    let keys = ["rope_scaling", "sliding_window", "use_sliding_window", "layer_types", "num_experts"];
                    map.insert(keys[draws.below(keys.len())].into(), odd_value(draws));
                    return;
                }
                _ => map.get_mut(&key).unwrap(),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let i = draws.below(list.len());
            &mut list[i]
        }
        _ => {
            *value = odd_value(draws);
            return;
        }
    };
    match draws.below(4) {
        0 => *inner = odd_value(draws),
        _ => bend(inner, draws),
    }
}

fn mutate(name: &str, bytes: &mut Vec<u8>, draws: &mut Draws) {
    let is_json = name.ends_with(".json");
    let header_len = bytes.first_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n) as usize);
    match draws.below(8) {
        0 => bytes.truncate(draws.below(bytes.len() + 1)),
        1 => bytes.extend(std::iter::repeat_n(0, 1 + draws.below(20))),
        // A byte of the text or the header, then one anywhere.
        2 => {
            let end = if is_json { bytes.len() } else { (header_len.saturating_add(8)).min(bytes.len()) };
            let i = draws.below(end.max(1));
            bytes.get_mut(i).into_iter().for_each(|b| *b ^= 1 << draws.below(8));
        }
        3 => {
            let i = draws.below(bytes.len().max(1));
            bytes.get_mut(i).into_iter().for_each(|b| *b = draws.below(256) as u8);
        }
        4 if !is_json && bytes.len() >= 8 => {
            let lengths = [0, 1, 7, header_len as u64 - 1, header_len as u64 + 1, 1 << 27, u64::MAX, u64::MAX - 7];
            bytes[..8].copy_from_slice(&lengths[draws.below(lengths.len())].to_le_bytes());
        }
        _ if is_json => {
            let mut value: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
            bend(&mut value, draws);
            *bytes = serde_json::to_vec(&value).unwrap();
        }
        _ => {
            let Some(header) = bytes.get(8..8usize.saturating_add(header_len)) else { return };
            let mut value: Value = serde_json::from_slice(header).unwrap_or(Value::Null);
            bend(&mut value, draws);
            let header = serde_json::to_vec(&value).unwrap();
            let data = bytes.split_off(8 + header_len);
            *bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        }
    }
}

#[test]
fn mutants_are_loaded_or_refused() {
    let sources = ["qwen3_bent", "qwen2_padded", "llama"].map(read);
    assert!(sources[0].contains_key(INDEX) && !sources[2].contains_key(INDEX));
    let (mut n_loaded, mut n_refused) = (0, 0);
    let dir = tempfile::tempdir().unwrap();
    for i in 0..N_MUTANTS {
        let mut draws = Draws { seed: Seed(17).child(i), n: 0 };
        let mut files = sources[draws.below(sources.len())].clone();
        for _ in 0..1 + draws.below(2) {
            let k = draws.below(files.len());
            let (name, bytes) = files.iter_mut().nth(k).unwrap();
            mutate(name, bytes, &mut draws);
        }
        let place = dir.path().join(i.to_string());
        std::fs::create_dir(&place).unwrap();
        for (name, bytes) in &files {
            std::fs::write(place.join(name), bytes).unwrap();
        }
        match load_model(&place) {
            Err(e) => {
                n_refused += 1;
                let said = e.to_string();
                assert!(said.contains(&*place.to_string_lossy()) || said.contains(INDEX), "mutant {i}: {said}");
            }
            Ok((config, params)) => {
                n_loaded += 1;
                // Odd numbers may give odd results, which is an error of their own; they may not panic.
                let mut engine = Engine::new(config, params, 1).unwrap();
                let mut batch = TreeBatch::default();
                batch.push_segment(None, &[3, 1, 4, 1, 5]);
                batch.targets = (0..5).map(|i| Target { from_idx: i, token: 2 }).collect();
                if let Err(e) = engine.forward(&batch, 1.0, false) {
                    assert!(!e.to_string().is_empty());
                }
            }
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
    assert!(n_loaded > 50 && n_refused > 500, "{n_loaded} loaded, {n_refused} refused");
}
