//! What do an agent's turns, questions and results look like where the cases about a whole step need them? Those of the
//! quickstart: its recipe, facts and vocabulary.

use std::sync::Arc;

use aepo::config::Config;
use aepo::data::countries::{Split, parse_countries};
use aepo::data::questions::quickstart_tasks;
use aepo::data::task::Task;
use aepo::data::world::{Article, search_corpus};
use aepo::prompt::{Renderer, Tokenizer};
use aepo::seed::Seed;
use aepo::tool::ToolSpec;
use anyhow::Context as _;

use crate::script::Lines;

/// The quickstart's recipe.
pub const QUICKSTART: &str = include_str!("../../../recipes/quickstart.toml");
/// That of SmolLM2-135M.
pub const SMOLLM2: &str = include_str!("../../../recipes/smollm2-tools.toml");
const COUNTRIES: &str = include_str!("../../../recipes/quickstart/countries.csv");
const TOKENIZER: &[u8] = include_bytes!("../../../recipes/quickstart/tokenizer.json");
/// Questions that are drawn; with more tasks than that they come again.
const N_QUESTIONS: usize = 400;

/// Questions, results and turns.
pub struct Agent {
    /// Prompts, and actions read back.
    pub renderer: Renderer,
    /// Questions, with their answers.
    pub tasks: Vec<Task>,
    /// What tools answer.
    pub results: Vec<String>,
    /// What is written.
    pub lines: Lines,
}

/// An agent whose questions begin with `system`.
pub fn agent(system: &str) -> anyhow::Result<Agent> {
    let tokenizer = Arc::new(Tokenizer::from_bytes(TOKENIZER)?);
    let renderer = Renderer::tags(Arc::clone(&tokenizer), &ToolSpec::python_and_search())?;
    let countries = parse_countries("countries.csv", COUNTRIES)?;
    let mut tasks = quickstart_tasks(&countries, Split::Train, N_QUESTIONS, Seed(0));
    for task in &mut tasks {
        task.question = format!("{system}{}", task.question);
    }
    let mut max_prompt = 0;
    for task in &tasks {
        max_prompt = max_prompt.max(renderer.first_prompt(task)?.len());
    }
    let (mut calls, mut answers) = (Vec::new(), Vec::new());
    for (i, country) in countries.iter().enumerate() {
        let name = &country.name;
        calls.push(tokenizer.encode_marked(&format!(
            "<think> I will search for the article on {name} and read the number {i} from it.</think><search> {name} \
             population and area</search>"
        )));
        calls.push(tokenizer.encode_marked(&format!(
            "<think> I will compute the sum of both now and then give the answer.</think><python>print( {i} + \
             7340{i})</python>"
        )));
        // Every other answer breaks the format, so that hardly a question's rewards are all the same.
        answers.push(tokenizer.encode_marked(&format!("<answer>\\boxed{{ {i}}}</answer><|end|>")));
        answers.push(tokenizer.encode_marked(&format!("<answer> It is {i}, I say.</answer><|end|>")));
    }
    let results = search_corpus(&countries).iter().map(Article::shown).collect();
    Ok(Agent { renderer, tasks, results, lines: Lines { calls, answers, max_prompt } })
}

/// A recipe with some of its settings changed.
pub fn recipe(text: &str, sets: &[(&str, String)]) -> anyhow::Result<Config> {
    let sets: Vec<(String, String)> = sets.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Config::resolve(text, "recipe", &sets).context("a recipe of the benchmark")
}
