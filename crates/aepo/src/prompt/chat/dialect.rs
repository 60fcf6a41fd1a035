//! In which words does a chat model call tools and answer? Three dialects: what they are told, and how turns are read.

use serde_json::{Map, Value};

use super::super::grammar::{pieces_of_text, read};
use super::super::last_boxed;
use super::super::message::FunctionCall;
use super::super::{Action, Malformation};
use crate::tool::{ToolInput, ToolName, ToolSpec};

/// How tool calls and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The tags of AEPO and ARPO (arXiv 2510.14545): `<think>`, `<search>`, `<python>`, `<result>`, `<answer>`, and in the
    /// same way those of other tools. All calls, results and the answer stand in one assistant turn.
    Aepo,
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen models write it; results are messages.
    Hermes,
    /// `{"name": …, "parameters": {…}}` alone in a turn, or a program behind `<|python_tag|>`, as Llama 3 models write it;
    /// results are messages.
    Llama3,
}

impl Dialect {
    /// What the model is told of these tools when the recipe says nothing else.
    #[must_use]
    pub fn system(self, tools: &[ToolSpec]) -> String {
        const TASK: &str = "Solve the task step by step.";
        match self {
            Dialect::Aepo => {
                let told: String = tools.iter().enumerate().map(|(idx, tool)| told(tool, idx == 0)).collect();
                let end = "When you know the solution, end with <answer>\\boxed{solution}</answer>.";
                format!("{TASK} Think between <think> and </think>. {}{told}{end}", count(tools.len()))
            }
            Dialect::Hermes | Dialect::Llama3 => {
                let call = "Call at most one tool in a turn, and read its result before you go on. ";
                let call = if tools.is_empty() { "" } else { call };
                format!("{TASK} {call}When you know the solution, end with \\boxed{{solution}}.")
            }
        }
    }

    /// Texts that end a turn besides the model's own end tokens.
    #[must_use]
    pub fn stop_texts(self, tools: &[ToolSpec]) -> Vec<String> {
        match self {
            Dialect::Aepo => tools.iter().map(|tool| format!("</{}>", tool.name)).collect(),
            Dialect::Hermes | Dialect::Llama3 => Vec::new(),
        }
    }

    /// Whether the template is given the tools; the tags of [`Dialect::Aepo`] are explained in the system message.
    #[must_use]
    pub fn takes_schemas(self) -> bool {
        match self {
            Dialect::Aepo => false,
            Dialect::Hermes | Dialect::Llama3 => true,
        }
    }

    /// What the template is given as `tools`.
    pub(super) fn schemas(self, tools: &[ToolSpec]) -> Vec<Value> {
        match self.takes_schemas() {
            true => tools.iter().map(ToolSpec::schema).collect(),
            false => Vec::new(),
        }
    }

    /// Reads a turn's text, the token that ended it left out; `ended` says whether that was an end of turn.
    #[must_use]
    pub fn parse(self, text: &str, ended: bool, tools: &[ToolSpec]) -> Action {
        let action = match self {
            Dialect::Aepo => return read(&pieces_of_text(text, ended, tools), true, tools),
            Dialect::Hermes => hermes(text, tools),
            Dialect::Llama3 => llama3(text, tools),
        };
        action.unwrap_or_else(Action::Malformed)
    }

    /// How a call is written into a message's text, for [`Dialect::Aepo`]; the others leave it to the template.
    pub(super) fn call_in_text(tool: &ToolName, input: &str) -> String {
        format!("<{tool}>{input}</{tool}>")
    }
}

/// "You have two tools. "; nothing without tools.
fn count(n_tools: usize) -> String {
    const WORDS: [&str; 10] = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    match n_tools {
        0 => String::new(),
        1 => "You have one tool. ".to_owned(),
        n => format!("You have {} tools. ", WORDS.get(n).map_or_else(|| n.to_string(), |&word| word.to_owned())),
    }
}

/// How a tool is called in tags, and where its answer is found; with a space behind it.
fn told(tool: &ToolSpec, is_first: bool) -> String {
    let place = if is_first { "between <result> and </result>" } else { "in the same way" };
    let name = &tool.name;
    let (sort, input) = match &tool.input {
        _ if *name == ToolName::PYTHON => {
            return format!(
                "A Python program between <python> and </python> is run, and what it prints is given to you {place}. "
            );
        }
        _ if *name == ToolName::SEARCH => {
            return format!(
                "A query between <search> and </search> is looked up, and what is found is given to you {place}. "
            );
        }
        ToolInput::Text { about, .. } => ("text", format!("The text: {about}")),
        ToolInput::Arguments(schema) => ("JSON object", format!("JSON schema of the object: {schema}")),
    };
    let description = tool.description.trim();
    format!(
        "A {sort} between <{name}> and </{name}> is given to the tool {name}, and its answer is given to you {place}. \
         About this tool: {description} {input} "
    )
}

/// A call of a tool as a conversation holds it; `None` when the text is not what the tool takes.
pub(in super::super) fn function_call(tool: &ToolSpec, text: &str) -> Option<FunctionCall> {
    let arguments = match &tool.input {
        ToolInput::Text { argument, .. } => Map::from_iter([(argument.clone(), Value::String(text.to_owned()))]),
        ToolInput::Arguments(_) => serde_json::from_str(text).ok()?,
    };
    Some(FunctionCall { name: tool.name.to_string(), arguments })
}

/// The tool and input of a call by name and arguments; the tool must be offered and take just these.
pub(in super::super) fn tool_call(
    tools: &[ToolSpec],
    name: &str,
    arguments: &Map<String, Value>,
) -> Option<(ToolName, String)> {
    let tool = tools.iter().find(|tool| tool.name.as_str() == name)?;
    Some((tool.name.clone(), tool.input_of(arguments)?))
}

fn hermes(text: &str, tools: &[ToolSpec]) -> Result<Action, Malformation> {
    const OPEN: &str = "<tool_call>";
    const CLOSE: &str = "</tool_call>";
    let text = behind_thoughts(text)?;
    let Some((_, call)) = text.split_once(OPEN) else { return answer(text) };
    let (call, rest) = call.split_once(CLOSE).ok_or(Malformation::BadTags)?;
    if rest.contains(OPEN) {
        return Err(Malformation::ManyCalls);
    }
    if !rest.trim().is_empty() {
        return Err(Malformation::BadTags);
    }
    json_call(call, "arguments", tools)
}

fn llama3(text: &str, tools: &[ToolSpec]) -> Result<Action, Malformation> {
    const PYTHON: &str = "<|python_tag|>";
    let text = text.trim();
    let (program, call) = match text.split_once(PYTHON) {
        Some((_, program)) => (Some(program), program.trim()),
        None => (None, text),
    };
    let is_object = matches!(serde_json::from_str::<Value>(call), Ok(Value::Object(_)));
    match program {
        // A program may be an expression in braces; a call has a name.
        Some(program) if !is_object => match tools.iter().any(|tool| tool.name == ToolName::PYTHON) {
            true => Ok(Action::Call { tool: ToolName::PYTHON, input: program.to_owned() }),
            false => Err(Malformation::BadCall),
        },
        Some(_) => json_call(call, "parameters", tools),
        None if is_object => json_call(call, "parameters", tools),
        // Two objects after another, with or without a sign between them, are two calls.
        None if call.starts_with("{\"name\"") => Err(match call.matches("\"name\"").count() {
            1 => Malformation::BadCall,
            _ => Malformation::ManyCalls,
        }),
        None => answer(text),
    }
}

fn json_call(text: &str, arguments: &str, tools: &[ToolSpec]) -> Result<Action, Malformation> {
    let call: Value = serde_json::from_str(text.trim()).map_err(|_| Malformation::BadCall)?;
    let name = call.get("name").and_then(Value::as_str).ok_or(Malformation::BadCall)?;
    let arguments = call.get(arguments).and_then(Value::as_object).ok_or(Malformation::BadCall)?;
    let (tool, input) = tool_call(tools, name, arguments).ok_or(Malformation::BadCall)?;
    Ok(Action::Call { tool, input })
}

fn answer(text: &str) -> Result<Action, Malformation> {
    match last_boxed(text) {
        Some(answer) => Ok(Action::Answer(answer)),
        None if text.trim().is_empty() => Err(Malformation::NoAction),
        None => Err(Malformation::NoBox),
    }
}

/// What follows the thoughts that a turn may begin with. A template may have opened them already.
fn behind_thoughts(text: &str) -> Result<&str, Malformation> {
    match text.rsplit_once("</think>") {
        Some((_, rest)) => Ok(rest),
        None if text.contains("<think>") => Err(Malformation::NoAction),
        None => Ok(text),
    }
}

/// The program inside a Markdown fence, with or without the language behind its opening; other text as it is.
#[must_use]
pub fn without_fence(program: &str) -> &str {
    let fenced = || {
        let inner = program.trim().strip_prefix("```")?.strip_suffix("```")?;
        let (language, code) = inner.split_once('\n')?;
        matches!(language.trim(), "" | "python" | "py" | "python3").then_some(code)
    };
    fenced().unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> [ToolSpec; 3] {
        let name = ToolName::new("time__now").unwrap();
        let input = ToolInput::Arguments(serde_json::json!({"type": "object"}));
        let clock = ToolSpec { name, description: "Says the time.".to_owned(), input };
        let [python, search] = ToolSpec::python_and_search();
        [python, search, clock]
    }

    fn call(tool: ToolName, input: &str) -> Action {
        Action::Call { tool, input: input.to_owned() }
    }

    #[test]
    fn hermes_calls_are_json_between_tags() {
        use Malformation::{BadCall, BadTags, ManyCalls, NoAction, NoBox};
        let bad = Action::Malformed;
        let clock = |input: &str| call(ToolName::new("time__now").unwrap(), input);
        let one = r#"<tool_call>
{"name": "search", "arguments": {"query": "area of Algeria"}}
</tool_call>"#;
        let code = "I compute.\n<tool_call>{\"name\":\"python\",\"arguments\":{\"code\":\"print(\\\"<tool_call>\\\")\"}}</tool_call>\n";
        let table = [
            (one.to_owned(), call(ToolName::SEARCH, "area of Algeria")),
            (format!("<think>\nHm.\n</think>\n\n{one}"), call(ToolName::SEARCH, "area of Algeria")),
            (format!("Hm.\n</think>\n\n{one}"), call(ToolName::SEARCH, "area of Algeria")),
            (code.to_owned(), call(ToolName::PYTHON, "print(\"<tool_call>\")")),
            (format!("{one}\n{one}"), bad(ManyCalls)),
            (format!("{one} and so"), bad(BadTags)),
            ("<tool_call>{}".to_owned(), bad(BadTags)),
            ("<tool_call>{}</tool_call>".to_owned(), bad(BadCall)),
            ("<tool_call>{\"name\": \"search\"}</tool_call>".to_owned(), bad(BadCall)),
            (one.replace("search", "browse"), bad(BadCall)),
            (one.replace("search", "time__now"), clock(r#"{"query":"area of Algeria"}"#)),
            (one.replace("search", "time__now").replace("\"area of Algeria\"", r#"[{"b": 1, "a": "</x>"}]"#), {
                clock(r#"{"query":[{"a":"</x>","b":1}]}"#)
            }),
            (one.replace("\"query\"", "\"code\""), bad(BadCall)),
            (one.replace("\"area of Algeria\"", "7"), bad(BadCall)),
            (one.replace("}}", ", \"k\": 1}}"), bad(BadCall)),
            ("It is \\boxed{5}.".to_owned(), Action::Answer("5".to_owned())),
            ("<think>\\boxed{4}</think>It is \\boxed{5}.".to_owned(), Action::Answer("5".to_owned())),
            ("<think>\\boxed{4}".to_owned(), bad(NoAction)),
            ("<think>\\boxed{4}</think>It is 5.".to_owned(), bad(NoBox)),
            (" \n".to_owned(), bad(NoAction)),
        ];
        for (text, expected) in table {
            assert_eq!(Dialect::Hermes.parse(&text, true, &tools()), expected, "{text}");
        }
    }

    #[test]
    fn llama_calls_are_bare_json_or_programs() {
        use Malformation::{BadCall, ManyCalls, NoBox};
        let bad = Action::Malformed;
        let one = r#"{"name": "search", "parameters": {"query": "area of Algeria"}}"#;
        let table = [
            (one.to_owned(), call(ToolName::SEARCH, "area of Algeria")),
            (format!("<|python_tag|>{one}"), call(ToolName::SEARCH, "area of Algeria")),
            ("<|python_tag|>print(2 ** 9)".to_owned(), call(ToolName::PYTHON, "print(2 ** 9)")),
            (format!("{one}; {one}"), bad(ManyCalls)),
            (one.replace("}}", ""), bad(BadCall)),
            (one.replace("parameters", "arguments"), bad(BadCall)),
            ("{5} is \\boxed{5}".to_owned(), Action::Answer("5".to_owned())),
            ("5".to_owned(), bad(NoBox)),
        ];
        for (text, expected) in table {
            assert_eq!(Dialect::Llama3.parse(&text, true, &tools()), expected, "{text}");
        }
    }

    #[test]
    fn a_tool_that_is_not_offered_is_not_called() {
        let bad = Action::Malformed(Malformation::BadCall);
        let search = [ToolSpec::search()];
        assert_eq!(Dialect::Llama3.parse("<|python_tag|>print(1)", true, &search), bad);
        let one = r#"{"name": "python", "parameters": {"code": "print(1)"}}"#;
        assert_eq!(Dialect::Llama3.parse(one, true, &search), bad);
        let one = r#"<tool_call>{"name": "python", "arguments": {"code": "print(1)"}}</tool_call>"#;
        assert_eq!(Dialect::Hermes.parse(one, true, &search), bad);
        assert_eq!(Dialect::Hermes.parse(one, true, &[]), bad);
    }

    #[test]
    fn the_model_is_told_of_the_tools_that_there_are() {
        let [python, search, clock] = tools();
        let all = [python.clone(), search.clone(), clock];
        expect_test::expect![[r#"
            Solve the task step by step. Think between <think> and </think>. You have two tools. A Python program between <python> and </python> is run, and what it prints is given to you between <result> and </result>. A query between <search> and </search> is looked up, and what is found is given to you in the same way. When you know the solution, end with <answer>\boxed{solution}</answer>.
            Solve the task step by step. Think between <think> and </think>. You have one tool. A query between <search> and </search> is looked up, and what is found is given to you between <result> and </result>. When you know the solution, end with <answer>\boxed{solution}</answer>.
            Solve the task step by step. Think between <think> and </think>. You have three tools. A Python program between <python> and </python> is run, and what it prints is given to you between <result> and </result>. A query between <search> and </search> is looked up, and what is found is given to you in the same way. A JSON object between <time__now> and </time__now> is given to the tool time__now, and its answer is given to you in the same way. About this tool: Says the time. JSON schema of the object: {"type":"object"} When you know the solution, end with <answer>\boxed{solution}</answer>.
            Solve the task step by step. Think between <think> and </think>. You have one tool. A JSON object between <time__now> and </time__now> is given to the tool time__now, and its answer is given to you between <result> and </result>. About this tool: Says the time. JSON schema of the object: {"type":"object"} When you know the solution, end with <answer>\boxed{solution}</answer>.
            Solve the task step by step. Think between <think> and </think>. When you know the solution, end with <answer>\boxed{solution}</answer>.
        "#]].assert_eq(&[&all[..2], &all[1..2], &all, &all[2..], &[]].map(|tools| Dialect::Aepo.system(tools) + "\n").concat());
        assert_eq!(Dialect::Aepo.stop_texts(&all), ["</python>", "</search>", "</time__now>"]);
        assert_eq!(
            Dialect::Hermes.system(&all),
            "Solve the task step by step. Call at most one tool in a turn, and read its result before you go on. When \
             you know the solution, end with \\boxed{solution}."
        );
        assert_eq!(Dialect::Aepo.schemas(&all), Vec::<Value>::new());
        expect_test::expect![[r#"[{"type":"function","function":{"name":"python","description":"Runs a Python program and returns what it prints.","parameters":{"type":"object","properties":{"code":{"type":"string","description":"The program."}},"required":["code"]}}},{"type":"function","function":{"name":"search","description":"Looks a query up in a collection of texts and returns the best matches.","parameters":{"type":"object","properties":{"query":{"type":"string","description":"The query."}},"required":["query"]}}},{"type":"function","function":{"name":"time__now","description":"Says the time.","parameters":{"type":"object"}}}]"#]].assert_eq(&serde_json::to_string(&Dialect::Hermes.schemas(&all)).unwrap());
    }

    #[test]
    fn fences_are_taken_off_whole() {
        let table = [
            ("```python\nprint(1)\n```", "print(1)\n"),
            (" ```\nprint(1)```\n", "print(1)"),
            ("```rust\nprint(1)\n```", "```rust\nprint(1)\n```"),
            ("print('```')", "print('```')"),
            ("```python\nprint(1)", "```python\nprint(1)"),
            ("``````", "``````"),
        ];
        for (text, expected) in table {
            assert_eq!(without_fence(text), expected, "{text:?}");
        }
    }
}
