//! Do all places give the same model, and do the files about text survive being handed on?

use std::path::{Path, PathBuf};

use aepo_engine::checkpoint::Precision;
use aepo_engine::config::ModelConfig;

use super::*;

const CONFIG: &str = r#"{"model_type":"llama","vocab_size":16,"hidden_size":8,"intermediate_size":8,
    "num_hidden_layers":1,"num_attention_heads":1,"max_position_embeddings":16,"tie_word_embeddings":true,
    "eos_token_id":[2,3]}"#;

fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../aepo-engine/tests/golden/gguf").join(family).join("model.gguf")
}

/// What the files of a directory say.
fn chat(files: &[(&str, &str)]) -> anyhow::Result<Chat> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    for (name, text) in files {
        std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    Chat::of(dir.path(), &TokenizerFiles::read(dir.path())?, &ModelConfig::from_json(CONFIG).unwrap())
}

#[test]
fn a_gguf_file_and_the_directory_made_of_it_are_the_same_model() {
    for family in ["llama", "qwen2", "qwen3"] {
        let place = place(golden(family).to_str().unwrap()).unwrap();
        assert!(matches!(place, Place::Gguf(_)));
        let source = load(&place, &Setup::full(1)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        source.engine.export(dir.path(), Precision::F32).unwrap();
        source.files.write(dir.path()).unwrap();
        let again = load(&self::place(dir.path().to_str().unwrap()).unwrap(), &Setup::full(1)).unwrap();
        assert_eq!(again.engine.config(), source.engine.config(), "{family}");
        assert_eq!((&again.files, &again.chat), (&source.files, &source.chat), "{family}");
        assert!(source.chat.specials.contains_key("eos_token"), "{family}: {:?}", source.chat);
    }
}

#[test]
fn every_file_about_text_is_handed_on() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
    ];
    std::fs::create_dir(from.path().join("additional_chat_templates")).unwrap();
    for name in names {
        std::fs::write(from.path().join(name), name).unwrap();
    }
    std::fs::write(from.path().join("README.md"), "not about text").unwrap();
    let files = TokenizerFiles::read(from.path()).unwrap();
    files.write(to.path()).unwrap();
    assert_eq!(TokenizerFiles::read(to.path()).unwrap(), files);
    assert_eq!(files.others.len(), names.len() - 1);
    for name in names {
        assert_eq!(std::fs::read_to_string(to.path().join(name)).unwrap(), name);
    }
    assert!(!to.path().join("README.md").exists());
}

#[test]
fn templates_in_their_own_files_come_before_those_of_the_settings() {
    let settings = r#"{"chat_template": "old"}"#;
    let one = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let cases = [
        (vec![("tokenizer_config.json", settings)], vec![one("default", "old")]),
        (vec![("tokenizer_config.json", settings), ("chat_template.jinja", "new")], vec![one("default", "new")]),
        (
            vec![("chat_template.jinja", "new"), ("additional_chat_templates/tool_use.jinja", "tools")],
            vec![one("default", "new"), one("tool_use", "tools")],
        ),
        (
            vec![(
                "tokenizer_config.json",
                r#"{"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}"#,
            )],
            vec![one("default", "a"), one("tool_use", "b")],
        ),
        (vec![], vec![]),
    ];
    for (files, expected) in cases {
        let found: Vec<_> = chat(&files).unwrap().templates.into_iter().collect();
        assert_eq!(found, expected, "{files:?}");
    }
}

#[test]
fn tokens_with_a_role_are_texts_or_objects_and_old_maps_count_beside_old_settings() {
    let new = r#"{"added_tokens_decoder": {}, "bos_token": null, "eos_token": {"content": "<e>", "lstrip": false}}"#;
    let old = r#"{"bos_token": "<b>", "eos_token": "<e>"}"#;
    let map = r#"{"eos_token": {"content": "<m>"}, "pad_token": "<p>", "additional_special_tokens": ["<x>"]}"#;
    let pairs = |files: &[(&str, &str)]| {
        let pair = |(role, token): (String, String)| format!("{role} {token}");
        chat(files).unwrap().specials.into_iter().map(pair).collect::<Vec<_>>()
    };
    let map = ("special_tokens_map.json", map);
    assert_eq!(pairs(&[("tokenizer_config.json", new), map]), ["eos_token <e>"]);
    assert_eq!(pairs(&[("tokenizer_config.json", old), map]), ["bos_token <b>", "eos_token <m>", "pad_token <p>"]);
}

#[test]
fn what_ends_a_turn_is_first_looked_for_in_the_defaults_of_sampling() {
    let eos = |text: &str| chat(&[("generation_config.json", text)]).unwrap().eos_ids;
    assert_eq!(eos(r#"{"eos_token_id": [5, 4]}"#), [5, 4]);
    assert_eq!(eos(r#"{"eos_token_id": 7}"#), [7]);
    assert_eq!(eos(r#"{"temperature": 0.7}"#), [2, 3]);
    assert_eq!(chat(&[]).unwrap().eos_ids, [2, 3]);
}

#[test]
fn files_that_say_something_else_are_errors_that_name_file_and_key() {
    for (name, text, expected) in [
        ("tokenizer_config.json", "[]", "tokenizer_config.json: not a JSON object"),
        ("tokenizer_config.json", r#"{"eos_token": 5}"#, "tokenizer_config.json: key `eos_token` is no token"),
        ("tokenizer_config.json", r#"{"chat_template": 5}"#, "key `chat_template` is neither"),
        ("tokenizer_config.json", r#"{"chat_template": [{"name": "x"}]}"#, "key `chat_template` is neither"),
        ("special_tokens_map.json", "{", "special_tokens_map.json: not a JSON object"),
        ("generation_config.json", r#"{"eos_token_id": -1}"#, "generation_config.json: key `eos_token_id` is neither"),
        (
            "generation_config.json",
            r#"{"eos_token_id": ["a"]}"#,
            "generation_config.json: key `eos_token_id` is neither",
        ),
    ] {
        let error = format!("{:#}", chat(&[(name, text)]).unwrap_err());
        assert!(error.contains(expected), "{name} {text}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let error = |dir: &Path| TokenizerFiles::read(dir).unwrap_err().to_string();
    assert!(error(dir.path()).ends_with("tokenizer.json: missing"), "{}", error(dir.path()));
    std::fs::write(dir.path().join("vocab.json"), "{}").unwrap();
    assert!(error(dir.path()).contains("let AutoTokenizer"), "{}", error(dir.path()));
    std::fs::create_dir(dir.path().join("tokenizer.json")).unwrap();
    assert!(error(dir.path()).contains("not a regular file"), "{}", error(dir.path()));
}
