//! How do other programs use a model of ours? Over OpenAI's API, or by the tree, until somebody asks to stop.

pub mod args;
mod rollouts;
mod talk;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aepo::config::{Arithmetic, Stored};
use aepo_engine::config::ModelConfig;
use aepo_engine::memory::{Plan, Reference, estimate};
use aepo_engine::setup::{Setup, Train};
use aepo_tools::http::Secret;
use aepo_tools::hub::What;
use aepo_tools::serve::openai::desk::{Limits, Worker};
use aepo_tools::serve::openai::{Served, routes};
use aepo_tools::serve::{BODY_PATIENCE, Key, Router, ServeError, Server, address};
use anyhow::Context as _;

use crate::args::Telling;
use crate::assets::QUICKSTART;
use crate::commands::eval::run_recipe;
use crate::error::usage;
use crate::interrupt;
use crate::machine;
use crate::progress::{Teller, print};
use crate::recipe;
use crate::source::{self, Place};
use crate::table::bytes;
use args::{ArithmeticArg, ServeArgs};

/// The variable that holds the key.
const KEY: &str = "AEPO_API_KEY";
/// The cache is never larger by itself, tokens.
const MOST_CACHED: u64 = 1 << 17;
/// Of the free memory, the cache takes this part by itself.
const PART: u64 = 4;

/// Serves a model, or trees of a recipe.
pub fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let host = &args.host;
    let (address, is_own) = address(host, args.port).map_err(|_| {
        usage(format!("--host {host}: not an IP address"), "127.0.0.1 is this machine, 0.0.0.0 every address")
    })?;
    let key = key(args)?.map(Arc::new);
    if !is_own && key.is_none() {
        let message = format!("--host {host} can be reached by others, who would all be answered without a key");
        return Err(usage(message, &format!("put a key into the variable {KEY}, or listen on 127.0.0.1")));
    }
    if args.rollouts {
        interrupt::install()?;
        return rollouts::serve(args, &address, key);
    }
    if !args.sets.sets.is_empty() {
        let hint = "--rollouts serves trees of a recipe, where --set has its place";
        return Err(usage("--set has no effect on a model that is served".to_owned(), hint));
    }
    for (name, n) in
        [("--max-live", args.max_live), ("--max-waiting", args.max_waiting), ("--max-tokens", args.max_tokens)]
    {
        if n == 0 {
            return Err(usage(format!("{name} must be at least 1"), ""));
        }
    }
    interrupt::install()?;
    let recipe = run_recipe(Path::new(&args.model))?;
    let is_run = recipe.is_some();
    let config = recipe::resolve(&recipe.map_or_else(|| recipe::find(QUICKSTART), Ok)?, &[])?;
    let mut teller = Teller::new(Telling { quiet: false, json: false });
    let named = source::named(&args.model)?;
    let (place, _) = source::bring(&named, What::Everything, args.net.offline, &mut teller)?;
    let shape = source::shape(&place)?;
    let setup = {
        let n_threads = args.threads.filter(|&n| n > 0).unwrap_or_else(machine::n_cores);
        // Only what lies under LoRA was frozen while it was trained.
        let lies_under = matches!(&place, Place::Directory(dir) if source::is_adapter(dir));
        let frozen = if lies_under && is_run { config.model.frozen } else { Stored::F32 };
        let arithmetic = match args.arithmetic {
            Some(ArithmeticArg::F32) => Arithmetic::F32,
            Some(ArithmeticArg::Bf16) => Arithmetic::Bf16,
            None if is_run => config.model.arithmetic,
            None => Arithmetic::F32,
        };
        Setup { train: Train::Nothing, frozen, arithmetic, ..Setup::of(&config, n_threads) }
    };
    let cache_tokens = cache_tokens(args, &shape, &setup)?;
    let model = source::load(&place, &setup)?;
    let run = is_run.then_some(&config);
    let (engine, talk, ways) = talk::of(model, run, args.dialect)?;
    let name = args.name.clone().unwrap_or_else(|| args.model.trim_end_matches('/').to_owned());
    let limits = Limits { cache_tokens, max_live: args.max_live, max_waiting: args.max_waiting };
    let (desk, worker) = Worker::start(engine, limits).context("starting to sample")?;
    let needs_key = key.is_some();
    let served = Served {
        name: name.clone(),
        talk: Arc::new(talk),
        desk,
        default_max_tokens: args.max_tokens,
        key,
        body_patience: BODY_PATIENCE,
    };
    let holds_conversations = served.talk.holds_conversations();
    let server = listen(&address, routes(served))?;
    let url = format!("http://{}", server.address);
    mark(args, &url)?;
    let cost = cache_bytes(&shape, cache_tokens as u64);
    let (route, body) = match holds_conversations {
        true => ("chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"Find the area of Peru.\"}]}"),
        false => ("completions", "{\"prompt\": \"The area of Peru is\"}"),
    };
    let bearer = if needs_key { format!(" -H \"Authorization: Bearer ${KEY}\"") } else { String::new() };
    print(&format!(
        "{name} on {url}/v1 ({ways})\ncache  {cache_tokens} tokens, up to {}; {} answers at once\ntry    curl -s \
         {url}/v1/{route} -H 'content-type: application/json'{bearer} -d '{body}'\nstop   Ctrl-C\n",
        bytes(cost),
        args.max_live
    ))?;
    while !interrupt::asked() && !server.has_ended() {
        // Nothing happens here; the server has threads of its own.
        std::thread::sleep(Duration::from_millis(50));
    }
    // Streams are told their end before the connections that carry them are closed.
    drop(worker);
    drop(server);
    Ok(())
}

/// Starts to answer.
fn listen(address: &str, routes: Router) -> anyhow::Result<Server> {
    Server::start(address, routes).map_err(|e| match e {
        ServeError::Listen { .. } => usage(e.to_string(), "choose another --port; 0 takes a free one"),
        e => e.into(),
    })
}

/// Writes the address down for whoever waits for it.
fn mark(args: &ServeArgs, url: &str) -> anyhow::Result<()> {
    match &args.address_file {
        Some(path) => std::fs::write(path, format!("{url}\n")).with_context(|| path.display().to_string()),
        None => Ok(()),
    }
}

/// The key of the command line or the environment; an empty variable is as good as none.
fn key(args: &ServeArgs) -> anyhow::Result<Option<Key>> {
    let (text, place) = match (&args.api_key, std::env::var_os(KEY)) {
        (Some(key), _) => (key.clone(), "--api-key"),
        (None, Some(key)) if !key.is_empty() => {
            (key.into_string().map_err(|_| usage(format!("{KEY} holds no text"), ""))?, KEY)
        }
        (None, _) => return Ok(None),
    };
    let secret = Secret::of(&text).map_err(|why| usage(format!("{place} {why}"), ""))?;
    Ok(Some(Key::new(&secret)))
}

/// Bytes of so many tokens in the cache.
fn cache_bytes(shape: &ModelConfig, n_tokens: u64) -> u64 {
    // A key and a value of four bytes each, in every layer.
    8 * (shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim) as u64 * n_tokens
}

/// Tokens that the cache may hold. What does not fit in memory is refused before weights are read.
fn cache_tokens(args: &ServeArgs, shape: &ModelConfig, setup: &Setup) -> anyhow::Result<usize> {
    let context_len = shape.max_position_embeddings;
    let free = machine::free_memory();
    let by_itself = || {
        let room = free.map_or(u64::MAX, |free| free.bytes / PART / cache_bytes(shape, 1).max(1));
        room.min(MOST_CACHED).max(context_len as u64) as usize
    };
    let cache_tokens = args.cache_tokens.unwrap_or_else(by_itself);
    if cache_tokens < context_len.min(64) {
        let message = format!("--cache-tokens {cache_tokens}: no answer fits; the model's context has {context_len}");
        return Err(usage(message, ""));
    }
    let plan = Plan {
        setup: setup.clone(),
        pass_tokens: 0,
        path_tokens: cache_tokens,
        live_paths: 1,
        reference: Reference::None,
    };
    let need = estimate(shape, &plan).total();
    match free {
        Some(free) if need > free.bytes => {
            let message =
                format!("serving this model takes {}, and {} leaves {}", bytes(need), free.by, bytes(free.bytes));
            Err(usage(message, "a smaller --cache-tokens, or a smaller model, takes less"))
        }
        _ => Ok(cache_tokens),
    }
}
