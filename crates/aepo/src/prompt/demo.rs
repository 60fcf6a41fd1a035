//! How does a demonstration become ids? Segment by segment, with the same tokens that a rollout has.

use super::PromptError;
use super::chat::{Dialect, function_call};
use super::message::{Message, Speaker};
use super::render::Renderer;
use super::tokenizer::{SPECIALS, Tokenizer, split_specials, train_tokenizer};
use crate::data::countries::Country;
use crate::data::demos::{Demo, DemoSettings, Demonstrator, Role, RowKind};
use crate::seed::Seed;
use crate::tool::ToolSpec;

/// Ids of each segment of `demo`; those of [`Role::Written`] are trained. No segment is empty, and the first is
/// context. A chat model reads and writes the same words in its own protocol; drills, which are pieces of the
/// quickstart's, have no such form.
///
/// # Errors
/// When a template refuses the conversation, or is given a drill.
pub fn encode_demo(renderer: &Renderer, demo: &Demo) -> Result<Vec<(Role, Vec<u32>)>, PromptError> {
    if renderer.dialect().is_none() {
        let ids = |(role, text): &(Role, String)| (*role, renderer.tokenizer().encode_marked(text));
        return Ok(demo.segments.iter().map(ids).collect());
    }
    match demo.kind {
        RowKind::Task(_) => {
            let messages: Vec<Message> = demo.segments.iter().map(|s| message(renderer.dialect(), s)).collect();
            renderer.dialogue(&messages, renderer.schemas())
        }
        RowKind::Copy | RowKind::Lookup => Err(PromptError::Drill),
    }
}

/// A segment as a message. Spaces that only serve the quickstart's vocabulary are left out.
fn message(dialect: Option<Dialect>, (role, text): &(Role, String)) -> Message {
    let clean = |text: &str| text.trim().replace("\\boxed{ ", "\\boxed{").replace("( ", "(");
    let parts: Vec<&str> = split_specials(text).collect();
    if *role == Role::Context {
        let words: Vec<String> = parts.iter().filter(|p| !SPECIALS.contains(p)).map(|p| clean(p)).collect();
        let speaker = if parts.contains(&"<result>") { Speaker::Tool } else { Speaker::User };
        return Message::text(speaker, words.concat());
    }
    let tools = ToolSpec::python_and_search();
    let (mut content, mut calls, mut tag) = (String::new(), Vec::new(), "");
    for part in parts {
        let tool = tools.iter().find(|tool| tag == format!("<{}>", tool.name));
        match (tool, dialect) {
            _ if part == "<|end|>" => {}
            (_, Some(Dialect::Aepo)) if SPECIALS.contains(&part) => content += part,
            (_, Some(Dialect::Aepo)) => content += &clean(part),
            // Elsewhere thoughts and answers are plain words, and calls are the template's to write.
            (Some(tool), _) if !SPECIALS.contains(&part) => calls.extend(function_call(tool, &clean(part))),
            _ if SPECIALS.contains(&part) => {}
            _ => {
                content += if content.is_empty() { "" } else { " " };
                content += &clean(part);
            }
        }
        tag = part;
    }
    Message { calls, ..Message::text(Speaker::Assistant, content) }
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

/// The vocabulary of the quickstart: learned from demonstrations over invented countries (whose names sound like training
/// ones).
pub fn quickstart_tokenizer(countries: &[Country]) -> Result<Vec<u8>, PromptError> {
    const CORPUS_SEED: Seed = Seed(0x5EED_0003);
    const N_DEMOS: u64 = 6000;
    let demonstrator = Demonstrator::new(countries, Vec::new());
    // Only invented countries: real training names should be cut into as many pieces as names never seen.
    let settings = DemoSettings { invented: 1.0, ..DemoSettings::default() };
    let texts =
        (0..N_DEMOS).flat_map(|i| demonstrator.demo(CORPUS_SEED.child(i), &settings).segments).flat_map(|(_, text)| {
            let parts = split_specials(&text).filter(|part| !SPECIALS.contains(part));
            parts.map(str::to_owned).collect::<Vec<String>>()
        });
    train_tokenizer(texts, QUICKSTART_VOCAB)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::countries::parse_countries;
    use crate::data::demos::RowKind;
    use crate::data::questions::Kind;
    use crate::prompt::Action;

    fn countries() -> Vec<Country> {
        let text = include_str!("../../../../recipes/quickstart/countries.csv");
        parse_countries("countries.csv", text).unwrap()
    }

    fn shipped() -> &'static [u8] {
        include_bytes!("../../../../recipes/quickstart/tokenizer.json")
    }

    fn renderer() -> Renderer {
        Renderer::tags(Arc::new(Tokenizer::from_bytes(shipped()).unwrap()), &ToolSpec::python_and_search()).unwrap()
    }

    #[test]
    fn the_shipped_vocabulary_is_what_training_gives() {
        assert!(quickstart_tokenizer(&countries()).unwrap() == shipped(), "remake it as its README says");
        assert!(shipped().len() < 200_000);
        let tokenizer = Tokenizer::from_bytes(shipped()).unwrap();
        assert_eq!(tokenizer.vocab_size(), QUICKSTART_VOCAB);
        for country in countries() {
            for text in country.facts.iter().flatten().chain([&country.name]) {
                assert_eq!(&tokenizer.decode(&tokenizer.encode_text(text)), text);
            }
        }
    }

    #[test]
    fn a_name_has_the_same_tokens_wherever_it_stands() {
        let tokenizer = Tokenizer::from_bytes(shipped()).unwrap();
        for country in countries() {
            for text in country.facts.iter().flatten().chain([&country.name]) {
                let alone = tokenizer.encode_text(&format!(" {text}"));
                for (before, after) in
                    [(" Geography of", "."), (" the capital of", "?"), ("\\boxed{", "}"), (" is", " km.")]
                {
                    let whole = tokenizer.encode_text(&format!("{before} {text}{after}"));
                    assert_eq!(whole[tokenizer.encode_text(before).len()..][..alone.len()], alone, "{before} {text}");
                }
            }
        }
    }

    #[test]
    fn demonstrations_follow_the_grammar_unless_they_are_meant_not_to() {
        let renderer = renderer();
        let source = demonstrator(renderer.tokenizer(), &countries());
        let settings = DemoSettings { copy_share: 0.0, lookup_share: 0.0, ..DemoSettings::default() };
        let (mut n_malformed, mut n_tokens) = (0, 0);
        for i in 0..400 {
            let demo = source.demo(Seed(1).child(i), &settings);
            let segments = encode_demo(&renderer, &demo).unwrap();
            n_tokens += segments.iter().map(|(_, ids)| ids.len()).sum::<usize>();
            let turns: Vec<Action> =
                segments.iter().filter(|(r, _)| *r == Role::Written).map(|(_, ids)| renderer.parse(ids)).collect();
            let (last, calls) = turns.split_last().unwrap();
            assert!(calls.iter().all(|turn| matches!(turn, Action::Call { .. })), "{turns:?}");
            match last {
                Action::Answer(_) => {}
                Action::Malformed(_) => n_malformed += 1,
                Action::Call { .. } => panic!("ends with a call: {turns:?}"),
            }
            assert!(!demo.right || matches!(last, Action::Answer(_)));
            for ((_, text), (role, ids)) in demo.segments.iter().zip(&segments) {
                if let (Role::Context, Some(page)) = (role, text.strip_prefix("<result>")) {
                    // What the cold start reads is what a rollout will show, token for token.
                    let page = page.strip_suffix("</result>").unwrap();
                    assert_eq!(*ids, renderer.tool_result(page, usize::MAX).unwrap());
                }
            }
        }
        assert!((20..60).contains(&n_malformed), "{n_malformed}");
        assert!(n_tokens / 400 < 150, "{n_tokens}");
    }

    #[test]
    fn one_demonstration_of_each_kind() {
        let renderer = renderer();
        let source = demonstrator(renderer.tokenizer(), &countries());
        let settings = DemoSettings::default();
        let kinds = [RowKind::Copy, RowKind::Lookup].into_iter().chain(Kind::ALL.map(RowKind::Task));
        let mut text = String::new();
        for kind in kinds {
            let demo = (0..).map(|i| source.demo(Seed(7).child(i), &settings)).find(|demo| demo.kind == kind).unwrap();
            text += &format!("{kind:?}, right: {}\n", demo.right);
            for (role, ids) in encode_demo(&renderer, &demo).unwrap() {
                let mark = if role == Role::Written { '>' } else { ' ' };
                text += &format!("{mark} {} ids: {}\n", ids.len(), renderer.decode(&ids));
            }
        }
        expect_test::expect![[r#"
            Copy, right: true
              14 ids: <|user|> orfolmorth 3 Cosüneri<|assistant|><python>print(
            > 11 ids:  orfolmorth 3 Cosüneri)</python>
              8 ids: <result> 9 domrq cit</result><think>
            > 6 ids:  9 domrq cit</think>
              11 ids: <think> 5662885</think><search>
            > 9 ids:  5662885</search>
              20 ids: <result> Mlodiwq Counyancap capital Mhm Republic</result><answer>\boxed{
            > 17 ids:  Mlodiwq Counyancap capital Mhm Republic}</answer><|end|>
            Lookup, right: true
              55 ids: <result>Geography of Isl
            Its internet code is .lt. Its pricatislanz is 846. Its ônegy is Whj. Its population is 284041. Its geurm is Marlangyenuu manats.</result>
              6 ids: <think> Its ônegy is
            > 5 ids:  Whj.</think>
              7 ids: <think> Its pricatislanz is
            > 6 ids:  846.</think>
              5 ids: <think> Its internet code is
            > 4 ids:  .lt.</think>
            Task(OneHop), right: false
              11 ids: <|user|> Find the area of Yáskand.<|assistant|>
            > 16 ids: <think> I know it.<answer>\boxed{ 476}</answer><|end|>
            Task(TwoHop), right: false
              16 ids: <|user|> Find the population of the country with the capital Rarbhu.<|assistant|>
            > 13 ids: <think> I will search.</think><search> capital Rarbhu</search>
              48 ids: <result>Geography of Fímquialfol
            The capital is Rarbhu. Its coastline is 0 km. The area is 727797 square km. The highest point is 400 m.</result>
            > 18 ids: <think> It is Fímquialfol.</think><search> Fímquialfol population</search>
              47 ids: <result>Society of Fímquialfol
            The independence year is 1983. The median age is 43.4. Its population is 28453. Its currency is Pand kroner.</result>
            > 21 ids: <think> Its population is 28453.</think><answer> 28453</answer><|end|>
            Task(Compare), right: true
              20 ids: <|user|> Which of East Taindshia and Uhauchárg has the larger area?<|assistant|>
            > 15 ids: <think> I will search.</think><search> East Taindshia population</search>
              56 ids: <result>Society of East Taindshia
            The independence year is 1829. The population is 282769. Its internet code is .on. Its median age is 18.3. Its currency is Grin francs.</result>
            > 20 ids: <think> Its population is 282769.</think><search> Uhauchárg area</search>
              46 ids: <result>Geography of Uhauchárg
            Its area is 228 square km. Its highest point is 7007 m. The capital is Amaro Thórg. The coastline is 0 km.</result>
            > 23 ids: <think> Its area is 228.</think><answer>\boxed{ East Taindshia}</answer><|end|>
            Task(Arithmetic), right: true
              25 ids: <|user|> Calculate ( 42400 + 29254) * 7865.<|assistant|>
            > 31 ids: <think> I will compute.</think><python>print(( 42400 + 29254) * 7865)</python>
              11 ids: <result>563558710</result>
            > 17 ids: <answer>\boxed{ 563558710}</answer><|end|>
        "#]].assert_eq(&text);
    }
}
