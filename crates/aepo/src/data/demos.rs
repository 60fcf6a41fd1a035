//! What does the cold start read? An endless stream of demonstrations, each a pure function of its seed.

use serde::{Deserialize, Serialize};

use super::countries::{Attribute, Country, Split, contains_words, of_split};
use super::demonstrator::{Carelessness, Script, solve};
use super::dice::Dice;
use super::drills::{copy_row, lookup_row};
use super::names::Namer;
use super::questions::{Kind, draw, operand_range};
use crate::seed::Seed;

/// Who wrote a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The prompt or a tool: read, never trained.
    Context,
    /// The agent: every token is trained.
    Written,
}

/// What a row teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Repeating what was read.
    Copy,
    /// Finding a fact among others.
    Lookup,
    /// Solving a question with tools.
    Task(Kind),
}

/// One row of the cold start, as text. It begins with a context segment; special tokens are written as tags, and no
/// name ever contains one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demo {
    /// What it teaches.
    pub kind: RowKind,
    /// In order.
    pub segments: Vec<(Role, String)>,
    /// Whether the demonstrated answer is right and well-formed (drills always are).
    pub right: bool,
}

/// What the stream is made of. Shares are weights: only their ratios count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DemoSettings {
    /// Share of rows that only repeat.
    pub copy_share: f64,
    /// Share of rows that only look up.
    pub lookup_share: f64,
    /// Share of rows that solve a question.
    pub task_share: f64,
    /// Shares of the kinds of question, in the order of [`Kind::ALL`].
    pub kind_shares: [f64; 4],
    /// Probability that a question is about invented countries instead of training ones, in [0, 1].
    pub invented: f64,
    /// The demonstrator's bad choices.
    pub careless: Carelessness,
}

impl Default for DemoSettings {
    fn default() -> Self {
        DemoSettings {
            copy_share: 0.25,
            lookup_share: 0.15,
            task_share: 0.6,
            kind_shares: [1.0; 4],
            invented: 0.75,
            careless: Carelessness::default(),
        }
    }
}

/// Everything that demonstrations are drawn from.
#[derive(Clone, Debug)]
pub struct Demonstrator {
    /// Makes names up.
    pub namer: Namer,
    /// Real countries that may be shown.
    pub training: Vec<Country>,
    /// Names and capitals that no demonstration may mention.
    pub held_out_names: Vec<String>,
}

impl Demonstrator {
    /// Splits the facts table; `pieces` are texts of ordinary tokens made of letters, perhaps with a space before
    /// them, which then occur in invented names (none before there is a vocabulary).
    #[must_use]
    pub fn new(countries: &[Country], pieces: Vec<String>) -> Demonstrator {
        let training = of_split(countries, Split::Train);
        let held_out = of_split(countries, Split::HeldOut);
        let names = held_out.iter().flat_map(|c| [Some(c.name.as_str()), c.fact(Attribute::Capital)]);
        Demonstrator {
            namer: Namer::new(&training, pieces),
            held_out_names: names.flatten().map(str::to_owned).collect(),
            training,
        }
    }

    /// The demonstration of `seed`. One that happens to spell a held-out name is drawn anew.
    #[must_use]
    pub fn demo(&self, seed: Seed, settings: &DemoSettings) -> Demo {
        const ATTEMPTS: u64 = 64;
        (0..ATTEMPTS)
            .map(|attempt| self.draw(&mut Dice::new(seed.child(attempt)), settings))
            .find(|demo| !self.mentions_held_out(demo))
            // Only a table that names a country like a template's word gets here; a calculation names nothing.
            .unwrap_or_else(|| self.task(&mut Dice::new(seed), settings, Kind::Arithmetic))
    }

    fn mentions_held_out(&self, demo: &Demo) -> bool {
        demo.segments.iter().any(|(_, text)| self.held_out_names.iter().any(|name| contains_words(text, name)))
    }

    fn draw(&self, dice: &mut Dice, settings: &DemoSettings) -> Demo {
        match dice.weighted(&[settings.copy_share, settings.lookup_share, settings.task_share]) {
            0 => Demo { kind: RowKind::Copy, segments: copy_row(dice, &self.namer), right: true },
            1 => Demo { kind: RowKind::Lookup, segments: lookup_row(dice, &self.namer), right: true },
            _ => {
                let kind = Kind::ALL[dice.weighted(&settings.kind_shares)];
                self.task(dice, settings, kind)
            }
        }
    }

    /// A demonstration of one kind of question.
    fn task(&self, dice: &mut Dice, settings: &DemoSettings, kind: Kind) -> Demo {
        // A handful of countries: up to two are asked about, the others are what a careless query finds.
        const N_COUNTRIES: usize = 4;
        loop {
            let invented = dice.chance(settings.invented) || self.training.len() < N_COUNTRIES;
            let world: Vec<Country> = (0..N_COUNTRIES)
                .map(|_| if invented { self.namer.country(dice) } else { dice.pick(&self.training).clone() })
                .collect();
            let same = |a: usize| (0..a).any(|b| world[a].name == world[b].name);
            let pool: Vec<usize> = (0..N_COUNTRIES).collect();
            if (0..N_COUNTRIES).any(same) {
                continue;
            }
            if let Some(question) = draw(dice, kind, &world, &pool, operand_range(Split::Train)) {
                let Script { segments, right } = solve(dice, &settings.careless, &self.namer, &world, &question);
                return Demo { kind: RowKind::Task(kind), segments, right };
            }
        }
    }
}
