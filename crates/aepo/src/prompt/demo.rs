//! How does a demonstration become ids? Segment by segment, with the same tokens that a rollout has.

use super::PromptError;
use super::render::Renderer;
use super::tokenizer::{SPECIALS, Tokenizer, split_specials, train_tokenizer};
use crate::data::countries::Country;
use crate::data::demos::{Demo, DemoSettings, Demonstrator, Role};
use crate::seed::Seed;

/// Ids of each segment of `demo`; those of [`Role::Written`] are trained. No segment is empty, and the first is
/// context.
#[must_use]
pub fn encode_demo(renderer: &Renderer, demo: &Demo) -> Vec<(Role, Vec<u32>)> {
    demo.segments.iter().map(|(role, text)| (*role, renderer.tokenizer().encode_marked(text))).collect()
}

/// Demonstrations of the facts table whose invented names spread over the whole vocabulary of `tokenizer`.
#[must_use]
pub fn demonstrator(tokenizer: &Tokenizer, countries: &[Country]) -> Demonstrator {
    Demonstrator::new(countries, letter_pieces(tokenizer))
}

/// Texts of the ordinary tokens made of letters, perhaps with a space before them.
fn letter_pieces(tokenizer: &Tokenizer) -> Vec<String> {
    let letters = |text: &str| {
        let word = text.strip_prefix(' ').unwrap_or(text);
        !word.is_empty() && word.chars().all(char::is_alphabetic)
    };
    (0..tokenizer.vocab_size() as u32)
        .filter(|id| !tokenizer.is_special(*id))
        .map(|id| tokenizer.decode(&[id]))
        .filter(|text| letters(text))
        .collect()
}

/// Number of ids of the quickstart's vocabulary, special ones and bytes included.
pub const QUICKSTART_VOCAB: usize = 2048;

/// The vocabulary of the quickstart: learned from demonstrations of the training split and invented countries.
pub fn quickstart_tokenizer(countries: &[Country]) -> Result<Vec<u8>, PromptError> {
    const CORPUS_SEED: Seed = Seed(0x5EED_0003);
    const N_DEMOS: u64 = 6000;
    let demonstrator = Demonstrator::new(countries, Vec::new());
    let settings = DemoSettings::default();
    let texts =
        (0..N_DEMOS).flat_map(|i| demonstrator.demo(CORPUS_SEED.child(i), &settings).segments).flat_map(|(_, text)| {
            let parts = split_specials(&text).filter(|part| !SPECIALS.contains(part));
            parts.map(str::to_owned).collect::<Vec<String>>()
        });
    train_tokenizer(texts, QUICKSTART_VOCAB)
}
