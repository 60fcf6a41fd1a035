//! Is a GGUF file read as others read it, and a bad one refused? The numbers come from `golden/make_gguf_golden.py`, which
//! uses the `gguf` Python package; the hostile files are its files, changed.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use aepo::policy::Learner;
use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::checkpoint::load_model;
use aepo_engine::gguf::quants::{Quant, dequantize};
use aepo_engine::gguf::reader::GgufFile;
use aepo_engine::gguf::{self, GgufError, GgufModel};
use aepo_engine::layout::Layout;
use safetensors::SafeTensors;

const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(name)
}

fn model(family: &str) -> Vec<u8> {
    std::fs::read(golden(family).join("model.gguf")).expect("the golden file is there")
}

fn read(bytes: &[u8]) -> Result<GgufModel, GgufError> {
    gguf::read(Cursor::new(bytes))
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn blocks_of_every_type_give_the_same_bits() {
    let types = [
        (0, "F32"),
        (1, "F16"),
        (30, "BF16"),
        (2, "Q4_0"),
        (3, "Q4_1"),
        (6, "Q5_0"),
        (7, "Q5_1"),
        (8, "Q8_0"),
        (12, "Q4_K"),
        (13, "Q5_K"),
        (14, "Q6_K"),
    ];
    let file = std::fs::read(golden("quants.safetensors")).expect("the golden file is there");
    let tensors = SafeTensors::deserialize(&file).expect("the golden file is whole");
    assert_eq!(tensors.len(), 2 * types.len());
    for (id, name) in types {
        let quant = Quant::of_id(id).expect("the type is known");
        let [blocks, values] =
            ["blocks", "values"].map(|part| tensors.tensor(&format!("{name}.{part}")).expect("the type has numbers"));
        assert_eq!([blocks.shape()[1], values.shape()[1]], [quant.block_bytes(), quant.block_len()], "{name}");
        let mut got = vec![0.0; blocks.shape()[0] * quant.block_len()];
        dequantize(quant, blocks.data(), &mut got);
        let expected = values.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")));
        let (mut n_finite, n) = (0, got.len());
        for (i, (g, e)) in got.into_iter().zip(expected).enumerate() {
            // What is not a number has many bit patterns, which differ between processors.
            let same = g.to_bits() == e.to_bits() || (g.is_nan() && e.is_nan());
            assert!(same, "{name}[{i}]: {g:e} ({:08x}), expected {e:e} ({:08x})", g.to_bits(), e.to_bits());
            n_finite += usize::from(g.is_finite());
        }
        assert!(2 * n_finite > n, "{name}: most numbers are finite");
    }
}

/// Log-probabilities and entropies of a short sequence, every one of its tokens a target.
fn outputs(path: &Path) -> (Vec<f32>, Vec<f32>) {
    let mut engine = Engine::load(path, 1).expect("the model loads");
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &[3, 1, 4, 1, 5, 9, 2, 6, 39, 0]);
    batch.targets = (0..10u32).flat_map(|i| (0..40).map(move |token| Target { from_idx: i, token })).collect();
    let stats = engine.forward(&batch, 1.0, false).expect("the batch is accepted");
    (stats.logprobs, stats.entropies)
}

#[test]
fn whole_models_equal_their_hugging_face_directories() {
    for family in FAMILIES {
        let path = golden(family).join("model.gguf");
        let model = gguf::load(&path).expect("the model loads");
        let (mut config, params) = load_model(&golden(family)).expect("the directory loads");
        // The directories' config.json name no special tokens.
        config.token_ids = model.config.token_ids.clone();
        assert_eq!(model.config, config, "{family}");
        for tensor in &Layout::new(&config).tensors {
            let range = tensor.range.clone();
            assert_eq!(bits(&model.params[range.clone()]), bits(&params[range]), "{family} {}", tensor.name);
        }
        let (logp, entropy) = outputs(&path);
        let (expected_logp, expected_entropy) = outputs(&golden(family));
        assert_eq!(bits(&logp), bits(&expected_logp), "{family}");
        assert_eq!(bits(&entropy), bits(&expected_entropy), "{family}");
    }
}

#[test]
fn the_text_of_a_model_comes_with_it() {
    for family in FAMILIES {
        let model = gguf::load(&golden(family).join("model.gguf")).expect("the model loads");
        assert!(model.text.chat_template.is_some_and(|t| t.contains("message.content")), "{family}");
        let tokenizer: tokenizers::Tokenizer = model.text.tokenizer_json.parse().expect("the tokenizer loads");
        let first = if family == "llama" { 2 } else { 0 };
        let (begin, end) = if family == "llama" { (0, 1) } else { (34, 35) };
        assert_eq!((model.text.special_ids.bos, model.text.special_ids.eos), (Some(begin), Some(end)), "{family}");
        // "he" is entry 32 of the tokens that are not special, " the" 33, "a" 0.
        let ids = tokenizer.encode("he the<|end|>a", false).expect("the text is cut").get_ids().to_vec();
        assert_eq!(ids, [first + 32, first + 33, end, first], "{family}");
        assert_eq!(tokenizer.decode(&ids, false).expect("ids are known"), "he the<|end|>a");
        assert_eq!(tokenizer.decode(&ids, true).expect("ids are known"), "he thea");
        let framed = tokenizer.encode("a", true).expect("the text is cut").get_ids().to_vec();
        let expected: &[u32] = if family == "llama" { &[begin, first] } else { &[first] };
        assert_eq!(framed, expected, "{family}");
        assert_eq!(tokenizer.token_to_id("[PAD36]"), None);
        assert_eq!(tokenizer.get_vocab_size(true), 36);
    }
}

/// Where the bytes behind the name of a key or tensor begin.
fn behind(bytes: &[u8], name: &str) -> usize {
    let mut needle = (name.len() as u64).to_le_bytes().to_vec();
    needle.extend_from_slice(name.as_bytes());
    let at = bytes.windows(needle.len()).position(|w| w == needle).unwrap_or_else(|| panic!("no {name}"));
    at + needle.len()
}

/// The llama file with `new` written `offset` bytes behind a name; an empty name is the beginning of the file.
fn patched(name: &str, offset: isize, new: &[u8]) -> Vec<u8> {
    let mut bytes = model("llama");
    let start = if name.is_empty() { 0 } else { behind(&bytes, name) };
    let start = start.checked_add_signed(offset).expect("the place is in the file");
    bytes[start..start + new.len()].copy_from_slice(new);
    bytes
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let error = read(bytes).expect_err(words[0]).to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{words:?} not in: {error}");
    assert!(error.len() < 400, "{error}");
}

#[test]
fn a_hostile_file_is_refused_by_name() {
    const HUGE: [u8; 8] = (u64::MAX - 7).to_le_bytes();
    let u32 = |x: u32| x.to_le_bytes();
    let u64 = |x: u64| x.to_le_bytes();
    // Head: magic 0, version 4, tensors 8, keys 16.
    refused(&patched("", 0, b"GGML"), &["not a GGUF file"]);
    refused(&patched("", 4, &u32(1)), &["version 1", "convert"]);
    refused(&patched("", 4, &u32(9)), &["version 9"]);
    refused(&patched("", 4, &3u32.to_be_bytes()), &["big-endian"]);
    refused(&patched("", 8, &HUGE), &["number of tensors", "truncated"]);
    refused(&patched("", 16, &HUGE), &["number of keys", "truncated"]);
    refused(&patched("", 24, &HUGE), &["name of key 0", "truncated"]);
    refused(&patched("", 8, &u64(22)), &["tensor"]);
    refused(&patched("", 16, &u64(5)), &["tensor"]);
    // Behind a key's name: its type, 4 bytes, and its value; an array's begins with its entries' type and their number.
    let key = "llama.block_count";
    refused(&patched(key, -17, b"llama.block_cound"), &["llama.block_cound", "not supported"]);
    refused(&patched(key, 0, &u32(77)), &[key, "unknown type 77"]);
    refused(&patched(key, 4, &u32(u32::MAX)), &[key, "more blocks"]);
    refused(&patched(key, 4, &u32(1)), &["blk.1.", "no place"]);
    refused(&patched(key, 4, &u32(0)), &["num_hidden_layers"]);
    refused(&patched(key, 0, &u32(6)), &[key, "whole number"]);
    refused(&patched(key, -17, b"general.alignment"), &[key, "missing"]);
    for bad in [0, 3, u32::MAX] {
        let mut bytes = patched(key, -17, b"general.alignment");
        let at = behind(&bytes, "general.alignment") + 4;
        bytes[at..at + 4].copy_from_slice(&u32(bad));
        refused(&bytes, &["general.alignment", "power of two"]);
    }
    refused(&patched("llama.embedding_length", 4, &u32(64)), &["token_embd.weight", "shape"]);
    refused(&patched("llama.attention.head_count", 4, &u32(0)), &["num_attention_heads"]);
    refused(&patched("llama.attention.head_count_kv", 4, &u32(3)), &["num_key_value_heads"]);
    refused(&patched("llama.context_length", 4, &u32(0)), &["max_position_embeddings"]);
    refused(&patched("llama.rope.freq_base", 4, &f32::NAN.to_le_bytes()), &["rope_theta"]);
    refused(&patched("general.architecture", 12, b"gemma"), &["general.architecture", "gemma", "llama"]);
    refused(&patched("general.architecture", 4, &HUGE), &["general.architecture", "truncated"]);
    refused(&patched("general.architecture", 12, b"\xff\xff"), &["general.architecture", "UTF-8"]);
    refused(&patched("tokenizer.ggml.bos_token_id", -12, b"eos_token_id"), &["tokenizer.ggml.eos_token_id", "twice"]);
    refused(&patched("tokenizer.ggml.bos_token_id", 4, &u32(36)), &["tokenizer.ggml.bos_token_id", "36"]);
    refused(&patched("tokenizer.ggml.add_bos_token", 4, &[2]), &["tokenizer.ggml.add_bos_token", "true"]);
    refused(&patched("tokenizer.ggml.model", 12, b"bert"), &["tokenizer.ggml.model", "bert"]);
    refused(&patched("tokenizer.ggml.pre", 12, b"tekken-90"), &["tokenizer.ggml.pre", "tekken-90", "qwen2"]);
    refused(&patched("tokenizer.ggml.tokens", 8, &HUGE), &["tokenizer.ggml.tokens", "truncated"]);
    refused(&patched("tokenizer.ggml.tokens", 4, &u32(9)), &["tokenizer.ggml.tokens", "array of arrays"]);
    refused(&patched("tokenizer.ggml.tokens", 4, &u32(99)), &["tokenizer.ggml.tokens", "unknown type 99"]);
    refused(&patched("tokenizer.ggml.tokens", 16, &HUGE), &["entry 0", "tokenizer.ggml.tokens", "truncated"]);
    refused(&patched("tokenizer.ggml.token_type", 4, &u32(6)), &["tokenizer.ggml.token_type", "integer"]);
    refused(&patched("tokenizer.ggml.token_type", 16, &u32(6)), &["tokenizer.ggml.token_type", "token 0"]);
    // Token 9 is `h`, of which the second merge is made.
    refused(&patched("tokenizer.ggml.token_type", 52, &u32(5)), &["tokenizer.ggml.merges", "entry 1"]);
    refused(&patched("tokenizer.ggml.merges", 24, b"zz"), &["tokenizer.ggml.merges", "entry 0"]);
    // Behind a tensor's name: the number of dimensions, the dimensions, the type, the offset.
    let tensor = "blk.1.attn_q.weight";
    refused(&patched(tensor, 0, &u32(5)), &[tensor, "5 dimensions"]);
    refused(&patched(tensor, 0, &u32(0)), &[tensor, "0 dimensions"]);
    refused(&patched(tensor, 4, &u64(0)), &[tensor, "dimension"]);
    refused(&patched(tensor, 4, &HUGE), &[tensor, "dimension"]);
    refused(&patched(tensor, 4, &u64(1 << 40)), &[tensor, "truncated"]);
    refused(&patched(tensor, 4, &u64(1 << 59)), &[tensor, "dimension"]);
    refused(&patched(tensor, 12, &u64(16)), &[tensor, "shape [16, 32]"]);
    refused(&patched(tensor, 20, &u32(10)), &[tensor, "Q2_K", "Q4_K"]);
    refused(&patched(tensor, 20, &u32(4)), &[tensor, "unknown type 4"]);
    refused(&patched(tensor, 20, &u32(12)), &[tensor, "blocks of 256"]);
    refused(&patched(tensor, 24, &u64(u64::MAX - 31)), &[tensor, "truncated"]);
    refused(&patched(tensor, 24, &u64(1)), &[tensor, "alignment"]);
    refused(&patched(tensor, 24, &u64(0)), &["overlaps"]);
    refused(&patched(tensor, 24, &u64(1 << 20)), &[tensor, "truncated"]);
    refused(&patched(tensor, -19, b"blk.0.attn_q.weight"), &["blk.0.attn_q.weight", "twice"]);
    refused(&patched(tensor, -19, b"blk.1.attn_z.weight"), &["blk.1.attn_q.weight", "missing"]);
}

#[test]
fn numbers_that_are_not_finite_or_not_there_are_refused() {
    let mut bytes = model("llama");
    let start = GgufFile::open(Cursor::new(&bytes)).expect("the header is good").tensors["output_norm.weight"].start;
    bytes[start as usize + 8..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    refused(&bytes, &["output_norm.weight", "not finite", "at 2"]);
    bytes.truncate(bytes.len() - 4);
    refused(&bytes, &["output.weight", "truncated"]);
}

#[test]
fn no_mutation_of_a_file_panics() {
    const N_CASES: u64 = 20_000;
    let originals = FAMILIES.map(model);
    let (mut n_read, mut n_refused) = (0, 0);
    for case in 0..N_CASES {
        let seed = Seed(20).child(case);
        let below = |index: u64, n: usize| (seed.uniform(index) * n as f64) as usize;
        let mut bytes = originals[below(0, originals.len())].clone();
        // The header is what can lie: it takes most of the blows.
        for blow in 0..1 + below(2, 4) as u64 {
            let reach = if below(1, 5) == 0 { bytes.len() } else { 4096 };
            let at = below(10 * blow + 3, reach - 8);
            match below(10 * blow + 4, 5) {
                0 => bytes[at] ^= 1 << below(10 * blow + 5, 8),
                1 => bytes[at] = below(10 * blow + 5, 256) as u8,
                2 => {
                    let extreme = [0, 1, u64::MAX, 1 << 63, 1 << 32, u64::MAX / 32, 1 << 22][below(10 * blow + 5, 7)];
                    bytes[at..at + 8].copy_from_slice(&extreme.to_le_bytes());
                }
                3 => bytes.copy_within(at..at + 8, below(10 * blow + 5, reach - 8)),
                _ => {
                    let shorter = below(10 * blow + 5, 40);
                    bytes.drain(at..(at + shorter).min(bytes.len()));
                }
            }
        }
        if below(3, 8) == 0 {
            bytes.truncate(below(4, bytes.len()));
        }
        match read(&bytes) {
            Ok(model) => {
                assert_eq!(model.params.len(), Layout::new(&model.config).n_parameters());
                assert!(model.params.iter().all(|x| x.is_finite()));
                n_read += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                n_refused += 1;
            }
        }
    }
    // Some blows only change a weight or a letter of a text, most do not.
    assert!(n_read > 1000 && n_refused > 10_000, "{n_read} read, {n_refused} refused");
}

#[test]
fn errors_name_the_file() {
    let error = gguf::load(Path::new("/nonexistent/m.gguf")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/m.gguf"), "{error}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("cut.GGUF");
    std::fs::write(&path, &model("qwen2")[..500]).expect("the file is written");
    let Err(error) = Engine::load(&path, 1) else { panic!("half a header was accepted") };
    assert!(error.to_string().contains("cut.GGUF") && error.to_string().contains("truncated"), "{error}");
}
