//! Do weights come back, and does every kind of damage give an error that names the file and the tensor?

use std::borrow::Cow;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::*;
use crate::adamw::Moments;
use crate::config::{Family, ModelConfig};
use crate::error::EngineError;
use crate::layout::Layout;
use crate::testing::{config, random};

fn model(tied: bool) -> (ModelConfig, Layout, Vec<f32>) {
    let config = config(Family::Qwen3, tied);
    let layout = Layout::new(&config);
    let params = random(1, layout.n_parameters()).into_iter().map(|x| x as f32).collect();
    (config, layout, params)
}

fn saved(precision: Precision, max_shard_bytes: u64) -> (tempfile::TempDir, ModelConfig, Vec<f32>) {
    let dir = tempfile::tempdir().unwrap();
    let (config, layout, params) = model(true);
    save_shards(dir.path(), &config, &layout, &|t| Cow::Borrowed(&params[t.range.clone()]), precision, max_shard_bytes)
        .unwrap();
    (dir, config, params)
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Rewrites one safetensors file with tensors taken out, put in or replaced.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>)) {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    change(&mut all);
    let views = all.iter().map(|(n, dtype, shape, data)| (n, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn edit_index(dir: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = dir.join(INDEX);
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(index["weight_map"].as_object_mut().unwrap());
    std::fs::write(path, index.to_string()).unwrap();
}

#[track_caller]
fn refused(dir: &Path, words: &[&str]) -> EngineError {
    let error = load_model(dir).unwrap_err();
    let said = error.to_string();
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    error
}

#[test]
fn weights_come_back() {
    let (dir, config, params) = saved(Precision::F32, MAX_SHARD_BYTES);
    assert_eq!(load_model(dir.path()).unwrap(), (config, params));
    let (dir, _, params) = saved(Precision::Bf16, MAX_SHARD_BYTES);
    for (a, b) in load_model(dir.path()).unwrap().1.iter().zip(&params) {
        assert!((a - b).abs() <= b.abs() / 256.0);
    }
}

#[test]
fn shards_hold_the_same_and_what_they_replace_is_removed() {
    let (config, layout, params) = model(false);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let single = vec![CONFIG, WEIGHTS];
    // 20 × 24 numbers of 4 bytes are the MLP's matrices; a limit of less gives each larger tensor a file.
    for (limit, n_files) in [(MAX_SHARD_BYTES, 1), (8_000, 0), (MAX_SHARD_BYTES, 1), (1, layout.tensors.len())] {
        save_shards(dir, &config, &layout, &|t| Cow::Borrowed(&params[t.range.clone()]), Precision::F32, limit)
            .unwrap();
        let names = files(dir);
        let shards: Vec<&String> = names.iter().filter(|n| n.starts_with("model-")).collect();
        match n_files {
            1 => assert_eq!(names, single),
            0 => {
                assert!(shards.len() > 3, "{names:?}");
                for shard in &shards {
                    assert!(std::fs::metadata(dir.join(shard)).unwrap().len() < 8_000 + 3_000, "{shard}");
                }
            }
            n => assert_eq!(shards.len(), n),
        }
        assert_eq!(load_model(dir).unwrap(), (config.clone(), params.clone()), "limit {limit}");
    }
    let index: Value = serde_json::from_slice(&std::fs::read(dir.join(INDEX)).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], params.len() * 4);
    assert_eq!(index["weight_map"].as_object().unwrap().len(), layout.tensors.len());
}

#[test]
fn half_precision_and_redundant_tensors_are_read() {
    let (dir, _, params) = saved(Precision::F32, MAX_SHARD_BYTES);
    edit(&dir.path().join(WEIGHTS), |all| {
        for (_, dtype, _, data) in all.iter_mut() {
            let half: Vec<u8> = data
                .chunks_exact(4)
                .flat_map(|b| half::f16::from_f32(f32::from_le_bytes(b.try_into().unwrap())).to_le_bytes())
                .collect();
            (*dtype, *data) = (Dtype::F16, half);
        }
        let head = all.iter().find(|t| t.0 == "model.embed_tokens.weight").unwrap().clone();
        all.push(("lm_head.weight".into(), head.1, head.2, head.3));
        all.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), Dtype::F32, vec![1], vec![0; 4]));
    });
    let (_, read) = load_model(dir.path()).unwrap();
    assert_eq!(read.len(), params.len());
    for (a, b) in read.iter().zip(&params) {
        assert!((a - b).abs() <= b.abs() / 2048.0 + 1e-7);
    }
    edit(&dir.path().join(WEIGHTS), |all| all.iter_mut().find(|t| t.0 == "lm_head.weight").unwrap().3[0] ^= 1);
    refused(dir.path(), &[WEIGHTS, "lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn damage_is_an_error_that_names_the_file_and_the_tensor() {
    let (dir, config, _) = saved(Precision::F32, MAX_SHARD_BYTES);
    let weights = std::fs::read(dir.path().join(WEIGHTS)).unwrap();
    let json = config.to_json("float32");
    for cut in [0, 4, 8, 100, weights.len() / 2, weights.len() - 1] {
        let error = parse_model(Path::new("m"), json.as_bytes(), &weights[..cut]).unwrap_err().to_string();
        assert!(error.contains("m/model.safetensors"), "{error}");
        std::fs::write(dir.path().join(WEIGHTS), &weights[..cut]).unwrap();
        refused(dir.path(), &[WEIGHTS, "damaged or truncated"]);
    }
    for header in [u64::MAX, i64::MAX as u64, 99_999_999, weights.len() as u64] {
        let lying = [&header.to_le_bytes()[..], &weights[8..]].concat();
        std::fs::write(dir.path().join(WEIGHTS), lying).unwrap();
        refused(dir.path(), &[WEIGHTS, "damaged or truncated"]);
    }
    let wider = json.replace("\"intermediate_size\": 20", "\"intermediate_size\": 22");
    let error = parse_model(Path::new("m"), wider.as_bytes(), &weights).unwrap_err().to_string();
    assert!(error.contains("model.layers.0.mlp.gate_proj.weight") && error.contains("[20, 24]"), "{error}");
    let error = load_model(Path::new("/nonexistent")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/config.json"), "{error}");
}

#[test]
fn a_tensor_too_few_too_many_or_of_another_kind_is_named() {
    type Change = fn(&mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);
    let cases: [(Change, &[&str]); 5] = [
        (|all| all.retain(|t| t.0 != "model.norm.weight"), &["model.norm.weight", "missing"]),
        (|all| all[0].0.push('x'), &["missing"]),
        (|all| all.push(("score.weight".into(), Dtype::F32, vec![1], vec![0; 4])), &["score.weight", "no model"]),
        (
            |all| {
                let tensor = all.iter_mut().find(|t| t.0 == "model.layers.1.input_layernorm.weight").unwrap();
                tensor.1 = Dtype::I32;
            },
            &["input_layernorm", "I32"],
        ),
        (
            |all| {
                let tensor = all.iter_mut().find(|t| t.0 == "model.layers.1.input_layernorm.weight").unwrap();
                tensor.3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            },
            &["input_layernorm", "not finite"],
        ),
    ];
    for (change, words) in cases {
        let (dir, _, _) = saved(Precision::F32, MAX_SHARD_BYTES);
        edit(&dir.path().join(WEIGHTS), change);
        refused(dir.path(), &[&[WEIGHTS], words].concat());
    }
    // Without a head, and not tied.
    let (dir, config, _) = saved(Precision::F32, MAX_SHARD_BYTES);
    let untied = config.to_json("float32").replace("embeddings\": true", "embeddings\": false");
    std::fs::write(dir.path().join(CONFIG), untied).unwrap();
    refused(dir.path(), &["lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn a_wrong_index_is_an_error_that_names_the_shard() {
    let sharded = || saved(Precision::Bf16, 4_000).0;
    let last = |dir: &Path| files(dir).into_iter().rfind(|n| n.starts_with("model-")).unwrap();
    let norm = "model.norm.weight";

    let dir = sharded();
    let shard = last(dir.path());
    std::fs::remove_file(dir.path().join(&shard)).unwrap();
    refused(dir.path(), &[&shard, INDEX, "for tensor `model.layers.1"]);

    for foreign in ["../model-00001-of-00002.safetensors", "/etc/passwd", "", ".", "..", "a/b", "a\\b"] {
        let dir = sharded();
        edit_index(dir.path(), |map| _ = map.insert(norm.into(), foreign.into()));
        let error = refused(dir.path(), &[INDEX, norm, foreign]);
        assert!(matches!(error, EngineError::Weights { source: WeightsError::ForeignShard { .. }, .. }), "{error}");
    }

    let dir = sharded();
    let first = files(dir.path()).into_iter().find(|n| n.starts_with("model-")).unwrap();
    edit_index(dir.path(), |map| _ = map.insert(norm.into(), first.clone().into()));
    refused(dir.path(), &[&first, norm, INDEX]);

    let dir = sharded();
    let twin = "model-00009-of-00009.safetensors";
    std::fs::copy(dir.path().join(last(dir.path())), dir.path().join(twin)).unwrap();
    edit_index(dir.path(), |map| _ = map.insert("more".into(), twin.into()));
    let error = refused(dir.path(), &[twin, "is also in"]);
    assert!(matches!(error, EngineError::Weights { source: WeightsError::Duplicate { .. }, .. }), "{error}");

    let dir = sharded();
    let shard = dir.path().join(last(dir.path()));
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    refused(dir.path(), &[&last(dir.path()), "damaged or truncated"]);

    for index in ["", "[]", "{}", r#"{"weight_map":3}"#, r#"{"weight_map":{"a":1}}"#, r#"{"weight_map":{}}"#] {
        let dir = sharded();
        std::fs::write(dir.path().join(INDEX), index).unwrap();
        refused(dir.path(), &[INDEX]);
    }

    let dir = sharded();
    std::fs::remove_file(dir.path().join(INDEX)).unwrap();
    refused(dir.path(), &["no weights"]);
    std::fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    refused(dir.path(), &["no weights", "convert"]);
    std::fs::create_dir(dir.path().join(WEIGHTS)).unwrap();
    refused(dir.path(), &[WEIGHTS, "not a regular file"]);
}

#[test]
fn sampling_defaults_are_handed_on_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load_generation_config(dir.path()).unwrap(), None);
    let text = "{ \"temperature\": 0.6 }\n";
    save_generation_config(dir.path(), text).unwrap();
    assert_eq!(load_generation_config(dir.path()).unwrap().as_deref(), Some(text));
    std::fs::write(dir.path().join(GENERATION_CONFIG), "[1]").unwrap();
    let error = load_generation_config(dir.path()).unwrap_err().to_string();
    assert!(error.contains(GENERATION_CONFIG), "{error}");
}

#[test]
fn moments_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let moments = Moments { first: vec![1.0, 2.0], second: vec![3.0, 4.0], n_steps: 7 };
    save_moments(dir.path(), &moments).unwrap();
    let back = load_moments(dir.path(), 2).unwrap();
    assert_eq!((back.first, back.second, back.n_steps), (moments.first, moments.second, 7));
    assert!(load_moments(dir.path(), 3).is_err());
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    write_whole(&path, b"old").unwrap();
    // The temporary name is taken by a directory, so the new file cannot even be created.
    std::fs::create_dir(path.with_extension("tmp")).unwrap();
    assert!(write_whole(&path, b"new").is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}
