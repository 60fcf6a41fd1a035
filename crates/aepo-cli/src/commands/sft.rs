//! How is the first model made? From random weights, on demonstrations, into a run directory with a model in it.

use std::path::{Path, PathBuf};

use aepo::config::Config;
use aepo::prompt::Tokenizer;
use aepo::prompt::demo::demonstrator;
use aepo::seed::Seed;
use aepo::sft::{SftRecord, SftRun};
use aepo_engine::Engine;
use aepo_engine::checkpoint::Precision;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};
use anyhow::Context as _;
use serde::Serialize;

use crate::args::SftArgs;
use crate::assets;
use crate::checkpoint::{self, State};
use crate::commands::train::{resume_command, resumed_config};
use crate::error::{Interrupted, usage};
use crate::interrupt;
use crate::machine::{Clock, peak_memory_mb};
use crate::progress::{Teller, print};
use crate::recipe;
use crate::run_dir::RunDir;
use crate::source::{Chat, Source, TokenizerFiles};
use crate::table::minutes;
use crate::world::{self, Model};

/// Time between checkpoints, seconds. When one is written changes nothing in what is computed.
const CHECKPOINT_SECS: f64 = 300.0;

/// Label of the seed's stream that draws the first weights.
const INIT: u64 = 2;

/// The result, in `summary.json`.
#[derive(Debug, Serialize)]
struct Summary {
    recipe: String,
    seed: u64,
    threads: usize,
    steps: u64,
    n_parameters: usize,
    /// Of the last step, nats per token.
    loss: f64,
    seconds: f64,
    cpu_secs: f64,
    peak_memory_mb: f64,
    aepo_version: String,
}

/// A row of `metrics.jsonl`.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    record: &'a SftRecord,
    secs_total: f64,
    tokens_per_sec: f64,
    peak_memory_mb: f64,
}

/// Trains a model from random weights, or goes on with it.
pub fn sft(args: &SftArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    let clock = Clock::start();
    let recipe = recipe::find(&args.run.recipe)?;
    let mut sets = recipe::parse_sets(&args.run.sets)?;
    sets.extend(args.seed.map(|n| ("sft.seed".to_owned(), n.to_string())));
    sets.extend(args.run.threads.map(|n| ("train.threads".to_owned(), n.to_string())));
    let mut config = recipe::resolve(&recipe, &sets)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(format!("{}-sft-seed{}", recipe.name, config.sft.seed)));
    let mut teller = Teller::new(args.run.telling);
    config.left_out.iter().for_each(|line| teller.note(&line.to_string()));
    let mut state = State { step: 0, elapsed_secs: 0.0, cpu_secs: 0.0, peak_memory_mb: 0.0 };
    let mut from = None;
    let mut dir = None;
    if args.run.resume {
        let opened = RunDir::resume(&out)?;
        config = resumed_config(&opened, config)?;
        let checkpoint::Found { newest, damaged } = checkpoint::newest(&out.join("checkpoints"))?;
        for one in &damaged {
            teller.warn(&format!("checkpoint {} is damaged and passed over: {}", one.path.display(), one.why));
        }
        if let Some((path, at)) = newest {
            (from, state) = (Some(path), at);
        }
        opened.keep_rows(state.step)?;
        dir = Some(opened);
    }
    let model = match &from {
        Some(path) => world::load_checkpoint(path, &config)?,
        None => random_model(&config)?,
    };
    let dir = match dir {
        Some(dir) => dir,
        None => RunDir::create(&out, &config.to_toml())?,
    };
    let Model { mut engine, renderer, tokenizer } = model;
    let demonstrator = demonstrator(renderer.tokenizer(), &world::countries()?);
    let run = SftRun { config, demonstrator, renderer };
    let n_steps = run.n_steps();
    let (earlier_secs, earlier_cpu_secs) = (state.elapsed_secs, state.cpu_secs);
    let (mut saved, mut last_save) = (from.map(|_| state.step), 0.0);
    let n_parameters = engine.n_parameters();
    teller.note(&format!(
        "{}: cold start of {:.1}M weights, {} steps from step {}, seed {}, {} threads, into {}",
        recipe.name,
        n_parameters as f64 / 1e6,
        n_steps,
        state.step,
        run.config.sft.seed,
        run.config.train.threads,
        dir.root.display(),
    ));
    let mut save = |state: &mut State, engine: &mut Engine, teller: &mut Teller| -> anyhow::Result<()> {
        if saved == Some(state.step) {
            return Ok(());
        }
        state.elapsed_secs = earlier_secs + clock.secs();
        state.cpu_secs = earlier_cpu_secs + clock.cpu_secs();
        state.peak_memory_mb = state.peak_memory_mb.max(peak_memory_mb());
        let path = checkpoint::write(&dir.root.join("checkpoints"), engine, &tokenizer, state)?;
        saved = Some(state.step);
        teller.event("checkpoint", &serde_json::json!({ "step": state.step, "path": path }));
        Ok(())
    };
    let mut loss = f64::NAN;
    teller.begin("cold start", n_steps, state.step);
    while state.step < n_steps {
        if interrupt::asked() {
            teller.end();
            save(&mut state, &mut engine, &mut teller)?;
            let resume = resume_command();
            teller.event("interrupted", &serde_json::json!({ "step": state.step, "resume": resume }));
            let hint = format!("{} steps are done; go on with\n  {resume}", state.step);
            return Err(Interrupted { hint: teller.for_people().then_some(hint) }.into());
        }
        let step_clock = Clock::start();
        let record = run.step(state.step, &mut engine)?;
        let secs_total = step_clock.secs();
        let tokens_per_sec = record.n_tokens as f64 / secs_total.max(1e-9);
        let row = Row { record: &record, secs_total, tokens_per_sec, peak_memory_mb: peak_memory_mb() };
        dir.append_row(&row)?;
        state.step += 1;
        loss = record.loss;
        teller.at(state.step);
        teller.inside(format!("loss {loss:.4}, {tokens_per_sec:.0} tokens/s"));
        if state.step.is_multiple_of(20) || state.step == n_steps {
            teller.note(&format!("step {:>5}/{n_steps}  loss {loss:.4}  {tokens_per_sec:.0} tokens/s", state.step));
        }
        teller.event("step", &row);
        if !record.applied {
            teller.warn(&format!(
                "step {}: the gradient was not finite, the weights were left as they were",
                record.step
            ));
        }
        if clock.secs() - last_save > CHECKPOINT_SECS {
            save(&mut state, &mut engine, &mut teller)?;
            last_save = clock.secs();
        }
    }
    teller.end();
    save(&mut state, &mut engine, &mut teller)?;
    export(&dir.root, &engine, &tokenizer)?;
    let summary = Summary {
        recipe: recipe.name,
        seed: run.config.sft.seed,
        threads: run.config.train.threads,
        steps: n_steps,
        n_parameters,
        loss,
        seconds: earlier_secs + clock.secs(),
        cpu_secs: earlier_cpu_secs + clock.cpu_secs(),
        peak_memory_mb: state.peak_memory_mb.max(peak_memory_mb()),
        aepo_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    dir.write_json("summary.json", &summary)?;
    teller.event("summary", &summary);
    if teller.for_people() {
        let (time, out) = (minutes(summary.seconds), out.display());
        print(&format!("{n_steps} steps in {time}. Train from it: --set model.init={out}/model\n"))?;
    }
    Ok(())
}

/// A Qwen3-style decoder of the recipe's shape with random weights and the vocabulary inside the program.
fn random_model(config: &Config) -> anyhow::Result<Model> {
    let tokenizer = Tokenizer::from_bytes(assets::TOKENIZER)?;
    let s = &config.shape;
    let shape = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: s.hidden_size,
        intermediate_size: s.intermediate_size,
        num_hidden_layers: s.n_layers,
        num_attention_heads: s.n_heads,
        num_key_value_heads: s.n_kv_heads,
        head_dim: s.head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: s.rope_theta,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: s.context_len,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    };
    shape.validate().map_err(|e| usage(format!("[model.shape]: {e}"), ""))?;
    let engine = Engine::random(shape, Seed(config.sft.seed).child(INIT), config.train.threads)?;
    let files = TokenizerFiles::alone(assets::TOKENIZER.to_vec());
    world::model(Source { engine, label: PathBuf::from("the program"), files, chat: Chat::default() }, config)
}

/// Writes `model/`: the weights in half their size, for shipping and for training to start from.
fn export(root: &Path, engine: &Engine, tokenizer: &TokenizerFiles) -> anyhow::Result<()> {
    let (path, temporary) = (root.join("model"), root.join(".model.tmp"));
    let write = || -> anyhow::Result<()> {
        std::fs::create_dir_all(&temporary)?;
        engine.export(&temporary, Precision::Bf16)?;
        tokenizer.write(&temporary)?;
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::rename(&temporary, &path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
