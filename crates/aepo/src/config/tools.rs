//! Which tools, sandboxes and caches can a recipe name? Closed sets, and what each is called.

use toml::Value;

use super::value::Setting;

/// A tool, or a source of tools, that a recipe can offer to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offered {
    /// Programs: the tool `python`.
    Python,
    /// Texts of a collection: the tool `search`.
    Search,
    /// Pages of the web: the tool `visit`.
    Visit,
    /// The tools of the MCP servers in `tools.mcp.file`.
    Mcp,
}

impl Offered {
    /// In the order in which a model is told of them.
    pub const ALL: [Offered; 4] = [Offered::Python, Offered::Search, Offered::Visit, Offered::Mcp];

    /// The name in `tools.offer`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Offered::Python => "python",
            Offered::Search => "search",
            Offered::Visit => "visit",
            Offered::Mcp => "mcp",
        }
    }
}

/// What is offered, in the order of [`Offered::ALL`]: at least one, and none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers(Vec<Offered>);

impl Offers {
    /// `None` where there is nothing, or something twice.
    #[must_use]
    pub fn new(offers: &[Offered]) -> Option<Offers> {
        let mut sorted = offers.to_vec();
        sorted.sort();
        sorted.dedup();
        (!sorted.is_empty() && sorted.len() == offers.len()).then_some(Offers(sorted))
    }

    /// Python and search, as in the paper.
    #[must_use]
    pub fn python_and_search() -> Offers {
        Offers(vec![Offered::Python, Offered::Search])
    }

    /// Each of them, in the order of [`Offered::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = Offered> + '_ {
        self.0.iter().copied()
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, offered: Offered) -> bool {
        self.0.contains(&offered)
    }
}

impl Setting for Offers {
    const EXPECTED: &'static str = "a list of some of \"python\", \"search\", \"visit\" and \"mcp\", each at most once";
    fn read(value: &Value) -> Option<Self> {
        let named = |value: &Value| {
            let name = value.as_str()?;
            Offered::ALL.into_iter().find(|offered| offered.name() == name)
        };
        let offers: Option<Vec<Offered>> = value.as_array()?.iter().map(named).collect();
        Offers::new(&offers?)
    }
    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.0.iter().map(|offered| Value::String(offered.name().to_owned())).collect()))
    }
}

/// Which sandbox programs run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// The best that this machine offers, and no worse than `tools.python.min_level`.
    Auto,
    /// A server that forks itself for each call, in namespaces.
    Namespaces,
    /// An interpreter per call behind Landlock.
    Landlock,
    /// A SandboxFusion server, which holds programs as it sees fit.
    SandboxFusion,
    /// No sandbox: resource limits alone.
    UnsafeLocal,
}

/// How well a sandbox must hold programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxLevel {
    /// A process that sees the host's files but may touch its own directory only; no processes, no network.
    Landlock,
    /// Another root, no network, its own processes.
    Namespaces,
}

/// What a run does with a cache of tool results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// There is none.
    Off,
    /// What it holds is answered from it; everything else is called, and kept.
    Record,
    /// Everything is answered from it, and nothing is called.
    Replay,
}
