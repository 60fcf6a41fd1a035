//! How is a served model talked to? As its run says, or as its vocabulary and its chat template show.

use std::sync::Arc;

use aepo::config::Config;
use aepo::policy::Sampler as _;
use aepo::prompt::served::{Talk, Template};
use aepo::prompt::template::{self, ChatTemplate};
use aepo::prompt::{Dialect, Protocol, Tokenizer};
use aepo_engine::Engine;
use anyhow::Context as _;

use super::args::DialectArg;
use crate::checkpoint;
use crate::error::usage;
use crate::machine;
use crate::source::Source;

/// The engine, how it is talked to, and that in words.
pub fn of(
    source: Source,
    run: Option<&Config>,
    asked: Option<DialectArg>,
) -> anyhow::Result<(Engine, Talk, &'static str)> {
    let Source { mut engine, label, files, chat } = source;
    let path = label.join(checkpoint::TOKENIZER);
    let tokenizer = Tokenizer::from_bytes(&files.json).with_context(|| path.display().to_string())?;
    let (n_ids, n_rows) = (tokenizer.vocab_size(), engine.vocab_size());
    anyhow::ensure!(n_ids <= n_rows, "{}: {n_ids} ids, but the model knows {n_rows}", path.display());
    engine.limit_vocab(n_ids);
    let tokenizer = Arc::new(tokenizer);
    let of_run = run.map(|config| match config.prompt.protocol {
        Protocol::Tags => DialectArg::Tags,
        Protocol::Aepo => DialectArg::Aepo,
        Protocol::Hermes => DialectArg::Hermes,
        Protocol::Llama3 => DialectArg::Llama3,
    });
    let asked = asked.or(of_run);
    let has_template = !chat.templates.is_empty();
    if asked == Some(DialectArg::Tags) || (asked.is_none() && !has_template) {
        match Talk::tags(Arc::clone(&tokenizer)) {
            Ok(talk) => return Ok((engine, talk, "conversations and tools in the quickstart's own tags")),
            Err(error) if asked.is_some() => return Err(usage(format!("{}: {error}", path.display()), "")),
            Err(_) => {
                let talk = Talk::bare(tokenizer, &chat.eos_ids);
                return Ok((engine, talk, "completions alone: the model has no chat template"));
            }
        }
    }
    if !has_template {
        let hint = "put a chat_template.jinja beside the weights, or leave --dialect away";
        return Err(usage(format!("{} holds no chat template", label.display()), hint));
    }
    let in_label = || format!("the chat template of {}", label.display());
    let parse = |with_tools: bool| -> anyhow::Result<ChatTemplate> {
        let text = template::choose(&chat.templates, with_tools).with_context(in_label)?;
        ChatTemplate::parse(text, chat.specials.clone()).with_context(in_label)
    };
    let (plain, with_tools) = (parse(false)?, parse(true)?);
    let dialect = match asked {
        Some(DialectArg::Aepo) => Some(Dialect::Aepo),
        Some(DialectArg::Hermes) => Some(Dialect::Hermes),
        Some(DialectArg::Llama3) => Some(Dialect::Llama3),
        Some(DialectArg::Tags | DialectArg::None) => None,
        None => shown_by(with_tools.source()),
    };
    let words = match dialect {
        Some(Dialect::Aepo) => "conversations in its chat template, tools in the tags of AEPO",
        Some(Dialect::Hermes) => "conversations in its chat template, tools as Hermes models call them",
        Some(Dialect::Llama3) => "conversations in its chat template, tools as Llama 3 models call them",
        None => "conversations in its chat template, without tools",
    };
    let today = run.and_then(|config| config.prompt.date).or_else(machine::today);
    let template = Template { plain, with_tools, dialect, today };
    let talk = Talk::chat(tokenizer, template, &chat.eos_ids).with_context(in_label)?;
    Ok((engine, talk, words))
}

/// The dialect that a template writes calls in; `None` where it is another or none.
fn shown_by(template: &str) -> Option<Dialect> {
    let has = |text: &str| template.contains(text);
    match () {
        () if has("<tool_call>") && has("tools") => Some(Dialect::Hermes),
        () if has("tools") && has("\"parameters\"") && (has("ipython") || has("<|python_tag|>")) => {
            Some(Dialect::Llama3)
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_shows_how_calls_are_written() {
        assert_eq!(shown_by("{% if tools %}<tool_call>{% endif %}"), Some(Dialect::Hermes));
        let llama = "{% if tools %}{\"name\": n, \"parameters\": {}}{% endif %}{{ 'ipython' }}";
        assert_eq!(shown_by(llama), Some(Dialect::Llama3));
        for other in ["{{ messages }}", "{% if tools %}[TOOL_CALLS]{% endif %}", "<tool_call>"] {
            assert_eq!(shown_by(other), None, "{other}");
        }
    }
}
