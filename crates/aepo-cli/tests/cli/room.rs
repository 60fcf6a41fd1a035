//! Is what cannot fit refused before it begins, and what can be estimated said?

use std::path::PathBuf;

use crate::support::{place, stderr};

/// A shape of more weights than any machine holds.
const GIANT: &str = r#"{"model_type":"qwen3","vocab_size":2048,"hidden_size":16384,"intermediate_size":65536,
    "num_hidden_layers":200,"num_attention_heads":64,"num_key_value_heads":8,"head_dim":128,
    "max_position_embeddings":512,"tie_word_embeddings":true}"#;

fn recipe(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../recipes").join(name);
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_check_says_what_a_run_takes_and_can_still_be_used_as_a_recipe() {
    let place = place();
    let text = place.ok(&["check", "tiny.toml"]);
    for line in ["# This machine: ", "# Model: qwen3, 0.1 M weights in 2 blocks", "# Memory: ", "# Time: "] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line}\n{text}");
    }
    let text = place.ok(&["check", "tiny.toml", "--set", "model.init=maker/absent", "--offline"]);
    assert!(
        text.contains("# Model: not at hand, so that nothing can be estimated: maker/absent is not in the"),
        "{text}"
    );
}

#[test]
fn the_recipes_of_the_papers_runs_are_estimated_without_their_models_and_refused() {
    let place = place();
    for (name, weights) in [
        ("qwen2.5-7b-reasoning.toml", "qwen2, 7.62 G weights in 28 blocks"),
        ("llama3.1-8b-reasoning.toml", "llama, 8.03 G weights in 32 blocks"),
        ("qwen3-8b-deepsearch.toml", "qwen3, 8.19 G weights in 36 blocks"),
        ("qwen3-14b-deepsearch.toml", "qwen3, 14.77 G weights in 40 blocks"),
    ] {
        // Terabytes of keys and values, so that it is refused wherever this test runs.
        let output = place.run(&["check", &recipe(name), "--offline", "--set", "rollout.max_live_paths=100000"]);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(text.contains(&format!("# Model: {weights}")), "{name}\n{text}{}", stderr(&output));
        assert!(text.contains("; only [model.expect] is known of it here ("), "{text}");
        let error = stderr(&output);
        assert!(error.starts_with("error: this run does not fit this machine: it takes "), "{error}");
        assert!(error.contains("\n  with lora.rank = 16 and model.frozen = \"bf16\" "), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn what_cannot_fit_is_refused_before_weights_are_looked_for() {
    let place = place();
    std::fs::create_dir(place.path("giant")).unwrap();
    std::fs::write(place.path("giant/config.json"), GIANT).unwrap();
    std::fs::copy(place.path("cold/model/tokenizer.json"), place.path("giant/tokenizer.json")).unwrap();
    let sets = ["--set", "model.shape.hidden_size=16384", "--set", "model.shape.intermediate_size=65536"];
    let deep = ["--set", "model.shape.n_layers=200"];
    for args in [
        vec!["train", "tiny.toml", "--out", "too-large", "--set", "model.init=giant"],
        vec!["sft", "tiny.toml", "--out", "too-large", "--set", "sft.init=giant"],
        [&["sft", "tiny.toml", "--out", "too-large"][..], &sets, &deep].concat(),
    ] {
        let shape_is_free = !args.contains(&"sft.init=giant");
        if !shape_is_free {
            // [model.shape] has no effect beside a model with a shape of its own.
            let text = std::fs::read_to_string(place.path("tiny.toml")).unwrap();
            let (before, behind) = text.split_once("[model.shape]").unwrap();
            let behind = behind.split_once("[tasks]").unwrap().1;
            std::fs::write(place.path("shapeless.toml"), format!("{before}[tasks]{behind}")).unwrap();
        }
        let args: Vec<&str> =
            args.iter().map(|a| if *a == "tiny.toml" && !shape_is_free { "shapeless.toml" } else { a }).collect();
        let output = place.run(&args);
        let error = stderr(&output);
        assert!(error.contains("error: this run does not fit this machine: it takes "), "{args:?}: {error}");
        assert_eq!(output.status.code(), Some(1));
    }
    assert!(!place.path("too-large").exists());
}

#[test]
fn a_model_that_is_not_what_the_recipe_expects_is_an_error() {
    let place = place();
    let expect = "[model.expect]\nfamily = \"qwen3\"\nvocab_size = 2048\nhidden_size = 32\nintermediate_size = 64\n\
                  n_layers = 2\nn_heads = 2\nn_kv_heads = 1\nhead_dim = 16\ncontext_len = 512\ntied_head = true\n";
    let tiny = std::fs::read_to_string(place.path("tiny.toml")).unwrap();
    std::fs::write(place.path("expects.toml"), format!("{tiny}{expect}")).unwrap();
    place.ok(&["check", "expects.toml"]);
    for (set, expected) in [
        ("model.expect.n_layers=3", "error: `model.expect.n_layers` is 3, but DIR/cold/model has 2\n"),
        ("model.expect.family=llama", "error: `model.expect.family` is llama, but DIR/cold/model has qwen3\n"),
    ] {
        for command in [&["check", "expects.toml"][..], &["train", "expects.toml", "--out", "unexpected"]] {
            let output = place.run(&[command, &["--set", set]].concat());
            assert_eq!(stderr(&output).replace(place.dir.to_str().unwrap(), "DIR"), expected);
            assert_eq!(output.status.code(), Some(1));
        }
    }
    std::fs::write(place.path("half.toml"), format!("{tiny}[model.expect]\nfamily = \"qwen3\"\n")).unwrap();
    let output = place.run(&["check", "half.toml"]);
    assert!(stderr(&output).contains("`model.expect.vocab_size` is not set but must be set where another key of"));
    assert_eq!(output.status.code(), Some(2));
}
