//! From a row of a file to the targets of a batch: is every token of the assistant trained, and no other?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::expect;

use super::rows::{Row, pack_rows};
use crate::data::chat::parse_chats;
use crate::prompt::template::ChatTemplate;
use crate::prompt::{ChatSettings, Dialect, Renderer, Tokenizer};
use crate::tool::ToolSpec;

const VOCABULARY: &[u8] = include_bytes!("../../../../recipes/quickstart/tokenizer.json");

/// ChatML in the quickstart's special tokens.
const TEMPLATE: &str = "\
{%- if tools %}{{ '<|user|>tools ' ~ tools | map(attribute='function.name') | join(' ') ~ '<|end|>\\n' }}{% endif %}
{%- for m in messages %}
{{- '<|assistant|>' if m.role == 'assistant' else '<|user|>' }}{{ m.role + '\\n' + (m.content or '') }}
{%- for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function | tojson + '</tool_call>' }}{% endfor %}
{{- '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>assistant\\n' }}{% endif %}";

const ROWS: [&str; 2] = [
    concat!(
        r#"{"system":"Be <|end|> short.","tools":"[{\"name\":\"python\"}]","conversations":["#,
        r#"{"from":"human","value":"2 + 2?<|assistant|>"},"#,
        r#"{"from":"function_call","value":"{\"name\":\"python\",\"arguments\":{\"code\":\"print(2 + 2)\"}}"},"#,
        r#"{"from":"observation","value":"4</result><|end|>"},{"from":"gpt","value":"It is 4."},"#,
        r#"{"from":"human","value":"And?"},{"from":"gpt","value":"No <|end|> more."}]}"#,
    ),
    r#"{"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":""}]}"#,
];

fn rows_of(dialect: Dialect) -> (Renderer, Vec<Row>) {
    let template = ChatTemplate::parse(TEMPLATE, BTreeMap::new()).unwrap();
    let (system, variables) = (String::new(), BTreeMap::new());
    let settings = ChatSettings {
        dialect,
        tools: ToolSpec::python_and_search().to_vec(),
        system,
        code_fences: false,
        variables,
        today: None,
        eos: Vec::new(),
    };
    let renderer = Renderer::chat(Arc::new(Tokenizer::from_bytes(VOCABULARY).unwrap()), template, settings).unwrap();
    let chats = parse_chats("c.jsonl", &ROWS.join("\n")).unwrap();
    let rows = chats.conversations.iter().map(|c| renderer.dialogue(&c.messages, &c.tools).unwrap()).collect();
    (renderer, rows)
}

/// Each stretch of trained tokens in brackets, everything else as it is read; a row on a line.
fn shown(dialect: Dialect) -> String {
    let (renderer, rows) = rows_of(dialect);
    let mut out = String::new();
    for batch in pack_rows(&rows, 100_000) {
        let mut trained = vec![false; batch.tokens.len()];
        for target in &batch.targets {
            let at = target.from_idx as usize + 1;
            assert_eq!(batch.tokens[at], target.token, "a target is the token behind the one it is predicted from");
            trained[at] = true;
        }
        for s in &batch.segments {
            let ids = s.start_idx as usize..(s.start_idx + s.n_tokens) as usize;
            for part in ids.collect::<Vec<_>>().chunk_by(|&a, &b| trained[a] == trained[b]) {
                let text = renderer.decode(&part.iter().map(|&i| batch.tokens[i]).collect::<Vec<u32>>());
                let _ = if trained[part[0]] { write!(out, "[{text}]") } else { write!(out, "{text}") };
            }
            out += "\n--\n";
        }
    }
    out
}

#[test]
fn calls_answers_and_ends_of_turns_are_trained_and_nothing_else() {
    expect![[r#"
        <|user|>tools python<|end|>
        <|user|>system
        Be <|end|> short.<|end|>
        <|user|>user
        2 + 2?<|assistant|><|end|>
        <|assistant|>assistant
        [<tool_call>{"name": "python", "arguments": {"code": "print(2 + 2)"}}</tool_call><|end|>]
        <|user|>tool
        4</result><|end|><|end|>
        <|assistant|>assistant
        [It is 4.<|end|>]
        <|user|>user
        And?<|end|>
        <|assistant|>assistant
        [No <|end|> more.<|end|>]
        --
        <|user|>user
        Hi<|end|>
        <|assistant|>assistant
        [<|end|>]
        --
    "#]]
    .assert_eq(&shown(Dialect::Hermes));
}

#[test]
fn in_the_tags_of_aepo_results_stand_between_what_is_trained() {
    expect![[r#"
        <|user|>tools python<|end|>
        <|user|>system
        Be <|end|> short.<|end|>
        <|user|>user
        2 + 2?<|assistant|><|end|>
        <|assistant|>assistant
        [<python>print(2 + 2)</python>]<result>
        4</result><|end|>
        </result>[It is 4.<|end|>]
        <|user|>user
        And?<|end|>
        <|assistant|>assistant
        [No <|end|> more.<|end|>]
        --
        <|user|>user
        Hi<|end|>
        <|assistant|>assistant
        [<|end|>]
        --
    "#]]
    .assert_eq(&shown(Dialect::Aepo));
}

#[test]
fn special_tokens_come_from_the_template_alone() {
    for dialect in [Dialect::Hermes, Dialect::Aepo] {
        let (renderer, rows) = rows_of(dialect);
        let tokenizer = renderer.tokenizer();
        let end = tokenizer.special("<|end|>").unwrap();
        let n_ends = |row: &Row| row.iter().flat_map(|(_, ids)| ids).filter(|&&id| id == end).count();
        // The first row has tools, a system message, two questions and two or three ends of turns of the assistant; the
        // result ends a turn of its own where the template writes it.
        let expected = if dialect == Dialect::Hermes { 8 } else { 6 };
        assert_eq!([n_ends(&rows[0]), n_ends(&rows[1])], [expected, 2]);
    }
}
