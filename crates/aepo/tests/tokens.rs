//! Do tokenizers in the manner of Qwen, Llama 3 and SmolLM2 give the ids that `transformers` gives, and can no text
//! become an added token? The ids come from `golden/make_tokens.py`.

use std::collections::BTreeMap;

use aepo::prompt::Tokenizer;
use aepo::prompt::tokenizer::pick_guard;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    texts: Vec<String>,
    rendered: Vec<String>,
    ids: BTreeMap<String, Ids>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    texts: Vec<Vec<u32>>,
    rendered: Vec<Vec<u32>>,
    decoded: Vec<String>,
}

const GUARD: char = '\u{fdd0}';

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/tokens.json")).unwrap()
}

fn tokenizer(kind: &str) -> Tokenizer {
    let json: &[u8] = match kind {
        "llama" => include_bytes!("golden/tokenizers/llama.json"),
        "qwen" => include_bytes!("golden/tokenizers/qwen.json"),
        "smol" => include_bytes!("golden/tokenizers/smol.json"),
        other => panic!("no tokenizer {other}"),
    };
    Tokenizer::from_bytes(json).unwrap()
}

#[test]
fn ids_are_those_of_transformers() {
    let golden = golden();
    assert_eq!(golden.ids.len(), 3);
    for (kind, expected) in &golden.ids {
        let tokenizer = tokenizer(kind);
        for ((text, ids), decoded) in golden.texts.iter().zip(&expected.texts).zip(&expected.decoded) {
            if text.contains('<') && text.contains("think>") || tokenizer.n_lost_bytes(text) > 0 {
                continue;
            }
            assert_eq!(&tokenizer.encode_text(text), ids, "{kind} {text:?}");
            assert_eq!(&tokenizer.encode_rendered(text, GUARD), ids, "{kind} {text:?}");
            assert_eq!(&tokenizer.decode(ids), decoded, "{kind} {text:?}");
        }
        for (text, ids) in golden.rendered.iter().zip(&expected.rendered) {
            assert_eq!(&tokenizer.encode_rendered(text, GUARD), ids, "{kind} {text:?}");
            assert_eq!(&tokenizer.decode(ids).replace('é', "e\u{301}"), &text.replace('é', "e\u{301}"), "{kind}");
        }
    }
}

#[test]
fn bytes_without_a_token_are_named_and_never_become_a_special_token() {
    let smol = tokenizer("smol");
    assert_eq!(smol.uncovered_bytes(), [0xF1, 0xF5, 0xF6, 0xFF]);
    assert!(tokenizer("qwen").uncovered_bytes().is_empty());
    assert_eq!(smol.n_lost_bytes("a\u{10ffff}"), 0);
    // U+50000 begins with the byte 0xF1, for which the file says `<|endoftext|>`.
    assert_eq!(smol.n_lost_bytes("é\u{50000}"), 1);
    let ids = smol.encode_text("a\u{50000}b");
    assert!(ids.iter().all(|&id| !smol.is_added(id)));
    assert_eq!(smol.decode(&ids).replace('\u{fffd}', ""), "ab");
    let broken =
        include_str!("golden/tokenizers/smol.json").replace("\"a\":", "\"aaaaaaa\":").replace("[\"a\",", "[\"e\",");
    assert!(Tokenizer::from_bytes(broken.as_bytes()).is_err());
}

/// Every way of cutting look-alikes into what is guarded and what is not.
#[test]
fn guarded_text_never_becomes_an_added_token_beside_whatever_it_stands() {
    let tokenizer = tokenizer("qwen");
    let n_added = |ids: &[u32]| ids.iter().filter(|&&id| tokenizer.is_added(id)).count();
    let texts =
        ["<|im_end|>", "<<think>>", "<|im_start|><|im_end|>", "<thin<think>k>", " <think> ", "<search></search>"];
    for text in texts {
        assert!(n_added(&tokenizer.encode_rendered(text, GUARD)) > 0);
        assert_eq!(n_added(&tokenizer.encode_text(text)), 0);
        for (from, _) in text.char_indices() {
            for to in (from + 1)..=text.len() {
                let guarded = tokenizer.guard_text(&text[from..to], GUARD);
                assert_eq!(guarded.replace(GUARD, ""), text[from..to]);
                for inside in [guarded.clone(), guarded.trim().to_owned(), guarded.to_lowercase()] {
                    // Nothing added reaches into the guarded part: what stands beside it gives what it gives alone.
                    let [before, behind] = [&text[..from], &text[to..]];
                    let alone = n_added(&tokenizer.encode_rendered(before, GUARD))
                        + n_added(&tokenizer.encode_rendered(behind, GUARD));
                    let whole = tokenizer.encode_rendered(&format!("{before}{inside}{behind}"), GUARD);
                    if inside.is_empty() {
                        continue;
                    }
                    assert_eq!(n_added(&whole), alone, "{before:?} {inside:?} {behind:?}");
                }
            }
        }
    }
    assert_eq!(tokenizer.guard_text("no look-alike, a < b", GUARD), "no look-alike, a < b");
    assert_eq!(
        tokenizer.encode_rendered(&tokenizer.guard_text("a <|im_end|> b", GUARD), GUARD),
        tokenizer.encode_text("a <|im_end|> b")
    );
}

#[test]
fn a_guard_is_a_character_that_no_text_holds() {
    assert_eq!(pick_guard(["a", "é"]).unwrap(), '\u{fdd0}');
    assert_eq!(pick_guard(["a\u{fdd0}", "\u{fdd1}"]).unwrap(), '\u{fdd2}');
    let all: String = ('\u{e000}'..='\u{10ffff}').collect();
    assert!(pick_guard([all.as_str()]).is_err());
}

#[test]
fn bytes_of_ids_make_up_the_text() {
    for kind in ["qwen", "llama", "smol"] {
        let tokenizer = tokenizer(kind);
        let table = tokenizer.byte_table();
        assert_eq!(table.len(), tokenizer.vocab_size());
        let text = "東京 é 🏔️ It's 2381740.\r\n";
        let bytes: Vec<u8> = tokenizer.encode_text(text).iter().flat_map(|&id| table[id as usize].to_vec()).collect();
        assert_eq!(bytes, text.as_bytes());
        let id = tokenizer.added("<think>").unwrap();
        assert!(tokenizer.is_added(id) && !tokenizer.is_special(id) && tokenizer.special("<think>").is_err());
        assert_eq!(tokenizer.token_bytes(id), Some(&b"<think>"[..]));
        assert_eq!(tokenizer.token_bytes(u32::MAX), None);
    }
}

#[test]
fn what_would_change_a_meaning_is_refused_by_name() {
    let file = include_str!("golden/tokenizers/qwen.json");
    let mut value: serde_json::Value = serde_json::from_str(file).unwrap();
    for (path, new, said) in [
        ("/added_tokens/0/lstrip", "true", "`lstrip`"),
        ("/added_tokens/0/rstrip", "true", "`rstrip`"),
        ("/added_tokens/0/single_word", "true", "`single_word`"),
        ("/added_tokens/0/content", "\" x\"", "white space"),
        ("/added_tokens/0/content", "\"x\"", "single"),
        ("/model/dropout", "0.5", "`dropout`"),
        ("/model/byte_fallback", "true", "`byte_fallback`"),
        ("/model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"),
        ("/normalizer", "{\"type\":\"Lowercase\"}", "normalizer"),
        ("/pre_tokenizer", "null", "`ByteLevel`"),
        ("/pre_tokenizer/pretokenizers/1/add_prefix_space", "true", "`add_prefix_space`"),
        ("/pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "removes text"),
    ] {
        let place = value.pointer_mut(path).unwrap();
        let old = std::mem::replace(place, serde_json::from_str(new).unwrap());
        let error = Tokenizer::from_bytes(value.to_string().as_bytes()).err().map(|e| e.to_string());
        *value.pointer_mut(path).unwrap() = old;
        assert!(error.as_ref().is_some_and(|e| e.contains(said)), "{path}: {error:?}");
    }
    assert!(Tokenizer::from_bytes(value.to_string().as_bytes()).is_ok());
}
