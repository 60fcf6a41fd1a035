//! What does a run need around its settings? A model with its vocabulary, questions, and tools.

use std::path::Path;
use std::sync::Arc;

use aepo::config::{Config, Stored};
use aepo::data::countries::{Country, Split, parse_countries};
use aepo::data::questions::quickstart_tasks;
use aepo::data::task::Task;
use aepo::policy::Sampler as _;
use aepo::prompt::template::{self, ChatTemplate};
use aepo::prompt::{PromptError, Renderer, Tokenizer};
use aepo::seed::Seed;
use aepo::tool::ToolSpec;
use aepo_engine::Engine;
use aepo_engine::setup::{Setup, Train};
use aepo_tools::rows::read_tasks;
use anyhow::Context as _;

use crate::assets::{self, QUICKSTART};
use crate::checkpoint;
use crate::error::usage;
use crate::served;
use crate::source::{self, Chat, Place, Source, TokenizerFiles};

/// A model with its vocabulary.
pub struct Model {
    /// Weights.
    pub engine: Engine,
    /// Prompts, and actions read back.
    pub renderer: Renderer,
    /// The files about text, to be kept beside the weights.
    pub tokenizer: TokenizerFiles,
}

/// Loads a model to train afresh.
pub fn load(place: &Place, config: &Config, tools: &[ToolSpec]) -> anyhow::Result<Model> {
    model(source::load(place, &Setup::of(config, config.train.threads))?, config, tools)
}

/// Loads a checkpoint to go on from exactly.
pub fn load_checkpoint(dir: &Path, config: &Config, tools: &[ToolSpec]) -> anyhow::Result<Model> {
    model(source::load_checkpoint(dir, &Setup::of(config, config.train.threads))?, config, tools)
}

/// Loads a model to look at. A checkpoint says how many optimiser steps it has had; that is kept.
pub fn load_to_measure(place: &Place, config: &Config, tools: &[ToolSpec]) -> anyhow::Result<Model> {
    served::refuse(config)?;
    // Only what lies under LoRA was frozen while it was trained.
    let lies_under = matches!(place, Place::Directory(dir) if source::is_adapter(dir));
    let frozen = if lies_under { config.model.frozen } else { Stored::F32 };
    let setup = Setup { train: Train::Nothing, frozen, ..Setup::of(config, config.train.threads) };
    let source = match place {
        Place::Directory(dir) if checkpoint::is_one(dir) => source::load_checkpoint(dir, &setup)?,
        _ => source::load(place, &setup)?,
    };
    model(source, config, tools)
}

/// The policy that training began with, to measure a divergence from; it shares the frozen weights under LoRA.
pub fn reference(init: &Place, trained: &Engine, config: &Config) -> anyhow::Result<Engine> {
    let adapter = match init {
        Place::Directory(dir) if source::is_adapter(dir) => Some(&**dir),
        _ => None,
    };
    if let Some(engine) = trained.reference(adapter)? {
        return Ok(engine);
    }
    let setup = Setup { train: Train::Nothing, ..Setup::of(config, config.train.threads) };
    Ok(source::load(init, &setup)?.engine)
}

/// Puts a model and what makes text of its ids together, in the recipe's protocol and with these tools to call. Rows of
/// the embedding that no token belongs to are never sampled.
pub fn model(source: Source, config: &Config, tools: &[ToolSpec]) -> anyhow::Result<Model> {
    let Source { mut engine, label, files, chat } = source;
    let tokenizer = tokenizer(&label, &files, engine.vocab_size())?;
    engine.limit_vocab(tokenizer.vocab_size());
    let renderer = renderer(tokenizer, &label, chat, config, tools)?;
    Ok(Model { engine, renderer, tokenizer: files })
}

/// A vocabulary that fits so many rows of an embedding.
pub fn tokenizer(label: &Path, files: &TokenizerFiles, vocab_size: usize) -> anyhow::Result<Arc<Tokenizer>> {
    let path = label.join(checkpoint::TOKENIZER);
    let parsed = Tokenizer::from_bytes(&files.json).with_context(|| path.display().to_string())?;
    if parsed.vocab_size() > vocab_size {
        anyhow::bail!(
            "{}: {} ids, but the model knows {vocab_size} (key vocab_size of config.json)",
            path.display(),
            parsed.vocab_size()
        );
    }
    Ok(Arc::new(parsed))
}

/// What makes ids of conversations and actions of ids.
pub fn renderer(
    tokenizer: Arc<Tokenizer>,
    label: &Path,
    chat: Chat,
    config: &Config,
    tools: &[ToolSpec],
) -> anyhow::Result<Renderer> {
    let path = label.join(checkpoint::TOKENIZER);
    let made = match config.chat_settings(tools, chat.eos_ids) {
        None => Renderer::tags(tokenizer, tools).map_err(|e| match e {
            PromptError::MissingSpecial { .. } => {
                let hint = "a model with a chat template needs prompt.protocol = \"aepo\", \"hermes\" or \"llama3\"";
                usage(format!("{}: {e}", path.display()), hint)
            }
            e => anyhow::Error::new(e).context(path.display().to_string()),
        })?,
        Some(settings) => {
            let in_label = || format!("the chat template of {}", label.display());
            if chat.templates.is_empty() {
                let hint = "put a chat_template.jinja beside the weights, or choose prompt.protocol = \"tags\"";
                return Err(usage(format!("{} holds no chat template", label.display()), hint));
            }
            let with_tools = settings.dialect.takes_schemas() && !tools.is_empty();
            let text = template::choose(&chat.templates, with_tools).with_context(in_label)?;
            let template = ChatTemplate::parse(text, chat.specials).with_context(in_label)?;
            Renderer::chat(tokenizer, template, settings).with_context(in_label)?
        }
    };
    Ok(made)
}

/// The facts inside the program.
pub fn countries() -> anyhow::Result<Vec<Country>> {
    Ok(parse_countries(assets::COUNTRIES.0, assets::COUNTRIES.1)?)
}

/// The questions of a split, as many as the recipe says. What was put right or left out of a file is told.
pub fn tasks(config: &Config, split: Split, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Vec<Task>> {
    let (key, n) = match split {
        Split::Train => ("tasks.n_train", config.tasks.n_train),
        Split::HeldOut => ("eval.n_tasks", config.eval.n_tasks),
    };
    if config.tasks.source == QUICKSTART {
        let tasks = quickstart_tasks(&countries()?, split, n, Seed(config.tasks.seed).child(split as u64));
        if tasks.len() < n {
            let message = format!("`{key}` is {n}, but the quickstart's facts give only {} questions", tasks.len());
            return Err(usage(message, ""));
        }
        return Ok(tasks);
    }
    let (file, layout) = match (split, &config.tasks.eval_file) {
        (Split::HeldOut, Some(file)) => (file, config.tasks.eval_layout),
        // The settings were checked: where the source is a file, so are the held-out questions.
        (Split::Train, _) | (Split::HeldOut, None) => (&config.tasks.source, config.tasks.layout),
    };
    let found = read_tasks(Path::new(file), config.task_shape(layout).as_ref())?;
    found.notes().iter().for_each(|note| tell(&format!("{file}: {note}")));
    let mut tasks = found.tasks;
    if split == Split::Train && tasks.len() < config.train.tasks_per_step {
        let (n, wanted) = (tasks.len(), config.train.tasks_per_step);
        let message = format!("{file} holds {n} tasks, but `train.tasks_per_step` is {wanted}");
        return Err(usage(message, ""));
    }
    tasks.truncate(n);
    Ok(tasks)
}
