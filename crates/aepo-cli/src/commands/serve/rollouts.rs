//! How are trees grown for programs that train elsewhere? As `aepo rollout` grows one, for whoever asks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aepo::policy::{PolicyVersion, Sampler};
use aepo::record::TreeRecord;
use aepo::run::{self, Orders, Run};
use aepo::seed::Seed;
use aepo_remote::sample::SampleEngine;
use aepo_tools::Tools;
use aepo_tools::hub::What;
use aepo_tools::serve::rollouts::groups::{Groups, Limits, Order};
use aepo_tools::serve::rollouts::{Rollouts, routes};
use aepo_tools::serve::{BODY_PATIENCE, Key};

use super::args::{ServeArgs, ServersArg};
use super::{KEY, listen, mark};
use crate::args::Telling;
use crate::commands::eval::run_recipe;
use crate::error::usage;
use crate::interrupt::{self, interruptible};
use crate::progress::{Teller, print};
use crate::recipe;
use crate::served;
use crate::source;
use crate::toolbox;
use crate::world;

/// Label of the run seed's stream that these trees draw from.
const ROLLOUTS: u64 = 6;
/// How often somebody who waits for orders looks whether to stop.
const IDLE: Duration = Duration::from_millis(50);
/// Stands in the recipe where callers name the servers; nobody is asked there.
const NOWHERE: &str = "http://named-by-callers.invalid";

/// Who samples.
enum Samples {
    /// This program.
    Here(Box<dyn Sampler>),
    /// Servers: those of the recipe, or those that callers name.
    There { engine: SampleEngine, vocab_size: usize, context_len: usize },
}

/// Serves trees of a recipe.
pub fn serve(args: &ServeArgs, address: &str, key: Option<Arc<Key>>) -> anyhow::Result<()> {
    for (name, n) in [("--max-groups", args.max_groups), ("--keep-secs", args.keep_secs as usize)] {
        if n == 0 {
            return Err(usage(format!("{name} must be at least 1"), ""));
        }
    }
    let run_recipe = run_recipe(Path::new(&args.model))?;
    let is_run = run_recipe.is_some();
    let recipe = run_recipe.map_or_else(|| recipe::find(&args.model), Ok)?;
    let mut sets = recipe::parse_sets(&args.sets)?;
    if let Some(servers) = args.servers {
        let engine = if servers == ServersArg::Vllm { "vllm" } else { "sglang" };
        sets.push(("policy.sample.engine".to_owned(), engine.to_owned()));
        sets.push(("policy.sample.urls".to_owned(), format!("[\"{NOWHERE}\"]")));
    }
    let config = recipe::resolve(&recipe, &sets)?;
    config.left_out.iter().for_each(|line| eprintln!("{line}"));
    if args.servers.is_some() && config.policy_sample.key_env.is_some() {
        let message = "--servers asks whatever servers callers name, and policy.sample.key_env would hand them a key";
        return Err(usage(message.to_owned(), "leave one of the two away"));
    }
    let mut teller = Teller::new(Telling { quiet: false, json: false });
    let named = source::named(if is_run { &args.model } else { &config.model.init })?;
    let engine = served::engine(&config);
    let what = if engine.is_some() { What::Facts } else { What::Everything };
    let (place, _) = source::bring(&named, what, args.net.offline, &mut teller)?;
    let mut tools = toolbox::start(&config, &mut teller)?;
    let (samples, renderer, context_len) = if let Some(engine) = engine {
        let facts = source::look(&place)?;
        let (vocab_size, context_len) = (facts.config.vocab_size, facts.config.max_position_embeddings);
        let tokenizer = world::tokenizer(&facts.label, &facts.files, vocab_size)?;
        let renderer =
            world::renderer(tokenizer, &facts.label, facts.chat, &config, aepo::tool::Toolset::tools(&tools))?;
        (Samples::There { engine, vocab_size, context_len }, renderer, context_len)
    } else {
        let model = world::load_to_measure(&place, &config, aepo::tool::Toolset::tools(&tools))?;
        let context_len = model.engine.context_len();
        (Samples::Here(Box::new(model.engine)), model.renderer, context_len)
    };
    let limits = Limits { max_groups: args.max_groups, keep: Duration::from_secs(args.keep_secs) };
    let groups = Arc::new(Groups::new(limits));
    let asked = renderer.clone();
    let needs_key = key.is_some();
    let server = listen(
        address,
        routes(Rollouts {
            groups: Arc::clone(&groups),
            render: Box::new(move |task| asked.first_prompt(task).map_err(|e| e.to_string())),
            k: config.rollout.k,
            params: config.drive_settings().params,
            max_response_tokens: config.drive_settings().limits.response_tokens,
            context_len,
            names_servers: args.servers.is_some(),
            key,
            body_patience: BODY_PATIENCE,
        }),
    )?;
    let url = format!("http://{}", server.address);
    mark(args, &url)?;
    let by = match (&samples, args.servers.is_some()) {
        (Samples::Here(_), _) => "by this program".to_owned(),
        (_, true) => "by the servers that callers name".to_owned(),
        (..) => format!("by {}", config.policy_sample.urls.join(", ")),
    };
    let bearer = if needs_key { format!(" -H \"Authorization: Bearer ${KEY}\"") } else { String::new() };
    let servers = if args.servers.is_some() { ", \"servers\": [\"http://127.0.0.1:8001\"]" } else { "" };
    print(&format!(
        "{} on {url}/rollouts: trees of {} trajectories, sampled {by}\ntry    curl -s {url}/rollouts -H 'content-type: \
         application/json'{bearer} -d '{{\"group\": \"a\", \"index\": 0, \"question\": \"Find the area of \
         Peru.\"{servers}}}'\nstop   Ctrl-C\n",
        args.model, config.rollout.k,
    ))?;
    let run = Run { config, tasks: Vec::new(), renderer };
    let mut desk = Desk { run, groups: &groups, samples, sampler: None };
    while !interrupt::asked() && !server.has_ended() {
        if let Some(order) = groups.wait(IDLE) {
            desk.grow(order, &mut tools);
        }
    }
    groups.close("the server is being stopped");
    Ok(())
}

/// Whoever grows the trees.
struct Desk<'a> {
    run: Run,
    groups: &'a Groups,
    samples: Samples,
    /// What asks the servers, and which those are.
    sampler: Option<(Vec<String>, Box<dyn Sampler>)>,
}

impl Desk<'_> {
    /// Grows the tree of the oldest order, and of those that come meanwhile and want the same servers.
    fn grow(&mut self, first: Order, tools: &mut Tools) {
        let name = first.task.id.clone();
        let (run, groups) = (&self.run, self.groups);
        let seed = Seed(run.config.train.seed).child(ROLLOUTS);
        let mut taken = Taken { groups, servers: first.servers, seed, growing: Vec::new() };
        let sampler: &mut dyn Sampler = match &mut self.samples {
            Samples::Here(sampler) => &mut **sampler,
            &mut Samples::There { engine, vocab_size, context_len } => {
                if self.sampler.as_ref().is_none_or(|(servers, _)| *servers != taken.servers) {
                    self.sampler = None;
                    let urls = match &taken.servers[..] {
                        [] => &run.config.policy_sample.urls,
                        named => named,
                    };
                    match served::connect_to(urls, engine, &run.config, vocab_size, context_len, PolicyVersion(0)) {
                        Ok(sampler) => self.sampler = Some((taken.servers.clone(), Box::new(sampler))),
                        Err(why) => return groups.fail(&name, &format!("{why:#}")),
                    }
                }
                match &mut self.sampler {
                    Some((_, sampler)) => &mut **sampler,
                    None => return,
                }
            }
        };
        if let Err(why) = run.fulfil(&mut taken, &mut interruptible(sampler), tools) {
            let why = if interrupt::asked() { "the server is being stopped".to_owned() } else { why.to_string() };
            eprintln!("{} trees are lost: {why}", taken.growing.len());
            taken.growing.iter().for_each(|name| groups.fail(name, &why));
            // Those who ask again are asked by new connections.
            self.sampler = None;
        }
    }
}

/// The orders for one set of servers.
struct Taken<'a> {
    groups: &'a Groups,
    servers: Vec<String>,
    seed: Seed,
    /// Names of groups.
    growing: Vec<String>,
}

impl Orders for Taken<'_> {
    fn next(&mut self) -> Option<run::Order> {
        let Order { task, prompt, seed, .. } = self.groups.take(&self.servers)?;
        self.growing.push(task.id.clone());
        Some(run::Order { task, prompt, seed: seed.into_iter().fold(self.seed, Seed::child) })
    }

    fn done(&mut self, tree: TreeRecord) {
        self.growing.retain(|name| *name != tree.task.id);
        self.groups.done(tree);
    }
}
