//! What does a recipe say, and can it run?

use std::fmt::Write as _;

use aepo::config::Source;

use crate::args::CheckArgs;
use crate::progress::print;
use crate::recipe;

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
    print(&text)
}
