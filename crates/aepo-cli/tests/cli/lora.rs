//! Does a run that trains LoRA go on exactly, and does it leave a model that needs no LoRA?

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Once;

use aepo::config::Stored;
use aepo::config::lora::LoraTargets;
use aepo::policy::Learner as _;
use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use expect_test::{Expect, expect};
use safetensors::{Dtype, SafeTensors};

use crate::support::{place, signal, stderr};

const SETS: [&str; 10] = [
    "--set",
    "lora.rank=4",
    "--set",
    "lora.alpha=8",
    "--set",
    "model.frozen=bf16",
    "--set",
    "train.recompute=true",
    "--set",
    "train.learning_rate=1e-2",
];

/// The command that trains LoRA into `out`.
fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["train", "tiny.toml", "--out", out].into_iter().chain(SETS).chain(more.iter().copied()).collect()
}

/// A finished run `lora` of six steps, made once.
fn whole() {
    static WHOLE: Once = Once::new();
    WHOLE.call_once(|| {
        place().ok(&train("lora", &["--quiet"]));
    });
}

fn bytes(file: &str) -> Vec<u8> {
    let path = place().path(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn names(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place().path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Two runs left the same behind: rows, adapters, optimiser, merged weights.
#[track_caller]
fn assert_same_runs(a: &str, b: &str) {
    assert_eq!(place().rows(a), place().rows(b));
    for file in ["adapter_model.safetensors", "adapter_config.json", "optimizer.state"] {
        let read = |run: &str| bytes(&format!("{run}/checkpoints/step-000006/{file}"));
        assert!(read(a) == read(b), "{file} differs");
    }
    assert!(bytes(&format!("{a}/model/model.safetensors")) == bytes(&format!("{b}/model/model.safetensors")));
    assert_eq!(
        place().json(&format!("{a}/summary.json"))["eval_after"],
        place().json(&format!("{b}/summary.json"))["eval_after"]
    );
}

#[test]
fn adapters_are_kept_and_a_merged_model_is_left() {
    whole();
    let place = place();
    assert!(place.rows("lora").iter().any(|row| row["update"]["n_applied"] == 2));
    let files = ["adapter_config.json", "adapter_model.safetensors", "manifest.json", "optimizer.state"];
    let files = files.into_iter().chain(["state.json", "tokenizer.json"]).collect::<Vec<_>>();
    assert_eq!(names("lora/checkpoints/step-000006"), files);
    let adapter = place.json("lora/checkpoints/step-000006/adapter_config.json");
    assert_eq!((adapter["peft_type"].as_str(), adapter["r"].as_u64()), (Some("LORA"), Some(4)));
    assert_eq!(adapter["base_model_name_or_path"].as_str(), place.path("cold/model").to_str());

    assert_eq!(names("lora/model"), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(!place.path("lora/.model.tmp").exists() && !place.path("lora/.model.old").exists());
    assert_eq!(place.json("lora/model/config.json")["torch_dtype"], "float32");
    assert!(bytes("lora/model/tokenizer.json") == bytes("cold/model/tokenizer.json"));
    let (base, merged) = (bytes("cold/model/model.safetensors"), bytes("lora/model/model.safetensors"));
    let [base, merged] = [&base, &merged].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    assert!(merged.iter().all(|(_, tensor)| tensor.dtype() == Dtype::F32));
    // The upper half of an f32 is its bf16.
    let widened = |name: &str| base.tensor(name).unwrap().data().chunks(2).flat_map(|b| [0, 0, b[0], b[1]]).collect();
    let same = |name: &str| -> bool { Vec::<u8>::eq(&widened(name), merged.tensor(name).unwrap().data()) };
    // Every target has changed, and nothing else.
    for name in base.names() {
        assert_eq!(same(name), !name.contains("_proj"), "{name}");
    }
}

/// Log-probabilities of some tokens.
fn logprobs(engine: &mut Engine) -> Vec<f32> {
    let tokens: Vec<u32> = (0..64).map(|i| i * i * 7 % 900).collect();
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &tokens);
    batch.targets = (1..64).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
    engine.forward(&batch, 1.0, false).unwrap().logprobs
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_checkpoint_measures_as_the_run_did_and_the_merged_model_is_it_but_for_rounding() {
    whole();
    let place = place();
    let eval = |model: &str| -> serde_json::Value {
        serde_json::from_str(&place.ok(&["eval", model, "--recipe", "lora/config.toml", "--json"])).unwrap()
    };
    let mut report = eval("lora/checkpoints/step-000006");
    report.as_object_mut().unwrap().remove("event").unwrap();
    assert_eq!(report, place.json("lora/summary.json")["eval_after"]);
    assert_eq!(eval("lora"), eval("lora/model"));

    let spec = LoraSpec { rank: 4, alpha: 8.0, targets: LoraTargets::all() };
    let setup = Setup { train: Train::Lora(spec), frozen: Stored::Bf16, seed: Seed(0), ..Setup::full(2) };
    let load = |dir: PathBuf| Engine::load(&dir, 2).unwrap();
    let mut engine = Engine::load_as(&place.path("cold/model"), &setup).unwrap();
    let base = logprobs(&mut engine);
    assert_eq!(base, logprobs(&mut load(place.path("cold/model"))));
    engine.load_adapter(&place.path("lora/checkpoints/step-000006")).unwrap();
    let trained = logprobs(&mut engine);
    let merged = logprobs(&mut load(place.path("lora/model")));
    let (moved, rounded) = (distance(&base, &trained), distance(&trained, &merged));
    assert!(rounded < 1e-4 && moved > 0.1, "training moved {moved}, rounding {rounded}");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_rows_and_the_same_model() {
    whole();
    let place = place();
    let child = place.start_and_wait(&train("lora-stopped", &["--json"]), 1);
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(!place.path("lora-stopped/model").exists());
    place.ok(&train("lora-stopped", &["--resume", "--quiet"]));
    assert_same_runs("lora-stopped", "lora");
    // At its end a run can be resumed too: what is missing of its model is written again.
    std::fs::remove_dir_all(place.path("lora-stopped/model")).unwrap();
    place.ok(&train("lora-stopped", &["--resume", "--quiet"]));
    assert_same_runs("lora-stopped", "lora");
}

#[test]
fn a_run_that_is_trained_further_has_no_model_of_before() {
    whole();
    let place = place();
    place.ok(&train("lora-longer", &["--steps", "2", "--quiet"]));
    assert!(bytes("lora-longer/model/model.safetensors") != bytes("lora/model/model.safetensors"));
    let mut child = place.start_and_wait(&train("lora-longer", &["--resume", "--json"]), 1);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!place.path("lora-longer/model").exists());
    // Until there is a new one, the run is its newest checkpoint.
    let newest = names("lora-longer/checkpoints").into_iter().rfind(|name| name.starts_with("step-"));
    let newest = format!("lora-longer/checkpoints/{}", newest.unwrap());
    assert_eq!(
        place.ok(&["eval", "lora-longer", "--json"]),
        place.ok(&["eval", &newest, "--recipe", "lora-longer/config.toml", "--json"])
    );
    place.ok(&train("lora-longer", &["--resume", "--quiet"]));
    assert_same_runs("lora-longer", "lora");
}

#[test]
fn a_cold_start_with_lora_goes_on_to_the_same_merged_model() {
    let place = place();
    let sft = |out: &'static str, more: &[&'static str]| {
        let args = ["sft", "tiny.toml", "--set", "sft.init=cold", "--set", "sft.tokens=40_000", "--out", out];
        args.into_iter().chain(SETS[..8].iter().copied()).chain(more.iter().copied()).collect::<Vec<_>>()
    };
    place.ok(&sft("lora-cold", &["--quiet"]));
    let child = place.start_and_wait(&sft("lora-cold-stopped", &["--json"]), 3);
    signal(&child, "TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    place.ok(&sft("lora-cold-stopped", &["--resume", "--quiet"]));
    assert_eq!(place.rows("lora-cold-stopped"), place.rows("lora-cold"));
    let model = |run: &str| bytes(&format!("{run}/model/model.safetensors"));
    assert!(model("lora-cold-stopped") == model("lora-cold") && model("lora-cold") != model("cold"));
    // What it leaves is a model like any other: all of its weights can be trained.
    place.ok(&["train", "tiny.toml", "--set", "model.init=lora-cold", "--out", "lora-then", "--steps", "2", "--quiet"]);
    assert!(place.path("lora-then/checkpoints/step-000002/model.safetensors").is_file());
}

fn check(commands: &[&[&str]], expected: Expect) {
    let place = place();
    let mut text = String::new();
    for args in commands {
        let output = place.run(args);
        assert!(output.stdout.is_empty(), "an error belongs on stderr");
        let _ = write!(text, "$ aepo {}\n{}", args.join(" "), stderr(&output));
        let _ = writeln!(text, "[{}]", output.status.code().unwrap());
    }
    assert!(!place.path("never").exists(), "what cannot start leaves nothing behind");
    expected.assert_eq(&text.replace(place.dir.to_str().unwrap(), "DIR"));
}

#[test]
fn settings_that_contradict_each_other() {
    whole();
    fn with<'a>(command: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        [command, "tiny.toml", "--out", "never", "--quiet"].into_iter().chain(sets).collect()
    }
    let adapter = "model.init=lora/checkpoints/step-000006";
    check(
        &[
            &with("train", &["model.frozen=bf16"]),
            &with("train", &["lora.alpha=8"]),
            &with("train", &["lora.targets=mlp"]),
            &with("train", &["lora.rank=-1"]),
            &with("train", &["lora.rank=4", "lora.alpha=0"]),
            &with("train", &["lora.rank=4", "lora.targets=head"]),
            &with("train", &[adapter]),
            &with("train", &[adapter, "lora.rank=8", "lora.alpha=8"]),
            &with("train", &[adapter, "lora.rank=4"]),
            &with("train", &[adapter, "lora.rank=4", "lora.alpha=8", "lora.targets=mlp"]),
            &with("sft", &["lora.rank=4"]),
            &train("lora", &["--resume", "--set", "lora.rank=8"]),
            &["train", "tiny.toml", "--out", "lora", "--resume"],
        ],
        expect![[r#"
            $ aepo train tiny.toml --out never --quiet --set model.frozen=bf16
            error: --set: `model.frozen` has no effect: lora.rank is 0 and there is no reference policy: no weights are frozen
            [2]
            $ aepo train tiny.toml --out never --quiet --set lora.alpha=8
            error: --set: `lora.alpha` has no effect: lora.rank is 0: all weights are trained
            [2]
            $ aepo train tiny.toml --out never --quiet --set lora.targets=mlp
            error: --set: `lora.targets` has no effect: lora.rank is 0: all weights are trained
            [2]
            $ aepo train tiny.toml --out never --quiet --set lora.rank=-1
            error: --set: `lora.rank` must be a whole number, 0 or more, not -1
            [2]
            $ aepo train tiny.toml --out never --quiet --set lora.rank=4 --set lora.alpha=0
            error: --set: `lora.alpha` is 0.0 but must be above 0
            [2]
            $ aepo train tiny.toml --out never --quiet --set lora.rank=4 --set lora.targets=head
            error: --set: `lora.targets` must be "all", "attention", "mlp" or a list of "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", each at most once, not "head"
            [2]
            $ aepo train tiny.toml --out never --quiet --set model.init=lora/checkpoints/step-000006
            error: DIR/lora/checkpoints/step-000006 holds what LoRA adds to a model: all weights cannot be trained
            hint: set lora.rank, lora.alpha and lora.targets to those of its adapter_config.json
            [2]
            $ aepo train tiny.toml --out never --quiet --set model.init=lora/checkpoints/step-000006 --set lora.rank=8 --set lora.alpha=8
            error: DIR/lora/checkpoints/step-000006/adapter_config.json: `r` is 4, but must be 8, as the settings say
            [1]
            $ aepo train tiny.toml --out never --quiet --set model.init=lora/checkpoints/step-000006 --set lora.rank=4
            error: DIR/lora/checkpoints/step-000006/adapter_config.json: `lora_alpha` is 8, but must be 32, as the settings say
            [1]
            $ aepo train tiny.toml --out never --quiet --set model.init=lora/checkpoints/step-000006 --set lora.rank=4 --set lora.alpha=8 --set lora.targets=mlp
            error: DIR/lora/checkpoints/step-000006/adapter_config.json: `target_modules` is q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, but must be gate_proj, up_proj, down_proj, as the settings say
            [1]
            $ aepo sft tiny.toml --out never --quiet --set lora.rank=4
            error: `lora.rank` is 4, but `sft.init` is "random": LoRA would leave the random weights as they are
            hint: name a model with sft.init, or set lora.rank = 0
            [2]
            $ aepo train tiny.toml --out lora --set lora.rank=4 --set lora.alpha=8 --set model.frozen=bf16 --set train.recompute=true --set train.learning_rate=1e-2 --resume --set lora.rank=8
            error: lora/config.toml: `lora.rank` is 4 in this run, and now 8 is asked for
            hint: a resumed run keeps its settings; start another with another --out
            [2]
            $ aepo train tiny.toml --out lora --resume
            error: lora/config.toml: `model.frozen` is "bf16" in this run, and now "f32" is asked for
            hint: a resumed run keeps its settings; start another with another --out
            [2]
        "#]],
    );
}
