//! Which benchmarks are known, and how does a row of one become a task?
//!
//! The table is closed: a benchmark is a constant in `table`. What ARPO's evaluation does with each set (arXiv
//! 2507.19849, sections 4.1 and 4.4): token F1 for the four sets of multi-hop questions, and a judging model for all
//! others, mathematics included. Here mathematics is graded by exact equality instead.

mod answer;
mod cipher;
mod read;
mod table;
#[cfg(test)]
mod tests;

pub use read::task;
pub use table::BENCHMARKS;

use super::task::Grader;

/// A kind of ability that the papers report together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Mathematical reasoning.
    Math,
    /// Knowledge-intensive reasoning over several documents.
    Knowledge,
    /// Long searches of the web.
    DeepSearch,
}

/// What is reported of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Share of answers that are right by the grader of the row.
    Accuracy,
    /// Mean token F1.
    F1,
    /// Share of answers that are the same after normalisation.
    ExactMatch,
    /// Share of answers that a judging model calls right.
    Judge,
}

/// A tool that a set is answered with, by the names of `tools.offer` in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToolKind {
    /// Programs.
    Python,
    /// Texts of a collection or of the web.
    Search,
    /// Pages of the web.
    Visit,
}

/// How the accepted answers are taken out of their field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// The field is the answer, or a list of accepted ones.
    Whole,
    /// What follows `####` on the last line, without thousands separators (GSM8K).
    AfterHashes,
    /// A whole number from 0 to 999, perhaps with leading zeros (AIME).
    Aime,
    /// The content of the last `\boxed{…}` where the field is a solution; another field is the answer itself (MATH).
    Boxed,
}

/// Which grader a row of a set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraderOf {
    /// The set's own.
    Set,
    /// Humanity's Last Exam says per row, under `answer_type`, whether a letter or a text is asked for.
    AnswerType,
}

/// Where the parts of a task stand in a row. Of several names the first that a row has counts; a dot goes into an
/// object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What is asked.
    pub question: &'static [&'static str],
    /// Accepted answers.
    pub answers: &'static [&'static str],
    /// Further accepted answers, which a row may lack.
    pub aliases: &'static [&'static str],
    /// The row's name, which it may lack: then its number in the file is its name.
    pub id: &'static [&'static str],
    /// Under what its result is also reported, which it may lack: then it is the benchmark's name.
    pub kind: &'static [&'static str],
    /// Fields that are empty or false in a row that text alone can answer; other rows are left out and counted.
    pub attachments: &'static [&'static str],
    /// Whether questions and answers may be encrypted by the row's own `canary`.
    pub encrypted: bool,
    /// How answers are taken out of their field.
    pub taking: Taking,
    /// Which grader a row has.
    pub grader: GraderOf,
}

/// One set of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Benchmark {
    /// What it is called in commands and files.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Other names of its file, without the ending; case does not matter.
    pub aliases: &'static [&'static str],
    /// What it belongs to, the main group first. The papers report WebWalkerQA under two.
    pub groups: &'static [Group],
    /// Where a row holds what.
    pub layout: Layout,
    /// How an answer is compared with the accepted ones.
    pub grader: Grader,
    /// What is reported of it.
    pub metric: Metric,
    /// What it is answered with.
    pub tools: &'static [ToolKind],
    /// Rows of the whole set as it was published, of those that text alone can answer.
    pub n_rows: usize,
    /// Rows that the papers' evaluation takes, where that is known.
    pub n_paper: Option<usize>,
    /// Dataset of the Hugging Face hub to get it from. Nothing is downloaded here.
    pub hub: &'static str,
}

impl Group {
    /// In the order of the papers.
    pub const ALL: [Group; 3] = [Group::Math, Group::Knowledge, Group::DeepSearch];

    /// The name in commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Group::Math => "math",
            Group::Knowledge => "knowledge",
            Group::DeepSearch => "deepsearch",
        }
    }

    /// The recipe of this project whose prompt and tools fit.
    #[must_use]
    pub fn recipe(self) -> &'static str {
        match self {
            Group::Math | Group::Knowledge => "recipes/qwen2.5-7b-reasoning.toml",
            Group::DeepSearch => "recipes/qwen3-14b-deepsearch.toml",
        }
    }

    /// The benchmarks of the group, in the order of the table.
    pub fn benchmarks(self) -> impl Iterator<Item = &'static Benchmark> {
        BENCHMARKS.iter().filter(move |benchmark| benchmark.groups.contains(&self))
    }
}

impl Metric {
    /// What it is called in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "F1",
            Metric::ExactMatch => "exact match",
            Metric::Judge => "judge",
        }
    }
}

impl ToolKind {
    /// The name in `tools.offer`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ToolKind::Python => "python",
            ToolKind::Search => "search",
            ToolKind::Visit => "visit",
        }
    }
}

impl Benchmark {
    /// Its main group.
    #[must_use]
    pub fn group(&self) -> Group {
        self.groups[0]
    }

    /// The system message that it is asked with follows from the tools and the protocol; this recipe has both.
    #[must_use]
    pub fn recipe(&self) -> &'static str {
        match self.tools.contains(&ToolKind::Visit) {
            true => Group::DeepSearch.recipe(),
            false => Group::Math.recipe(),
        }
    }

    /// Whether this is its name or an alias; case and punctuation do not matter.
    fn is_called(&self, stem: &str) -> bool {
        let wanted = folded(stem);
        std::iter::once(&self.name).chain(self.aliases).any(|name| folded(name) == wanted)
    }
}

/// The benchmark of that name or alias, however it is written.
#[must_use]
pub fn find(name: &str) -> Option<&'static Benchmark> {
    BENCHMARKS.iter().find(|benchmark| benchmark.is_called(name))
}

/// The benchmark whose file this is by its name without folders: `gsm8k.jsonl`, `gaia.sample.jsonl`, `SimpleQA_test.csv`.
#[must_use]
pub fn find_by_file(file_name: &str) -> Option<&'static Benchmark> {
    let stem = file_name.split('.').next().unwrap_or_default();
    find(stem).or_else(|| {
        let (name, split) = stem.rsplit_once(['-', '_'])?;
        ["test", "dev", "val", "valid", "validation"]
            .contains(&split.to_ascii_lowercase().as_str())
            .then(|| find(name))?
    })
}

/// Letters and digits alone, in lower case.
fn folded(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
