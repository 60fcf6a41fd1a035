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

#[cfg(test)]
mod tests {
    use super::super::countries::tests::quickstart_countries;
    use super::*;

    fn source() -> Demonstrator {
        let pieces = [" Al", "gi", "ers", " Mal", "i", " Om", "an", " Per", "u", "ia", " Kor", "land", " the"];
        Demonstrator::new(&quickstart_countries(), pieces.map(str::to_owned).to_vec())
    }

    #[test]
    fn the_stream_is_pure_and_every_row_differs() {
        let (source, settings) = (source(), DemoSettings::default());
        let mut seen = std::collections::HashSet::new();
        for i in 0..300 {
            let demo = source.demo(Seed(1).child(i), &settings);
            assert_eq!(demo, source.demo(Seed(1).child(i), &settings));
            assert_eq!(demo.segments[0].0, Role::Context);
            assert!(demo.segments.iter().all(|(_, text)| !text.is_empty()));
            assert!(seen.insert(format!("{:?}", demo.segments)));
        }
    }

    #[test]
    fn nothing_held_out_is_ever_shown() {
        let countries = quickstart_countries();
        let (source, settings) = (source(), DemoSettings::default());
        let held_out = of_split(&countries, Split::HeldOut);
        let [low, high] = operand_range(Split::HeldOut);
        for i in 0..4000 {
            let demo = source.demo(Seed(2).child(i), &settings);
            for (_, text) in &demo.segments {
                for country in &held_out {
                    let names = [Some(country.name.as_str()), country.fact(Attribute::Capital)];
                    assert!(!names.into_iter().flatten().any(|name| contains_words(text, name)), "{text}");
                }
            }
            if demo.kind == RowKind::Task(Kind::Arithmetic) {
                let question = demo.segments[0].1.split(|c: char| !c.is_ascii_digit());
                assert!(!question.filter_map(|n| n.parse::<i64>().ok()).any(|n| (low..=high).contains(&n)));
            }
        }
    }

    #[test]
    fn a_row_that_spells_a_held_out_name_is_drawn_anew() {
        let mut source = source();
        let settings = DemoSettings { copy_share: 0.0, lookup_share: 0.0, ..DemoSettings::default() };
        let seed = (0..).map(|i| Seed(3).child(i)).find(|s| {
            let demo = source.demo(*s, &settings);
            demo.segments.iter().any(|(_, text)| contains_words(text, "currency"))
        });
        let before = source.demo(seed.unwrap(), &settings);
        source.held_out_names.push("currency".to_owned());
        let after = source.demo(seed.unwrap(), &settings);
        assert_ne!(before, after);
        assert!(!after.segments.iter().any(|(_, text)| contains_words(text, "currency")));
    }

    #[test]
    fn about_half_of_the_careless_demonstrations_end_right_and_all_careful_ones_do() {
        let source = source();
        let careless = DemoSettings { copy_share: 0.0, lookup_share: 0.0, ..DemoSettings::default() };
        let none =
            Carelessness { head_answer: 0.0, wrong_query: 0.0, head_math: 0.0, needless_call: 0.0, bad_format: 0.0 };
        let careful = DemoSettings { careless: none, ..careless };
        let n_right = |s: &DemoSettings| (0..2000).filter(|i| source.demo(Seed(4).child(*i), s).right).count();
        assert!((850..1050).contains(&n_right(&careless)), "{}", n_right(&careless));
        assert_eq!(n_right(&careful), 2000);
        let needless = DemoSettings { careless: Carelessness { needless_call: 0.9, ..none }, ..careless };
        assert_eq!(n_right(&needless), 2000, "waste does not spoil an answer");
    }

    #[test]
    fn each_bad_choice_spoils_answers() {
        let source = source();
        let none =
            Carelessness { head_answer: 0.0, wrong_query: 0.0, head_math: 0.0, needless_call: 0.0, bad_format: 0.0 };
        // Which kinds meet the choice: one-hop, two-hop, compare, arithmetic. Half of the guesses which of two is larger
        // are lucky, so a third of the comparisons are never all wrong.
        let table = [
            (Carelessness { head_answer: 1.0, ..none }, [true, true, true, false]),
            (Carelessness { wrong_query: 1.0, ..none }, [true, true, true, false]),
            (Carelessness { head_math: 1.0, ..none }, [false, false, true, true]),
            (Carelessness { bad_format: 1.0, ..none }, [true, true, true, true]),
        ];
        for (careless, spoiled) in table {
            for kind in 0..4 {
                let mut kind_shares = [0.0; 4];
                kind_shares[kind] = 1.0;
                let settings = DemoSettings {
                    copy_share: 0.0,
                    lookup_share: 0.0,
                    task_share: 1.0,
                    kind_shares,
                    invented: 0.7,
                    careless,
                };
                let n_right = (0..300).filter(|i| source.demo(Seed(5).child(*i), &settings).right).count();
                if spoiled[kind] {
                    assert!(n_right < 90, "{careless:?} {kind}: {n_right}");
                } else {
                    assert_eq!(n_right, 300, "{careless:?} {kind}");
                }
            }
        }
    }
}
