//! Does an engine that trains LoRA sample, learn, save and go on as one that trains all weights does?

use std::path::Path;

use aepo::config::Stored;
use aepo::config::lora::LoraTargets;
use aepo::policy::{Learner, SampleParams, SampleRequest, SampledToken, Sampler, StepParams};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::checkpoint::{ADAPTER_CONFIG, Precision, load_adapter_config, load_model};
use aepo_engine::config::ModelConfig;
use aepo_engine::setup::{LoraSpec, Setup, Train};

const CONFIG: &str = r#"{"model_type":"qwen3","vocab_size":60,"hidden_size":32,"intermediate_size":48,
    "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":8,
    "max_position_embeddings":128,"tie_word_embeddings":true}"#;

fn spec() -> LoraSpec {
    LoraSpec { rank: 4, alpha: 8.0, targets: LoraTargets::all() }
}

fn setup(frozen: Stored) -> Setup {
    Setup { train: Train::Lora(spec()), frozen, recompute: true, seed: Seed(5), ..Setup::full(2) }
}

fn engine(frozen: Stored) -> Engine {
    Engine::random_as(ModelConfig::from_json(CONFIG).unwrap(), Seed(1), &setup(frozen)).unwrap()
}

fn batch() -> TreeBatch {
    let tokens: Vec<u32> = (0..40).map(|i| i * 11 % 60).collect();
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &tokens);
    batch.targets = (1..40).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
    batch
}

fn learn(engine: &mut Engine, n_steps: usize) -> Vec<f32> {
    let params =
        StepParams { learning_rate: 0.02, weight_decay: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };
    let batch = batch();
    for _ in 0..n_steps {
        engine.forward(&batch, 1.0, true).unwrap();
        engine.backward(&batch, &[-1.0 / 39.0; 39], &[]).unwrap();
        assert!(engine.step(&params).unwrap().applied);
    }
    logprobs(engine)
}

fn logprobs(engine: &mut Engine) -> Vec<f32> {
    engine.forward(&batch(), 1.0, false).unwrap().logprobs
}

/// Tokens of `n` paths, sampled together.
fn sampled(engine: &mut Engine, seeds: &[u64]) -> Vec<Vec<SampledToken>> {
    let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
    let mut paths = Vec::new();
    for &seed in seeds {
        let path = engine.open(&[1, 2, 3 + seed as u32 % 7]).unwrap();
        let stop = Stop::at(&[]);
        engine.submit(SampleRequest { path, max_tokens: 12, stop, n_turn: 0, params, seed: Seed(seed) }).unwrap();
        paths.push(path);
    }
    let mut done = Vec::new();
    while done.len() < paths.len() {
        done.extend(engine.poll().unwrap());
    }
    done.sort_by_key(|c| c.path);
    paths.into_iter().for_each(|path| engine.close(path));
    done.into_iter().map(|c| c.tokens).collect()
}

#[test]
fn it_learns_while_the_model_stays_and_the_reference_shares_it() {
    for frozen in [Stored::F32, Stored::Bf16] {
        let mut engine = engine(frozen);
        let mut reference = engine.reference(None).unwrap().unwrap();
        let before = logprobs(&mut engine);
        assert_eq!(before, logprobs(&mut reference));
        let after = learn(&mut engine, 30);
        let mean = |x: &[f32]| x.iter().sum::<f32>() / x.len() as f32;
        assert!(mean(&after) > mean(&before) + 0.3, "{} {}", mean(&before), mean(&after));
        assert_eq!(before, logprobs(&mut reference));
        assert!(reference.backward(&batch(), &[0.0; 39], &[]).is_err());
        assert_eq!(engine.n_trained(), 2 * 4 * (64 + 48 + 48 + 64 + 80 + 80 + 80));
    }
}

#[test]
fn a_path_has_the_same_bits_in_any_company_and_the_trainer_agrees() {
    for frozen in [Stored::F32, Stored::Bf16] {
        let mut engine = engine(frozen);
        learn(&mut engine, 5);
        let alone = sampled(&mut engine, &[7]).remove(0);
        let many: Vec<u64> = (0..70).collect();
        assert_eq!(sampled(&mut engine, &many)[7], alone);
        let tokens: Vec<u32> = [1, 2, 3].into_iter().chain(alone.iter().map(|t| t.token)).collect();
        let mut batch = TreeBatch::default();
        batch.push_segment(None, &tokens);
        batch.targets = (3..15).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
        let stats = engine.forward(&batch, 1.0, false).unwrap();
        for (token, logp) in alone.iter().zip(stats.logprobs) {
            assert!((token.logprob - logp).abs() < 2e-6);
        }
    }
}

#[test]
fn a_checkpoint_goes_on_exactly_and_an_export_is_merged() {
    for frozen in [Stored::F32, Stored::Bf16] {
        let (mut first, dir) = (engine(frozen), tempfile::tempdir().unwrap());
        first.base_name = "some/model".into();
        learn(&mut first, 3);
        first.save(dir.path(), true).unwrap();
        assert_eq!(load_adapter_config(dir.path()).unwrap().base, "some/model");
        assert_eq!(load_adapter_config(dir.path()).unwrap().spec, spec());
        let mut second = Engine::random_as(
            ModelConfig::from_json(CONFIG).unwrap(),
            Seed(1),
            &Setup { seed: Seed(99), ..setup(frozen) },
        )
        .unwrap();
        second.load_adapter(dir.path()).unwrap();
        second.load_optimizer(dir.path()).unwrap();
        assert_eq!(second.version(), first.version());
        assert_eq!(logprobs(&mut first), logprobs(&mut second));
        assert_eq!(learn(&mut first, 3), learn(&mut second, 3));
        // The reference of a run that began from these matrices has them too.
        let mut reference = second.reference(Some(dir.path())).unwrap().unwrap();
        assert_ne!(logprobs(&mut reference), logprobs(&mut second));

        let merged = tempfile::tempdir().unwrap();
        first.export(merged.path(), Precision::F32).unwrap();
        let mut whole = Engine::load(merged.path(), 2).unwrap();
        for (a, b) in logprobs(&mut first).iter().zip(logprobs(&mut whole)) {
            assert!((a - b).abs() < 2e-5, "{a} {b}");
        }
        assert_eq!(load_model(merged.path()).unwrap().0, ModelConfig::from_json(CONFIG).unwrap());
    }
}

#[test]
fn a_directory_of_another_kind_is_refused_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(Stored::F32);
    engine.save(dir.path(), false).unwrap();
    let path = dir.path().join(ADAPTER_CONFIG);
    let text = std::fs::read_to_string(&path).unwrap();
    let right: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut error = |key: &str, value: serde_json::Value| {
        let mut config = right.clone();
        config[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        let error = engine.load_adapter(dir.path()).unwrap_err().to_string();
        assert!(error.contains(ADAPTER_CONFIG) && error.contains(&format!("`{key}`")), "{error}");
    };
    for (key, value) in [
        ("use_rslora", true.into()),
        ("use_dora", true.into()),
        ("bias", "all".into()),
        ("peft_type", "IA3".into()),
        ("rank_pattern", serde_json::json!({"q_proj": 2})),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("layers_to_transform", serde_json::json!([1])),
        ("something_new", 1.into()),
        ("r", 0.into()),
        ("r", 5.into()),
        ("r", (-1).into()),
        ("lora_alpha", 9.into()),
        ("lora_alpha", "8".into()),
        ("target_modules", "all-linear".into()),
        ("target_modules", serde_json::json!(["q_proj", "lm_head"])),
        ("target_modules", serde_json::json!(["q_proj"])),
    ] {
        error(key, value);
    }
    // What PEFT writes besides and means nothing is read over.
    let mut config = right.clone();
    config["corda_config"] = serde_json::Value::Null;
    config["loftq_config"] = serde_json::json!({});
    config["peft_version"] = "0.18".into();
    std::fs::write(&path, config.to_string()).unwrap();
    engine.load_adapter(dir.path()).unwrap();
    std::fs::write(&path, "[]").unwrap();
    assert!(engine.load_adapter(dir.path()).unwrap_err().to_string().contains("not a JSON object"));
    std::fs::write(&path, &text).unwrap();

    let weights = dir.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    for (harm, expected) in [
        (bytes[..bytes.len() / 2].to_vec(), "damaged or truncated"),
        (replaced(&bytes, b"layers.1.mlp.up_proj.lora_A", b"layers.9.mlp.up_proj.lora_A"), "layers.9.mlp.up_proj"),
        (replaced(&bytes, b"\"shape\":[4,32]", b"\"shape\":[32,4]"), "has shape [32, 4]"),
    ] {
        std::fs::write(&weights, harm).unwrap();
        let error = engine.load_adapter(dir.path()).unwrap_err().to_string();
        assert!(error.contains("adapter_model.safetensors") && error.contains(expected), "{error}");
    }
    let Err(error) = Engine::load(dir.path(), 1) else { panic!("an adapter was taken for a model") };
    assert!(error.to_string().contains("config.json"), "{error}");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn an_engine_without_lora_takes_no_adapter() {
    let config = ModelConfig::from_json(CONFIG).unwrap();
    let mut engine = Engine::random(config, Seed(1), 1).unwrap();
    assert!(engine.load_adapter(Path::new("/nonexistent")).is_err());
    assert!(engine.reference(None).unwrap().is_none());
    assert_eq!(engine.n_trained(), engine.n_parameters());
}
