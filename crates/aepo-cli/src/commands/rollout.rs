//! What does one tree look like? Every turn, call, fork and reward, readable.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::Path;

use aepo::data::task::{Grader, Task};
use aepo::policy::PolicyVersion;
use aepo::record::{LeafRecord, NodeRecord, TreeRecord};
use aepo::rollout::branch::{Decision, Outcome};
use aepo::rollout::expand::Expansion;
use aepo::rollout::tree::PathKey;
use aepo::run::Run;
use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolResult, ToolSpec, Toolset};
use aepo_tools::Tools;
use aepo_tools::hub::What;

use crate::args::{RolloutArgs, Telling};
use crate::commands::eval::{run_recipe, split};
use crate::error::{Interrupted, usage};
use crate::interrupt::{self, interruptible};
use crate::progress::{Teller, print};
use crate::recipe;
use crate::served;
use crate::source;
use crate::toolbox;
use crate::world;

/// Label of the run seed's stream that this command draws from.
const ROLLOUT: u64 = 5;

/// Samples one tree and prints it.
pub fn rollout(args: &RolloutArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    let run_recipe = run_recipe(Path::new(&args.from))?;
    let is_run = run_recipe.is_some();
    let recipe = run_recipe.map_or_else(|| recipe::find(&args.from), Ok)?;
    let mut sets = recipe::parse_sets(&args.sets)?;
    sets.extend(args.seed.map(|n| ("train.seed".to_owned(), n.to_string())));
    let config = recipe::resolve(&recipe, &sets)?;
    config.left_out.iter().for_each(|line| eprintln!("{line}"));
    let task = match &args.question {
        Some(question) => Task {
            id: "question".to_owned(),
            kind: "question".to_owned(),
            question: question.clone(),
            answers: Vec::new(),
            grader: Grader::Qa,
        },
        None => {
            let tasks = world::tasks(&config, split(args.split), &mut |note| eprintln!("{note}"))?;
            let n = tasks.len();
            let task = tasks.into_iter().nth(args.task);
            task.ok_or_else(|| usage(format!("--task {}: there are {n} questions, 0 to {}", args.task, n - 1), ""))?
        }
    };
    let named = source::named(if is_run { &args.from } else { &config.model.init })?;
    let mut teller = Teller::new(Telling { quiet: args.json, json: false });
    let served = served::engine(&config);
    let what = if served.is_some() { What::Facts } else { What::Everything };
    let (place, _) = source::bring(&named, what, args.net.offline, &mut teller)?;
    let mut tools = Timed { inner: toolbox::start(&config, &mut teller)?, asked: HashMap::new(), secs: HashMap::new() };
    let seed = Seed(config.train.seed).child(ROLLOUT).child(args.task as u64);
    let (trees, run) = if let Some(engine) = served {
        // Of what the servers serve the weights are not read.
        let facts = source::look(&place)?;
        let (vocab_size, context_len) = (facts.config.vocab_size, facts.config.max_position_embeddings);
        let tokenizer = world::tokenizer(&facts.label, &facts.files, vocab_size)?;
        let renderer = world::renderer(tokenizer, &facts.label, facts.chat, &config, tools.tools())?;
        let mut sampler = served::connect(engine, &config, vocab_size, context_len, PolicyVersion(0))?;
        let run = Run { config, tasks: Vec::new(), renderer };
        let trees = run.explore(&[&task], &mut interruptible(&mut sampler), &mut tools, seed, &mut |_| {});
        if !args.json {
            eprintln!("{}", served::told(&mut sampler));
        }
        (trees, run)
    } else {
        let mut model = world::load_to_measure(&place, &config, tools.tools())?;
        let run = Run { config, tasks: Vec::new(), renderer: model.renderer };
        let policy = &mut interruptible(&mut model.engine);
        let trees = run.explore(&[&task], policy, &mut tools, seed, &mut |_| {});
        (trees, run)
    };
    let trees = match trees {
        Err(_) if interrupt::asked() => return Err(Interrupted { hint: None }.into()),
        trees => trees?,
    };
    for tree in &trees {
        if args.json {
            print(&format!("{}\n", serde_json::to_string(tree)?))?;
        } else {
            let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let r = &run.config.rollout;
            let tau = (!run.config.rules().branch.is_drawn()).then_some(r.tau);
            let page = Page { tree, secs: &tools.secs, tau, entropy_tokens: r.entropy_tokens, colours };
            print(&page.text())?;
        }
    }
    Ok(())
}

/// Tools that remember how long each call took; equal calls are told apart by nothing, so the longest counts.
struct Timed {
    inner: Tools,
    asked: HashMap<CallId, (ToolName, String)>,
    secs: HashMap<(ToolName, String), f64>,
}

impl Toolset for Timed {
    fn tools(&self) -> &[ToolSpec] {
        self.inner.tools()
    }
    fn submit(&mut self, call: ToolCall) {
        self.asked.insert(call.id, (call.tool.clone(), call.input.clone()));
        self.inner.submit(call);
    }
    fn poll(&mut self, block: bool) -> Vec<ToolResult> {
        let results = self.inner.poll(block);
        for result in &results {
            if let Some(call) = self.asked.remove(&result.id) {
                let secs = self.secs.entry(call).or_insert(0.0);
                *secs = secs.max(result.wall_secs);
            }
        }
        results
    }
}

/// A tree on its way to the reader.
struct Page<'a> {
    tree: &'a TreeRecord,
    secs: &'a HashMap<(ToolName, String), f64>,
    /// What a score must exceed; `None` where forks are drawn.
    tau: Option<f64>,
    entropy_tokens: usize,
    colours: bool,
}

/// Columns of text.
const WIDTH: usize = 110;

#[derive(Clone, Copy)]
enum Ink {
    Plain,
    Dim,
    Yellow,
    Green,
    Red,
}

impl Page<'_> {
    fn text(&self) -> String {
        let t = self.tree;
        let mut out = format!("{} ({})\n", t.task.id, t.task.kind);
        out += &format!("question   {}\n", t.task.question);
        if !t.task.answers.is_empty() {
            out += &format!("accepted   {}\n", t.task.answers.join(" | "));
        }
        let (b, n_unique) = (t.budget, t.nodes.iter().map(|n| n.tokens.len()).sum::<usize>());
        out += &format!(
            "budget     k {} = m {} from the root + {} for forks (H_root {:.3}, H_tool {:.3} nats)\n",
            b.total, b.n_global, b.n_branch, t.root_entropy, t.tool_entropy
        );
        let n_forks = t.leaves.iter().filter(|leaf| leaf.key.is_forked()).count();
        let unrolled: usize = t
            .leaves
            .iter()
            .map(|leaf| self.path(leaf.node).iter().map(|&n| t.nodes[n].tokens.len()).sum::<usize>())
            .sum();
        out += &format!(
            "tree       {} leaves, {n_forks} forks, {n_unique} tokens ({unrolled} if every path stood alone)\n\
             H          mean entropy of the first {} tokens of a turn, nats per token\n\n",
            t.leaves.len(),
            self.entropy_tokens
        );
        for e in &t.expansions {
            self.lines(&expansion_text(e), "", "", Ink::Yellow, &mut out);
        }
        self.node(0, "", "", &mut out);
        out
    }

    /// Writes a node and what follows it. `first` stands before its first line, `rest` before all others.
    fn node(&self, idx: usize, first: &str, rest: &str, out: &mut String) {
        let node = &self.tree.nodes[idx];
        let children: Vec<usize> =
            (0..self.tree.nodes.len()).filter(|&n| self.tree.nodes[n].parent == Some(idx as u32)).collect();
        let (label, ink) = match (&node.call, node.mask) {
            (Some(call), _) => {
                let secs = self.secs.get(&(call.tool.clone(), call.input.clone()));
                let time = secs.map_or(String::new(), |s| format!(", {:.1} ms", 1000.0 * s));
                (format!("{} {}{time}: ", call.tool, call.outcome.name()), Ink::Dim)
            }
            (None, true) => (entropy_label(node), Ink::Plain),
            (None, false) => (String::new(), Ink::Dim),
        };
        self.lines(&format!("{label}{}", node.text.trim()), first, rest, ink, out);
        for decision in self.tree.decisions.iter().filter(|d| self.result_of(d) == Some(idx)) {
            self.lines(&decision_text(decision, self.tau), rest, rest, Ink::Yellow, out);
        }
        for leaf in self.tree.leaves.iter().filter(|leaf| leaf.node as usize == idx) {
            let (text, ink) = self.leaf_text(leaf);
            self.lines(&text, rest, rest, ink, out);
        }
        match children[..] {
            // A path that goes on stays where it is; only a fork goes deeper.
            [only] => self.node(only, rest, rest, out),
            _ => {
                for (i, &child) in children.iter().enumerate() {
                    let last = i + 1 == children.len();
                    let (bend, bar) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                    self.node(child, &format!("{rest}{bend}"), &format!("{rest}{bar}"), out);
                }
            }
        }
    }

    fn leaf_text(&self, leaf: &LeafRecord) -> (String, Ink) {
        let key: Vec<String> = leaf.key.0.iter().map(u32::to_string).collect();
        let answer = leaf.answer.as_ref().map_or(String::new(), |a| format!(" {a:?}"));
        let head = format!("= path {} {}{answer}", key.join("."), leaf.stop);
        match leaf.score {
            _ if self.tree.task.answers.is_empty() => (head, Ink::Plain),
            None => (format!("{head}, left out: a tool failed"), Ink::Red),
            Some(s) => {
                let ink = if s.accuracy >= 1.0 { Ink::Green } else { Ink::Red };
                (format!("{head}, reward {:.2}", s.reward), ink)
            }
        }
    }

    /// The node of the tool result after which a decision was taken.
    fn result_of(&self, decision: &Decision) -> Option<usize> {
        let leaf = self.tree.leaves.iter().find(|leaf| leaf.key == decision.path)?;
        let calls = self.path(leaf.node).into_iter().filter(|&n| self.tree.nodes[n].call.is_some());
        calls.into_iter().nth((decision.n_calls as usize).checked_sub(1)?)
    }

    /// Nodes from the root to `node`.
    fn path(&self, node: u32) -> Vec<usize> {
        let mut path = vec![node as usize];
        while let Some(parent) = path.last().and_then(|&n| self.tree.nodes[n].parent) {
            path.push(parent as usize);
        }
        path.reverse();
        path
    }

    /// Writes text in lines that fit, at spaces where there are any. Control characters, which could move the cursor,
    /// are shown as a dot.
    fn lines(&self, text: &str, first: &str, rest: &str, ink: Ink, out: &mut String) {
        let room = WIDTH.saturating_sub(rest.chars().count()).max(20);
        let mut prefix = first;
        for paragraph in text.lines() {
            let clean: String = paragraph.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
            for line in wrap(&clean, room) {
                *out += &format!("{prefix}{}\n", self.dye(&line, ink));
                prefix = rest;
            }
        }
    }

    fn dye(&self, text: &str, ink: Ink) -> String {
        let code = match ink {
            _ if !self.colours => return text.to_owned(),
            Ink::Plain => return text.to_owned(),
            Ink::Dim => 2,
            Ink::Yellow => 33,
            Ink::Green => 32,
            Ink::Red => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// `[H 0.412] ` with the mean entropy of the first tokens of a turn, over which decisions are taken.
fn entropy_label(node: &NodeRecord) -> String {
    node.head_entropy.map_or(String::new(), |h| format!("[H {h:.3}, {} tokens] ", node.tokens.len()))
}

/// `round 1: turn 2 of path 0.1.0 (H 0.412 nats, score 0.362, one of 7) starts path 0.1.1`
fn expansion_text(e: &Expansion) -> String {
    let key = |key: &PathKey| key.0.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    let score = e.score.map_or(String::new(), |s| format!(", score {s:.3}"));
    format!(
        "round {}: turn {} of path {} (H {:.3} nats{score}, one of {}) starts path {}",
        e.round,
        e.turn,
        key(&e.path),
        e.entropy,
        e.n_candidates,
        key(&e.child)
    )
}

fn decision_text(d: &Decision, tau: Option<f64>) -> String {
    let outcome = match d.outcome {
        Outcome::Forked if d.n_children == 1 => "fork".to_owned(),
        Outcome::Forked => format!("fork {} times", d.n_children),
        Outcome::LowEntropy if tau.is_none() => "no fork: drawn against it".to_owned(),
        Outcome::LowEntropy => "no fork: entropy too low".to_owned(),
        Outcome::Penalised => "no fork: penalised for the forks before".to_owned(),
        Outcome::NoBudget => "no fork: the tree is full".to_owned(),
    };
    let (delta, l, p) = (d.entropy_delta, d.n_consecutive, d.probability);
    let threshold = tau.map_or(String::new(), |tau| format!(" {} {tau}", if p > tau { '>' } else { '≤' }));
    format!("? H {:.3}, ΔH {delta:+.3}, {l} forks before, P {p:.3}{threshold}: {outcome}", d.entropy)
}

/// Cuts a line into pieces of at most `room` characters.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > room {
        let at = rest[..room].iter().rposition(|&c| c == ' ').filter(|&at| at > room / 2).unwrap_or(room);
        let tail = rest.split_off(at);
        pieces.push(rest.into_iter().collect());
        rest = tail.into_iter().skip_while(|&c| c == ' ').collect();
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_at_spaces() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
