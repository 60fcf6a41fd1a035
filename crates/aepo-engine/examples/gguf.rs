//! Does a GGUF file load and speak? Prints its shape, the time and memory that loading takes, and what the model
//! says after a prompt, greedily.
//!
//! `cargo run --release -p aepo-engine --example gguf -- FILE [PROMPT [N_TOKENS]]`, or, for
//! `tests/golden/make_gguf_golden.py --check`, `... -- FILE --dump WEIGHTS TOKENIZER_JSON`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use aepo::policy::{SampleParams, SampleRequest, Sampler};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo_engine::Engine;
use aepo_engine::gguf::{self, reader::GgufFile};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [file, "--dump", weights, tokenizer] => dump(Path::new(file), weights, tokenizer),
        [file] => speak(Path::new(file), "The capital of France is", 24),
        [file, prompt] => speak(Path::new(file), prompt, 24),
        [file, prompt, n_tokens] => speak(Path::new(file), prompt, n_tokens.parse()?),
        _ => Err("usage: gguf FILE [PROMPT [N_TOKENS]] | FILE --dump WEIGHTS TOKENIZER_JSON".into()),
    }
}

fn speak(file: &Path, prompt: &str, n_tokens: usize) -> Fallible<()> {
    let start = Instant::now();
    let model = gguf::load(file)?;
    println!("{:#?}\n{:?}", model.config, model.text.special_ids);
    println!("{} weights read in {:.2} s, {}", model.params.len(), start.elapsed().as_secs_f64(), peak_memory());
    let start = Instant::now();
    let tokenizer: tokenizers::Tokenizer = model.text.tokenizer_json.parse()?;
    println!("{} tokens read in {:.2} s", tokenizer.get_vocab_size(true), start.elapsed().as_secs_f64());
    drop(model.text.tokenizer_json);
    let mut engine = Engine::new(model.config, model.params, 2)?;
    let tokens = tokenizer.encode(prompt, true)?.get_ids().to_vec();
    let path = engine.open(&tokens)?;
    let stop: Vec<u32> = model.text.special_ids.eos.into_iter().chain(model.text.special_ids.eot).collect();
    let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 1, top_entropy: false };
    engine.submit(SampleRequest {
        path,
        max_tokens: n_tokens,
        stop: Stop::at(&stop),
        n_turn: 0,
        params,
        seed: Seed(0),
    })?;
    let start = Instant::now();
    let said = loop {
        if let Some(done) = engine.poll()?.pop() {
            break done.tokens;
        }
    };
    let secs = start.elapsed().as_secs_f64();
    let ids: Vec<u32> = said.iter().map(|t| t.token).collect();
    println!("{prompt}⟶{}", tokenizer.decode(&ids, false)?);
    println!("{} tokens in {secs:.2} s, {}", ids.len(), peak_memory());
    Ok(())
}

/// Writes every tensor as the file has it, in the order of names, and the tokenizer.
fn dump(file: &Path, weights: &str, tokenizer: &str) -> Fallible<()> {
    std::fs::write(tokenizer, gguf::load(file)?.text.tokenizer_json)?;
    let mut source = GgufFile::open(File::open(file)?)?;
    let mut out = BufWriter::new(File::create(weights)?);
    for info in source.tensors.clone().values() {
        let mut numbers = vec![0.0f32; info.shape.iter().product()];
        source.read_tensor(info, &mut numbers)?;
        for x in numbers {
            out.write_all(&x.to_le_bytes())?;
        }
    }
    Ok(out.flush()?)
}

/// Linux's count of the most memory that this process has held.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or("peak memory unknown".into(), |peak| format!("peak memory {}", peak.trim()))
}
