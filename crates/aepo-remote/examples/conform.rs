//! Does a real server do what our fakes of it do? Samples through one, and holds every number against this engine.
//!
//! `conform vllm|sglang URL MODEL_DIR SHARED_DIR adapters|whole`: the server serves MODEL_DIR and sees SHARED_DIR, an empty
//! directory, under the same path; the last word says which kind of new weights it is given. `benches/remote/vllm.sh` starts one. Ends with an error at the first number that is off.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo::config::lora::LoraTargets;
use aepo::policy::{
    Completion, Learner as _, PathId, PolicyVersion, SampleParams, SampleRequest, SampleStop, Sampler, StepParams,
};
use aepo::prompt::Tokenizer;
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::checkpoint::Precision;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use aepo_remote::publish::{Follower as _, Published, Weights};
use aepo_remote::sample::{RemoteSampler, SampleEngine, SampleSettings};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Log-probabilities of other programs on the same numbers in f32.
const TOLERANCE: f32 = 1e-4;
const N_PROMPT: usize = 300;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [engine, url, model, shared, kind] = &args[..] else {
        return Err("conform vllm|sglang URL MODEL_DIR SHARED_DIR adapters|whole".into());
    };
    let engine = if engine == "sglang" { SampleEngine::Sglang } else { SampleEngine::Vllm };
    let (model, shared) = (Path::new(model), Path::new(shared));
    let mut local = Engine::load(model, 2)?;
    let settings = SampleSettings {
        engine,
        urls: vec![url.clone()],
        model: None,
        key: None,
        n_top: 20,
        vocab_size: local.vocab_size(),
        context_len: local.context_len(),
        deadline: Duration::from_secs(120),
        try_within: Duration::from_secs(60),
        max_in_flight: 64,
        version: PolicyVersion(0),
    };
    let since = Instant::now();
    let mut remote = RemoteSampler::connect(settings)?;
    println!("connected in {:.2} s, context {} tokens", since.elapsed().as_secs_f64(), remote.context_len());

    let prompt: Vec<u32> = (0..N_PROMPT as u32).map(|i| (i * 37 + 11) % local.vocab_size() as u32).collect();

    // Four branches of one prompt: log-probabilities, entropies, prefix-cache hits.
    let base = remote.open(&prompt)?;
    sample(&mut remote, &[base], &Stop::at(&[]), 40, 1)?;
    remote.take_tally();
    let branches: Vec<PathId> = (0..4).map(|_| remote.fork(base, N_PROMPT)).collect::<Result<_, _>>()?;
    let done = sample(&mut remote, &branches, &Stop::at(&[]), 24, 2)?;
    let (worst, outside) = worst(&mut local, &prompt, &done)?;
    let tally = remote.take_tally();
    println!(
        "4 branches of {N_PROMPT} tokens: log-probabilities off by at most {worst:.2e}; entropies outside their bounds by \
         {outside:.2e} (known to within {:.4} nats); {} of {} tokens of prompts cached",
        0.5 * tally.widest_gap,
        tally.n_cached_tokens,
        tally.n_prompt_tokens
    );
    check(worst <= TOLERANCE, "log-probabilities")?;
    check(outside <= TOLERANCE, "entropies")?;
    check(tally.n_cached_tokens > 0, "prefix-cache hits on branches")?;

    // The same seed draws the same tokens.
    let again: Vec<PathId> = (0..4).map(|_| remote.fork(base, N_PROMPT)).collect::<Result<_, _>>()?;
    let repeated = sample(&mut remote, &again, &Stop::at(&[]), 24, 2)?;
    let ids = |done: &[Completion]| {
        done.iter().map(|c| c.tokens.iter().map(|t| t.token).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    check(ids(&done) == ids(&repeated), "a seed draws the same tokens again")?;
    println!("the same seeds draw the same tokens");
    branches.into_iter().chain(again).for_each(|path| remote.close(path));

    // Turns that end at a text over several tokens.
    let tokenizer = Tokenizer::from_bytes(&std::fs::read(model.join("tokenizer.json"))?)?;
    let pieces: Arc<[Box<[u8]>]> = tokenizer.byte_table();
    let stop = Arc::new(Stop { ids: Vec::new(), texts: vec!["e".to_owned(), "the".to_owned()], pieces });
    let path = remote.fork(base, N_PROMPT)?;
    let mut n_stopped = 0;
    for seed in 0..6 {
        let path = remote.fork(path, N_PROMPT)?;
        let done = sample(&mut remote, &[path], &stop, 60, 100 + seed)?;
        let turn: Vec<u32> = done[0].tokens.iter().map(|t| t.token).collect();
        let end = (1..=turn.len()).find(|&n| stop.ends(&turn[..n]));
        check(end.is_none_or(|n| n == turn.len()), "a turn ends where its text ends")?;
        check((done[0].stop == SampleStop::StopToken) == end.is_some(), "a turn says why it ended")?;
        n_stopped += usize::from(end.is_some());
        remote.close(path);
    }
    let tally = remote.take_tally();
    println!("{n_stopped} of 6 turns ended at a text, {} tokens behind it dropped", tally.n_surplus_tokens);
    check(n_stopped > 0, "turns end at texts")?;
    remote.close(path);

    // A request that is given up does not hold the server.
    let path = remote.fork(base, N_PROMPT)?;
    submit(&mut remote, path, &Stop::at(&[]), 600, 7)?;
    remote.poll()?;
    remote.close(path);

    let mut trainer = match &kind[..] {
        "adapters" => {
            let spec = LoraSpec { rank: 4, alpha: 8.0, targets: LoraTargets::all() };
            Engine::load_as(model, &Setup { train: Train::Lora(spec), seed: Seed(5), ..Setup::full(2) })?
        }
        _ => Engine::load(model, 2)?,
    };
    for version in 1..=3 {
        follow(&mut remote, &mut trainer, base, &prompt, version, &shared.join(format!("v{version}")))?;
    }
    println!("all as it should be");
    Ok(())
}

/// One step of the trainer, whose weights the server takes over; branches sampled by them are held against its own.
fn follow(
    remote: &mut RemoteSampler,
    trainer: &mut Engine,
    base: PathId,
    prompt: &[u32],
    version: u64,
    dir: &Path,
) -> Outcome<()> {
    learn(trainer, prompt)?;
    std::fs::create_dir(dir)?;
    let (weights, what) = match trainer.has_lora() {
        true => {
            trainer.save(dir, false)?;
            (Weights::Adapter(dir.to_owned()), "LoRA")
        }
        false => {
            trainer.export(dir, Precision::F32)?;
            (Weights::Full(dir.to_owned()), "whole weights")
        }
    };
    let since = Instant::now();
    remote.follow(&Published { version: PolicyVersion(version), weights })?;
    let secs = since.elapsed().as_secs_f64();
    let paths: Vec<PathId> = (0..2).map(|_| remote.fork(base, N_PROMPT)).collect::<Result<_, _>>()?;
    let done = sample(remote, &paths, &Stop::at(&[]), 24, 50 + version)?;
    let (worst, _) = worst(trainer, prompt, &done)?;
    println!("{what}, version {version}, taken over in {secs:.3} s: log-probabilities off by at most {worst:.2e}");
    check(worst <= TOLERANCE, "log-probabilities of the new weights")?;
    check(done.iter().all(|c| c.version == PolicyVersion(version) && c.changes.is_empty()), "the version is marked")?;
    paths.into_iter().for_each(|path| remote.close(path));
    Ok(())
}

fn check(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

fn submit(remote: &mut RemoteSampler, path: PathId, stop: &Arc<Stop>, n: usize, seed: u64) -> Outcome<()> {
    let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: true };
    let stop = Arc::clone(stop);
    remote.submit(SampleRequest {
        path,
        max_tokens: n,
        stop,
        n_turn: 0,
        params,
        seed: Seed(seed).child(path.0 % 4),
    })?;
    Ok(())
}

/// Samples on all paths at once; answers in the order of the paths.
fn sample(
    remote: &mut RemoteSampler,
    paths: &[PathId],
    stop: &Arc<Stop>,
    n: usize,
    seed: u64,
) -> Outcome<Vec<Completion>> {
    for &path in paths {
        submit(remote, path, stop, n, seed)?;
    }
    let mut done = Vec::new();
    while done.len() < paths.len() {
        done.extend(remote.poll()?);
    }
    done.sort_by_key(|completion| completion.path);
    Ok(done)
}

/// The largest error of a log-probability, and how far an entropy lies from what its error bound allows.
fn worst(engine: &mut Engine, prompt: &[u32], done: &[Completion]) -> Outcome<(f32, f32)> {
    let (mut worst, mut outside) = (0.0f32, 0.0f32);
    for completion in done {
        let tokens: Vec<u32> = prompt.iter().copied().chain(completion.tokens.iter().map(|t| t.token)).collect();
        let mut batch = TreeBatch::default();
        batch.push_segment(None, &tokens);
        let from = prompt.len() - 1..tokens.len() - 1;
        batch.targets = from.map(|i| Target { from_idx: i as u32, token: tokens[i + 1] }).collect();
        let stats = engine.forward(&batch, 1.0, false)?;
        for (i, token) in completion.tokens.iter().enumerate() {
            worst = worst.max((token.logprob - stats.logprobs[i]).abs());
            // The ten likeliest are exact; the whole lies above them.
            outside = outside.max(token.top_entropy - stats.entropies[i]);
        }
    }
    Ok((worst, outside))
}

/// One step on the prompt itself.
fn learn(engine: &mut Engine, prompt: &[u32]) -> Outcome<()> {
    let mut batch = TreeBatch::default();
    batch.push_segment(None, prompt);
    batch.targets = (1..prompt.len()).map(|i| Target { from_idx: i as u32 - 1, token: prompt[i] }).collect();
    let n = batch.targets.len();
    let params =
        StepParams { learning_rate: 0.01, weight_decay: 0.0, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };
    engine.forward(&batch, 1.0, true)?;
    engine.backward(&batch, &vec![-1.0 / n as f32; n], &[])?;
    check(engine.step(&params)?.applied, "a step")
}
