//! What is a hostile program? Its source, and how it may end at each level of the sandbox.

use aepo::tool::ToolOutcome;
use aepo_tools::python::{Level, Limits};

/// One row, or one row per act, of a category's table.
#[derive(Clone, Copy)]
pub struct Hostile {
    pub name: &'static str,
    pub code: Code,
    /// How it may end in namespaces.
    pub ends: &'static [ToolOutcome],
    /// How it may end behind Landlock alone.
    pub landlock: Landlock,
    /// What it prints, exactly, if it ends with `Ok`.
    pub prints: Option<&'static str>,
    /// Other limits than the suite's.
    pub limits: fn(Limits) -> Limits,
}

/// Whatever a program does, it prints the word BREACH only where it did what it must not be able to. In a source, CANARY
/// is the path of a file that everybody may write, PORT is where this process listens, SERVER is its process id, and
/// SECRET a word in its environment.
#[derive(Clone, Copy)]
pub enum Code {
    /// A source.
    Text(&'static str),
    /// A source too long to write down.
    Made(fn() -> String),
    /// Expressions, each a program of its own, that raise `OSError`; after these imports and lines.
    Refused(&'static str, &'static [&'static str]),
    /// As `Refused`; being killed for trying is as good.
    Killed(&'static str, &'static [&'static str]),
}

#[derive(Clone, Copy)]
pub enum Landlock {
    /// As in namespaces.
    Same,
    /// In these ways.
    Ends(&'static [ToolOutcome]),
    /// This level does not hold it, for this reason; only the server and the canary are looked at.
    NotHeld(&'static str),
}

/// A program ready to run.
pub struct Case {
    pub name: String,
    pub code: String,
    pub ends: &'static [ToolOutcome],
    pub prints: Option<&'static str>,
    pub limits: fn(Limits) -> Limits,
    /// Set where this level does not hold the program.
    pub not_held: Option<&'static str>,
}

/// What most rows have in common.
pub const ROW: Hostile = Hostile {
    name: "",
    code: Code::Text(""),
    ends: &[],
    landlock: Landlock::Same,
    prints: None,
    limits: |limits| limits,
};

/// Acts that raise `OSError`.
pub const fn refused(name: &'static str, before: &'static str, acts: &'static [&'static str]) -> Hostile {
    Hostile { name, code: Code::Refused(before, acts), ends: &[ToolOutcome::Ok], prints: Some("refused\n"), ..ROW }
}

/// Acts that raise `OSError` or end the program.
pub const fn killed(name: &'static str, before: &'static str, acts: &'static [&'static str]) -> Hostile {
    let ends = &[ToolOutcome::Ok, ToolOutcome::Signal];
    Hostile { name, code: Code::Killed(before, acts), ends, prints: Some("refused\n"), ..ROW }
}

impl Hostile {
    /// The programs of this row, at `level`.
    pub fn cases(&self, category: &str, level: Level) -> Vec<Case> {
        let (ends, not_held) = match (level, self.landlock) {
            (Level::Namespaces, _) | (_, Landlock::Same) => (self.ends, None),
            (_, Landlock::Ends(ends)) => (ends, None),
            (_, Landlock::NotHeld(why)) => (self.ends, Some(why)),
        };
        let case = |name: String, code: String| {
            let (prints, limits) = (self.prints, self.limits);
            Case { name: format!("{category}: {name}"), code, ends, prints, limits, not_held }
        };
        match self.code {
            Code::Text(text) => vec![case(self.name.to_owned(), text.to_owned())],
            Code::Made(make) => vec![case(self.name.to_owned(), make())],
            Code::Refused(before, acts) | Code::Killed(before, acts) => {
                let each = acts.iter().map(|act| case(format!("{} {act}", self.name), attempt(before, act)));
                each.collect()
            }
        }
    }
}

/// A program that prints `refused` if the kernel does, and nothing good if another error was in the way.
fn attempt(before: &str, act: &str) -> String {
    format!("{before}\ntry:\n    _ = {act}\nexcept OSError:\n    print('refused')\nelse:\n    print('BREACH', _)\n")
}
