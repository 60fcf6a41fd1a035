//! What does a recipe say, and can it run?

use std::fmt::Write as _;

use aepo::config::{Config, Source};
use aepo_engine::config::ModelConfig;
use aepo_engine::layout::Layout;
use aepo_tools::hub::{HubError, What};

use crate::args::{CheckArgs, Telling};
use crate::machine::{self, free_memory};
use crate::progress::{Teller, print};
use crate::recipe;
use crate::room::{self, Job};
use crate::source::{self, Named};

/// Prints every setting as a recipe that can be used again; a recipe that cannot run is an error.
pub fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let recipe = recipe::find(&args.recipe)?;
    let config = recipe::resolve(&recipe, &recipe::parse_sets(&args.sets)?)?;
    let mut text = format!("# {} under its defaults, resolved. Every setting with its meaning.\n", recipe.label);
    config.left_out.iter().for_each(|line| text += &format!("# {line}\n"));
    let mut section = String::new();
    for line in config.explain() {
        let (in_section, name) = line.key.rsplit_once('.').unwrap_or(("", &line.key));
        if in_section != section {
            section = in_section.to_owned();
            let _ = write!(text, "\n[{section}]\n");
        }
        let from = match &line.source {
            Source::Default => String::new(),
            other => format!(" ({other})"),
        };
        let _ = writeln!(text, "# {}{from}", line.doc);
        let _ = match (&line.value, &line.no_effect) {
            (Some(value), None) => writeln!(text, "{name} = {value}"),
            (None, None) => writeln!(text, "# {name} is not set"),
            (_, Some(why)) => writeln!(text, "# {name} has no effect: {why}"),
        };
    }
    print(&text)?;
    estimate(&config, args.net.offline)
}

/// Says how much memory and time training would take here, and fails where it cannot.
fn estimate(config: &Config, offline: bool) -> anyhow::Result<()> {
    let mut lines = vec![format!("This machine: {}.", machine::describe())];
    let Some(shape) = shape(config, offline, &mut lines)? else { return print(&comments(&lines)) };
    let needs_reference = config.rules().needs_reference();
    let need = room::need(config, needs_reference, &shape, Job::Train);
    let Some(free) = free_memory() else {
        lines.push("The system does not say how much memory is free.".to_owned());
        return print(&comments(&lines));
    };
    lines.extend(room::memory_lines(&need, free));
    let speed = room::measure(config, &shape);
    lines.push(room::time_line(room::seconds(config, needs_reference, &shape, Job::Train, speed), speed));
    print(&comments(&lines))?;
    room::require(config, needs_reference, &shape, Job::Train, free)
}

/// The shape of the model that would be trained; its own files count before what the recipe expects of them.
fn shape(config: &Config, offline: bool, lines: &mut Vec<String>) -> anyhow::Result<Option<ModelConfig>> {
    let found = source::named(&config.model.init).and_then(|named| {
        // A GGUF file is facts and weights in one: it is not fetched only to be looked at.
        let offline = offline || matches!(&named, Named::Hub(name) if name.file.is_some());
        let mut teller = Teller::new(Telling { quiet: false, json: false });
        source::bring(&named, What::Facts, offline, &mut teller)
    });
    let place = match (found, source::expected(config)) {
        (Ok((place, _)), _) => place,
        (Err(error), Some(expected)) => {
            lines.push(format!("Model: {}; only [model.expect] is known of it here ({error:#}).", words(&expected)));
            return Ok(Some(expected));
        }
        (Err(error), None) => {
            let advice = match error.downcast_ref::<HubError>() {
                Some(_) => "; [model.expect] could say what it is",
                None => "",
            };
            lines.push(format!("Model: not at hand, so that nothing can be estimated: {error:#}{advice}."));
            return Ok(None);
        }
    };
    let facts = source::look(&place)?;
    source::check_expected(config, &facts.config)?;
    let names: Vec<&str> = facts.chat.templates.keys().map(String::as_str).collect();
    let templates = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    lines.push(format!("Model: {}; {} token ids; chat templates: {templates}.", words(&facts.config), facts.n_ids));
    Ok(Some(facts.config))
}

fn words(shape: &ModelConfig) -> String {
    let n = Layout::new(shape).n_parameters() as f64;
    let weights = if n >= 1e9 { format!("{:.2} G", n / 1e9) } else { format!("{:.1} M", n / 1e6) };
    let (family, context) = (shape.model_type.names().0, shape.max_position_embeddings);
    format!("{family}, {weights} weights in {} blocks, {context} tokens of context", shape.num_hidden_layers)
}

/// Lines that a recipe may hold.
fn comments(lines: &[String]) -> String {
    lines.iter().fold("\n".to_owned(), |text, line| text + "# " + line + "\n")
}
