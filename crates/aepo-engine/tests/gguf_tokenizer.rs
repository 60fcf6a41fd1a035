//! Does a GGUF file's tokenizer cut and merge as the model's own? The pieces expected here are those of the published
//! patterns under Python's `regex` module; the vocabulary is the 256 bytes and what a test adds.

use std::collections::BTreeMap;

use aepo_engine::gguf::names::Keys;
use aepo_engine::gguf::reader::Value;
use aepo_engine::gguf::tokenizer::tokenizer;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Byte-level BPE's letter for each byte (GPT-2's `bytes_to_unicode`): printable ones stand for themselves.
fn letters() -> Vec<String> {
    let mut next = 256;
    let letter = |byte: u32| {
        let own = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if own {
            byte
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).expect("a letter").to_string()
    };
    (0..256).map(letter).collect()
}

/// The 256 bytes as tokens 0 to 255, then `more` with their types.
fn keys(pre: &str, more: &[(&str, i64)], merges: &[&str]) -> Keys {
    let mut tokens = letters();
    let mut types = vec![1; 256];
    for (token, kind) in more {
        tokens.push((*token).to_owned());
        types.push(*kind);
    }
    let text = |text: &str| Value::Text(text.to_owned());
    BTreeMap::from([
        ("tokenizer.ggml.model".to_owned(), text("gpt2")),
        ("tokenizer.ggml.pre".to_owned(), text(pre)),
        ("tokenizer.ggml.tokens".to_owned(), Value::Texts(tokens)),
        ("tokenizer.ggml.token_type".to_owned(), Value::Integers(types)),
        ("tokenizer.ggml.merges".to_owned(), Value::Texts(merges.iter().map(|m| (*m).to_owned()).collect())),
        ("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(false)),
    ])
}

fn build(keys: &Keys) -> tokenizers::Tokenizer {
    let (json, _) = tokenizer(keys, 1000).expect("the tokenizer is accepted");
    json.parse().expect("the tokenizer loads")
}

fn ids(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, false).expect("the text is cut").get_ids().to_vec()
}

#[test]
fn text_is_cut_by_the_rules_of_the_model() {
    const TEXT: &str = "I'LL pay 12345 $+, \n\n  it's";
    let cases: [(&str, &[&str]); 6] = [
        ("gpt-2", &["I", "'", "LL", " pay", " 12345", " $+,", " \n\n ", " it", "'s"]),
        ("smollm", &["I", "'", "LL", " pay", " ", "1", "2", "3", "4", "5", " $+,", " \n\n ", " it", "'s"]),
        ("qwen2", &["I", "'LL", " pay", " ", "1", "2", "3", "4", "5", " $+,", " \n\n", " ", " it", "'s"]),
        ("llama-bpe", &["I", "'LL", " pay", " ", "123", "45", " $+,", " \n\n", " ", " it", "'s"]),
        ("llama3", &["I", "'LL", " pay", " ", "123", "45", " $+,", " \n\n", " ", " it", "'s"]),
        ("default", &["I", "'", "LL", " pay", " ", "123", "45", " ", "$+,", " \n\n ", " it", "'", "s"]),
    ];
    for (pre, expected) in cases {
        let tokenizer = build(&keys(pre, &[], &[]));
        let mut text = PreTokenizedString::from(TEXT);
        tokenizer.get_pre_tokenizer().expect("there are rules").pre_tokenize(&mut text).expect("the text is cut");
        let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let pieces: Vec<&str> = splits.iter().map(|(_, (start, end), _)| &TEXT[*start..*end]).collect();
        assert_eq!(pieces, expected, "{pre}");
    }
}

#[test]
fn every_text_comes_back() {
    for pre in ["gpt-2", "smollm", "qwen2", "llama-bpe", "default"] {
        let tokenizer = build(&keys(pre, &[("he", 1), ("<|x|>", 3)], &["h e"]));
        for text in ["", " the ", "a\r\n\tb", "汉字 é 🙂‍↔️", "<|x|> he <|x", "\u{0}\u{7f}\u{ffff}", "１２ ½ ٣"]
        {
            assert_eq!(tokenizer.decode(&ids(&tokenizer, text), false).expect("ids are known"), text, "{pre}");
        }
    }
    // Only Qwen's composes letters and accents first.
    let [qwen, llama] = ["qwen2", "llama-bpe"].map(|pre| build(&keys(pre, &[], &[])));
    assert_eq!(ids(&qwen, "e\u{301}"), ids(&qwen, "é"));
    assert_ne!(ids(&llama, "e\u{301}"), ids(&llama, "é"));
}

#[test]
fn ids_stay_those_of_the_file_wherever_special_tokens_and_gaps_stand() {
    let tails: [&[(&str, i64)]; 4] = [
        &[("he", 1), ("<|x|>", 3), ("<t>", 4)],
        &[("<|x|>", 3), ("he", 1), ("<t>", 4)],
        &[("[PAD256]", 5), ("<|x|>", 3), ("he", 1), ("<t>", 4)],
        &[("he", 1), ("<|x|>", 3), ("[PAD258]", 5), ("<t>", 4), ("[PAD260]", 5)],
    ];
    for tail in tails {
        let tokenizer = build(&keys("qwen2", tail, &["h e"]));
        for (id, (token, kind)) in (256..).zip(tail) {
            let expected = (*kind != 5).then_some(id);
            assert_eq!(tokenizer.token_to_id(token), expected, "{tail:?}");
            if let Some(id) = expected {
                assert_eq!(ids(&tokenizer, token), [id], "{tail:?}");
                let shown = if *kind == 3 { "" } else { *token };
                assert_eq!(tokenizer.decode(&[id], true).expect("the id is known"), shown, "{tail:?}");
            }
        }
    }
}

#[test]
fn llama_takes_whole_words_before_merging_and_frames_texts() {
    // `hey` is a token that no merge makes.
    let more = [("he", 1), ("hey", 1), ("<|b|>", 3), ("<|e|>", 3)];
    assert_eq!(ids(&build(&keys("llama-bpe", &more, &["h e"])), "hey"), [257]);
    assert_eq!(ids(&build(&keys("qwen2", &more, &["h e"])), "hey"), [256, u32::from(b'y')]);
    let mut framed = keys("llama-bpe", &more, &["h e"]);
    framed.insert("tokenizer.ggml.bos_token_id".into(), Value::Integer(258));
    framed.insert("tokenizer.ggml.eos_token_id".into(), Value::Integer(259));
    framed.remove("tokenizer.ggml.add_bos_token");
    let frame = |keys: &Keys| build(keys).encode("he", true).expect("the text is cut").get_ids().to_vec();
    assert_eq!(frame(&framed), [258, 256]);
    framed.insert("tokenizer.ggml.add_eos_token".into(), Value::Bool(true));
    assert_eq!(frame(&framed), [258, 256, 259]);
}

#[test]
fn a_tokenizer_that_would_lose_something_is_refused() {
    let good = keys("smollm", &[("he", 1)], &["h e"]);
    let refused = |key: &str, value: Option<Value>, words: &[&str]| {
        let mut keys = good.clone();
        match value {
            Some(value) => keys.insert(key.to_owned(), value),
            None => keys.remove(key),
        };
        let error = tokenizer(&keys, 257).expect_err(key).to_string();
        assert!(error.contains(key) && words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    };
    let texts = |texts: &[&str]| Some(Value::Texts(texts.iter().map(|t| (*t).to_owned()).collect()));
    let tokens = |change: &dyn Fn(&mut Vec<String>)| {
        let mut tokens = letters();
        tokens.push("he".into());
        change(&mut tokens);
        Some(Value::Texts(tokens))
    };
    for key in ["tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"] {
        refused(key, None, &["missing"]);
    }
    refused("tokenizer.ggml.merges", None, &["missing"]);
    refused("tokenizer.ggml.merges", texts(&["he"]), &["entry 0", "no pair"]);
    refused("tokenizer.ggml.merges", texts(&["h e", "he y"]), &["entry 1", "does not have"]);
    refused("tokenizer.ggml.merges", texts(&["h e", "h e"]), &["twice"]);
    refused("tokenizer.ggml.tokens", tokens(&|t| t[256] = t[65].clone()), &["`A` twice, as 65 and 256"]);
    refused("tokenizer.ggml.tokens", tokens(&|t| t[256] = String::new()), &["empty", "256"]);
    refused("tokenizer.ggml.tokens", tokens(&|t| t.push("more".into())), &["258", "257 rows"]);
    refused("tokenizer.ggml.token_type", Some(Value::Integers(vec![1; 256])), &["257"]);
    refused("tokenizer.ggml.add_bos_token", Some(Value::Integer(1)), &["true or false"]);
    refused("tokenizer.ggml.bos_token_id", Some(Value::Integer(257)), &["257"]);
    refused("tokenizer.ggml.add_space_prefix", Some(Value::Bool(true)), &["space"]);
    let (mut asks, key) = (good.clone(), "tokenizer.ggml.bos_token_id");
    asks.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(true));
    assert!(tokenizer(&asks, 257).expect_err("no such token").to_string().contains(key));
}
