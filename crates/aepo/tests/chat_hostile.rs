//! Does a hostile chat template get an error, within bounds, where it would loop, fill the memory or end the process?

use std::collections::BTreeMap;

use aepo::prompt::message::{FunctionCall, Message, Speaker};
use aepo::prompt::template::{ChatTemplate, RenderOptions, TemplateError};
use aepo::seed::Seed;
use rand::RngExt;

fn render(source: &str) -> Result<String, TemplateError> {
    let template = ChatTemplate::parse(source, BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]))?;
    let call = FunctionCall { name: "f".to_owned(), arguments: serde_json::Map::new() };
    let mut messages = vec![Message::text(Speaker::System, "s"), Message::text(Speaker::User, "hello")];
    if template.has_calls() {
        messages.push(Message { calls: vec![call], ..Message::text(Speaker::Assistant, "x") });
        messages.push(Message::text(Speaker::Tool, "result"));
    }
    let variables = BTreeMap::new();
    template.render(
        &messages,
        &RenderOptions { tools: &[], add_generation_prompt: true, variables: &variables, today: None },
    )
}

#[test]
fn long_chains_and_deep_nesting_are_refused_before_they_reach_the_parser() {
    let n = 15_000;
    for (before, part, middle, after, behind) in [
        ("{{ ", "(", "1", ")", " }}"),
        ("{{ ", "[", "1", "]", " }}"),
        ("{{ ", "{1:", "1", "}", " }}"),
        ("{{ 1", "+1", "", "", " }}"),
        ("{{ x", "~x", "", "", " }}"),
        ("{{ x", ".b", "", "", " }}"),
        ("{{ x", "[0]", "", "", " }}"),
        ("{{ x", "[0:]", "", "", " }}"),
        ("{{ x", "()", "", "", " }}"),
        ("{{ x", "|d", "", "", " }}"),
        ("{{ x", " is defined", "", "", " }}"),
        ("{{ ", "not ", "1", "", " }}"),
        ("{{ ", "-", "1", "", " }}"),
        ("{{ ", "1 if x else ", "1", "", " }}"),
        ("{{ 1", " and 1", "", "", " }}"),
        ("{% set ", "(", "a", ")", " = 1 %}"),
        ("", "{%if x%}", "", "{%endif%}", ""),
        ("{% if x %}", "{% elif x %}", "", "", "{% endif %}"),
        ("", "{%for x in y%}", "", "", ""),
        ("", "{%raw%}", "", "", ""),
        ("", "{#", "", "", ""),
        ("", "{{", "", "", ""),
        ("", "{{ '", "", "", ""),
    ] {
        let source = [before, &part.repeat(n), middle, &after.repeat(n), behind].concat();
        let error = render(&source).expect_err(part);
        assert!(matches!(error, TemplateError::Syntax { .. } | TemplateError::SourceTooLong { .. }), "{part}: {error}");
    }
}

#[test]
fn a_template_that_never_ends_or_fills_the_memory_is_stopped() {
    // Repeats `step` on a variable of a namespace as often as work allows.
    let grown = |start: &str, step: &str, end: &str| {
        format!(
            "{{% set ns = namespace(x={start}) %}}{{% for i in range(100000) %}}{{% set ns.x = {step} %}}{{% endfor %}}{end}"
        )
    };
    for source in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        "{% for i in range(100000000) %}{% endfor %}".to_owned(),
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".to_owned(),
        format!(
            "{{% for i in range(100000) %}}{{% for j in range(100000) %}}{}{{% endfor %}}{{% endfor %}}",
            "x".repeat(500)
        ),
        "{{ 'x' * 1000000000 }}".to_owned(),
        "{{ 'x'.ljust(100000000000) }}".to_owned(),
        "{{ '%1000000000d'|format(1) }}".to_owned(),
        "{{ 'a\na'|indent(1000000000) }}".to_owned(),
        "{{ [1]|batch(1000000000, 'x')|list|length }}".to_owned(),
        "{% set x = 'aaaaaaaaaa' * 10000 %}{{ x.replace('a', x)|length }}".to_owned(),
        "{% set x = 'aaaaaaaaaa' * 10000 %}{{ x.join(x)|length }}".to_owned(),
        "{% set x = ' ' * 100000 %}{% for i in range(100000) %}{% set y = x.strip() ~ x|trim %}{% endfor %}".to_owned(),
        "{% set x = 'A' * 100000 %}{% for i in range(100000) %}{% set y = x is upper %}{% endfor %}".to_owned(),
        grown("'x'", "ns.x ~ ns.x", ""),
        grown("'x'", "ns.x * 10", ""),
        grown("[1]", "ns.x + ns.x", ""),
        grown("[1]", "[ns.x]", "{{ ns.x }}"),
        grown("[1]", "[ns.x, ns.x]", "{{ ns.x|tojson }}"),
        grown("{}", "{'a': ns.x}", ""),
        grown("{}", "dict(ns.x, a=ns.x)", ""),
        grown("[1]", "ns.x|zip", ""),
        grown("[1]", "ns.x|chain([1])", "{{ ns.x|list|length }}"),
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns|string }}".to_owned(),
    ] {
        let error = render(&source).expect_err(&source);
        assert!(!matches!(error, TemplateError::Syntax { .. }), "{source}: {error}");
    }
    // Nor do slices of slices pile up.
    assert_eq!(render(&grown("[1, 2]", "ns.x[0:]", "{{ ns.x }}")).unwrap(), "[1, 2]");
    assert_eq!(render(&grown("[1, 2]", "ns.x * 1", "{{ ns.x }}")).unwrap(), "[1, 2]");
}

#[test]
fn a_template_that_is_damaged_anywhere_is_rendered_or_refused() {
    let sources = [
        include_str!("golden/chat/chatml.jinja"),
        include_str!("golden/chat/hermes.jinja"),
        include_str!("golden/chat/llama3.jinja"),
        include_str!("golden/chat/qwen2_5.jinja"),
        include_str!("golden/chat/qwen3.jinja"),
    ];
    let parts = [
        "{%", "%}", "{{", "}}", "{#", "-", "'", "\"", "\\", "(", "[", "]", "|", "set x =", "endfor", "é", "\u{0}", "=",
        ".", "*9",
    ];
    let mut refused = 0;
    for round in 0..600u64 {
        let mut rng = Seed(round).rng();
        let mut text: Vec<char> = sources[round as usize % sources.len()].chars().collect();
        for _ in 0..=rng.random_range(0..3) {
            let at = rng.random_range(0..text.len());
            match rng.random_range(0..4) {
                0 => text.truncate(at.max(1)),
                1 => drop(text.drain(at..(at + rng.random_range(1..30)).min(text.len()))),
                2 => text.splice(at..at, parts[rng.random_range(0..parts.len())].chars()).for_each(drop),
                _ => {
                    let copied: Vec<char> = text[at..(at + rng.random_range(1..60)).min(text.len())].to_vec();
                    let to = rng.random_range(0..text.len());
                    text.splice(to..to, copied).for_each(drop);
                }
            }
            if text.is_empty() {
                break;
            }
        }
        refused += usize::from(render(&text.into_iter().collect::<String>()).is_err());
    }
    assert!((100..600).contains(&refused), "{refused} of 600 refused");
}
