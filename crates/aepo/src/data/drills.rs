//! How does a small model learn to copy? Rows that are nothing but repetition and look-up, over text from everywhere.

use super::countries::{Attribute, Topic};
use super::demos::Role;
use super::dice::Dice;
use super::names::Namer;
use super::world::sentence;

/// What stands before a span, between it and its copy, and behind the copy. The copy and what follows are written.
const FRAMES: [[&str; 3]; 6] = [
    ["<|user|>", "<|assistant|>", "<|end|>"],
    ["<result>", "</result><think>", "</think>"],
    ["<think>", "</think><search>", "</search>"],
    ["<think>", "</think><answer>\\boxed{", "}</answer><|end|>"],
    ["<|user|>", "<|assistant|><python>print(", ")</python>"],
    ["<result>", "</result><answer>\\boxed{", "}</answer><|end|>"],
];

/// Several spans, each followed by its copy. Only the copies are written.
pub(crate) fn copy_row(dice: &mut Dice, namer: &Namer) -> Vec<(Role, String)> {
    let mut segments = Vec::new();
    for _ in 0..dice.between(3, 5) {
        let span = match dice.weighted(&[0.45, 0.25, 0.15, 0.15]) {
            0 => {
                let n_tokens = dice.between(3, 16) as usize;
                namer.span(dice, n_tokens)
            }
            1 => format!(" {}", namer.name(dice)),
            2 => {
                let n_digits = dice.between(2, 11) as u32;
                format!(" {}", dice.number(n_digits))
            }
            _ => {
                let attribute = *dice.pick(&Attribute::ALL);
                format!(" {} {} {}", namer.name(dice), attribute.words(), namer.value(dice, attribute))
            }
        };
        let [open, middle, close] = dice.pick(&FRAMES);
        segments.push((Role::Context, format!("{open}{span}{middle}")));
        segments.push((Role::Written, format!("{span}{close}")));
        if dice.chance(0.2) {
            let [_, middle, close] = dice.pick(&FRAMES);
            segments.push((Role::Context, (*middle).to_owned()));
            segments.push((Role::Written, format!("{span}{close}")));
        }
    }
    segments
}

/// A shuffled page of facts and the copies of those that are asked for: several facts of one country, or one fact of
/// several countries.
pub(crate) fn lookup_row(dice: &mut Dice, namer: &Namer) -> Vec<(Role, String)> {
    let mut page = Vec::new();
    if dice.chance(0.6) {
        let mut attributes = Attribute::ALL;
        dice.shuffle(&mut attributes);
        let n_facts = dice.between(3, 6) as usize;
        for attribute in &attributes[..n_facts] {
            // Some facts go by a word nobody has seen, so that looking up does not hang on nine known ones.
            let value = namer.value(dice, *attribute);
            if dice.chance(0.3) {
                let word = namer.word(dice);
                page.push((format!(" Its {word} is {value}."), format!(" Its {word} is"), format!(" {value}.")));
            } else {
                let subject = dice.pick(&["Its", "The"]);
                let ask = format!(" Its {} is", attribute.words());
                page.push((sentence(*attribute, &value, subject), ask, format!(" {value}.")));
            }
        }
    } else {
        let attribute = *dice.pick(&Attribute::ALL);
        for _ in 0..dice.between(3, 6) {
            let (name, value) = (namer.name(dice), namer.value(dice, attribute));
            let ask = format!(" The {} of {name} is", attribute.words());
            page.push((format!("{ask} {value}."), ask, format!(" {value}.")));
        }
    }
    let text: String = page.iter().map(|(fact, _, _)| fact.as_str()).collect();
    let title = format!("{} of {}", dice.pick(&[Topic::Geography, Topic::Society]).word(), namer.name(dice));
    let mut segments = vec![(Role::Context, format!("<result>{title}\n{}</result>", text.trim_start()))];
    dice.shuffle(&mut page);
    for (_, ask, value) in page.iter().take(3) {
        segments.push((Role::Context, format!("<think>{ask}")));
        segments.push((Role::Written, format!("{value}</think>")));
    }
    segments
}
