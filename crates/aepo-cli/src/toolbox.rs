//! Which tools does a recipe offer? The providers that it names, with their limits, cache and faults.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aepo::config::Config;
use aepo::config::tools::{CacheMode, Offered, Sandbox, SandboxLevel};
use aepo::data::world::search_corpus;
use aepo::tool::{ToolSpec, Toolset as _};
use aepo_tools::cache::{self, CacheSettings};
use aepo_tools::fusion;
use aepo_tools::mcp;
use aepo_tools::pages::{self, AllowedHost, PageSettings, SummarySettings};
use aepo_tools::python::{Backend, Level, Limits as PythonLimits};
use aepo_tools::search::source::{Source, SourceName};
use aepo_tools::toolset::builtin;
use aepo_tools::toolset::faults::{FaultSettings, with_faults};
use aepo_tools::toolset::{Limits, Offer};
use aepo_tools::{
    Document, Mcp, McpFile, McpSettings, PythonSettings, SearchIndex, SearchSettings, Tools, ToolsError, ToolsSettings,
    http, search,
};
use anyhow::Context as _;

use crate::machine::{certificates, n_cores};
use crate::progress::Teller;
use crate::world::countries;

/// Starts the tools; fails when this machine cannot hold programs as well as the recipe demands.
pub fn start(config: &Config, teller: &mut Teller) -> anyhow::Result<Tools> {
    let f = &config.faults;
    let faults = (f.share > 0.0).then_some(FaultSettings { share: f.share, call_secs: f.call_secs, seed: f.seed });
    let mut offers = Vec::new();
    for offered in config.tools.offer.iter() {
        let (mut offer, max_calls) = offer(config, offered)?;
        offer.limits.max_calls = max_calls;
        offers.push(match faults {
            Some(faults) => with_faults(offer, faults),
            None => offer,
        });
    }
    if let Some(faults) = faults {
        teller.warn(&format!(
            "FAULTS ON PURPOSE: {:.0} % of all tool calls fail, come too late, or return garbage (tools.faults.share)",
            100.0 * faults.share
        ));
    }
    if config.python.backend == Sandbox::UnsafeLocal && config.tools.offer.has(Offered::Python) {
        teller.warn("NO SANDBOX: programs of the model may do all that you may do (tools.python.backend)");
    }
    Ok(Tools::of(offers, &ToolsSettings { cache: cache_settings(config), ..ToolsSettings::default() })?)
}

/// What the model is told of the tools that a recipe offers: for conversations to learn from. Servers are started for
/// their lists of tools, and ended.
pub fn specs(config: &Config) -> anyhow::Result<Vec<ToolSpec>> {
    let mut specs = Vec::new();
    for offered in config.tools.offer.iter() {
        match offered {
            Offered::Python => specs.push(ToolSpec::python()),
            Offered::Search => specs.push(ToolSpec::search()),
            Offered::Visit | Offered::Mcp => {
                let tools = Tools::of(vec![offer(config, offered)?.0], &ToolsSettings::default())?;
                specs.extend_from_slice(tools.tools());
            }
        }
    }
    Ok(specs)
}

/// One provider, and how many calls it may be asked in a run.
fn offer(config: &Config, offered: Offered) -> anyhow::Result<(Offer, u64)> {
    let n_workers = if config.tools.n_workers == 0 { n_cores() } else { config.tools.n_workers };
    Ok(match offered {
        Offered::Python => {
            let (settings, p) = (python(config), &config.python);
            let offer = match (p.backend, &p.endpoint) {
                // The settings were checked: where such a server is named, there is an address.
                (Sandbox::SandboxFusion, endpoint) => {
                    let endpoint = endpoint.as_deref().context("tools.python.endpoint is not set")?;
                    fusion::offer(endpoint, settings.limits, settings.sessions, n_workers)
                        .with_context(|| format!("tools.python.endpoint = \"{endpoint}\""))?
                }
                _ => builtin::python(settings, n_workers)?,
            };
            (offer, p.calls_per_run)
        }
        Offered::Search => (search_tool(config, n_workers)?, config.search.calls_per_run),
        Offered::Visit => {
            let v = &config.visit;
            let hosts = v.allow_hosts.iter().map(|host| AllowedHost::parse(host));
            let settings = PageSettings {
                allow_hosts: hosts.collect::<Result<_, _>>()?,
                max_chars: v.max_chars,
                page_secs: v.page_secs,
                certificates: certificates(),
                ..PageSettings::default()
            };
            let by = summaries(config);
            let said = match &by {
                Some(by) => format!("tools.visit (summaries by {})", by.llm.model),
                None => "tools.visit".to_owned(),
            };
            (pages::offer(settings, by, n_workers).context(said)?, v.calls_per_run)
        }
        Offered::Mcp => {
            let m = &config.mcp;
            // The settings were checked: where servers are offered, there is a file.
            let file = m.file.as_deref().context("tools.mcp.file is not set")?;
            let servers = Mcp::start(&McpFile::read(Path::new(file))?, McpSettings::default())?;
            let limits = Limits { n_workers, deadline_secs: m.call_secs, ..Limits::default() };
            (mcp::offer(servers, limits)?, m.calls_per_run)
        }
    })
}

/// The model that reads pages for the agent, if there is one.
fn summaries(config: &Config) -> Option<SummarySettings> {
    let v = &config.visit;
    // The settings were checked: where there is an address, there is a model.
    let (endpoint, model) = (v.summary_endpoint.clone()?, v.summary_model.clone()?);
    let mut by = SummarySettings::of(endpoint, model, v.summary_secs);
    // A replay asks nobody.
    by.llm.key_env = v.summary_key_env.clone().filter(|_| config.cache.mode != CacheMode::Replay);
    by.llm.certificates = certificates();
    Some(by)
}

/// The search tool over whatever the recipe names.
fn search_tool(config: &Config, n_workers: usize) -> anyhow::Result<Offer> {
    let s = &config.search;
    let settings = SearchSettings { n_results: s.n_results, max_chars: s.max_chars };
    let client = || -> Result<http::Client, http::HttpError> {
        let certificates = certificates();
        let mut client = http::Client::new(http::Limits { certificates, ..http::Limits::default() })?;
        if s.calls_per_run > 0 {
            client = client.with_budget(Arc::new(http::Budget::new(s.calls_per_run)));
        }
        if let Some(rate) = http::Rate::new(s.per_second) {
            client = client.with_rate(Arc::new(rate));
        }
        Ok(client)
    };
    let name = SourceName::parse(&s.source);
    let found =
        Source::open(&name, config.cache.mode != CacheMode::Replay, client, || quickstart_index(settings.clone()));
    let found = found.with_context(|| format!("tools.search.source = \"{}\"", s.source))?;
    let limits = Limits { n_workers, deadline_secs: s.timeout_secs, ..Limits::default() };
    Ok(search::tool::offer(found, settings, limits))
}

/// The articles inside the program, indexed in memory.
pub fn quickstart_index(settings: SearchSettings) -> Result<SearchIndex, ToolsError> {
    let document = |a: aepo::data::world::Article| Document { id: a.id, title: a.title, text: a.text };
    // They are part of the program, and its tests read them.
    let countries = countries().map_err(|e| ToolsError::Index(e.to_string()))?;
    SearchIndex::build(search_corpus(&countries).into_iter().map(document).collect(), settings)
}

/// How programs are run.
pub fn python(config: &Config) -> PythonSettings {
    let p = &config.python;
    PythonSettings {
        interpreter: p.interpreter.as_ref().map(PathBuf::from),
        backend: match p.backend {
            Sandbox::Auto => Backend::Auto,
            Sandbox::Namespaces => Backend::Namespaces,
            Sandbox::Landlock => Backend::Landlock,
            Sandbox::UnsafeLocal => Backend::UnsafeLocal,
            // Not used there: no program runs here.
            Sandbox::SandboxFusion => Backend::Auto,
        },
        min_level: match (p.backend, p.min_level) {
            // Whoever names a sandbox gets it or nothing.
            (Sandbox::Namespaces, _) | (Sandbox::Auto, SandboxLevel::Namespaces) => Level::Namespaces,
            (Sandbox::Landlock, _) | (Sandbox::Auto, SandboxLevel::Landlock) => Level::Landlock,
            (Sandbox::UnsafeLocal | Sandbox::SandboxFusion, _) => Level::UnsafeLocal,
        },
        sessions: p.sessions,
        limits: PythonLimits {
            wall_secs: p.wall_secs,
            cpu_secs: p.cpu_secs,
            memory_mb: p.memory_mb,
            total_memory_mb: p.total_memory_mb,
            max_processes: p.max_processes,
            max_output_bytes: p.max_output_bytes,
            ..PythonLimits::default()
        },
    }
}

fn cache_settings(config: &Config) -> Option<CacheSettings> {
    let c = &config.cache;
    let mode = match c.mode {
        CacheMode::Off => return None,
        CacheMode::Record => cache::Mode::Record,
        CacheMode::Replay => cache::Mode::Replay,
    };
    // The settings were checked: where there is a cache, it has a path.
    let path = c.path.as_ref().map(PathBuf::from)?;
    Some(CacheSettings { path, mode, negative_secs: c.negative_secs })
}
