//! In which words does a chat model call tools and answer? Three dialects: what they are told, and how turns are read.

use serde_json::{Map, Value, json};

use super::super::grammar::{last_boxed, pieces_of_text, read};
use super::super::message::FunctionCall;
use super::super::{Action, Malformation};
use crate::tool::Tool;

/// How tool calls and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The tags of AEPO and ARPO (arXiv 2510.14545): `<think>`, `<search>`, `<python>`, `<result>`, `<answer>`. All calls,
    /// results and the answer stand in one assistant turn.
    Aepo,
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen models write it; results are messages.
    Hermes,
    /// `{"name": …, "parameters": {…}}` alone in a turn, or a program behind `<|python_tag|>`, as Llama 3 models write it;
    /// results are messages.
    Llama3,
}

impl Dialect {
    /// What the model is told when the recipe says nothing else.
    #[must_use]
    pub fn system(self) -> &'static str {
        match self {
            Dialect::Aepo => {
                "Solve the task step by step. Think between <think> and </think>. You have two tools. A Python program \
                 between <python> and </python> is run, and what it prints is given to you between <result> and \
                 </result>. A query between <search> and </search> is looked up, and what is found is given to you in \
                 the same way. When you know the solution, end with <answer>\\boxed{solution}</answer>."
            }
            Dialect::Hermes | Dialect::Llama3 => {
                "Solve the task step by step. Call at most one tool in a turn, and read its result before you go on. \
                 When you know the solution, end with \\boxed{solution}."
            }
        }
    }

    /// Texts that end a turn besides the model's own end tokens.
    pub(super) fn stop_texts(self) -> Vec<String> {
        match self {
            Dialect::Aepo => vec!["</search>".to_owned(), "</python>".to_owned()],
            Dialect::Hermes | Dialect::Llama3 => Vec::new(),
        }
    }

    /// What the template is given as `tools`; the tags of [`Dialect::Aepo`] need none.
    #[must_use]
    pub fn schemas(self) -> Vec<Value> {
        match self {
            Dialect::Aepo => Vec::new(),
            Dialect::Hermes | Dialect::Llama3 => Tool::ALL.map(schema).to_vec(),
        }
    }

    /// Reads a turn's text, the token that ended it left out; `ended` says whether that was an end of turn.
    pub(super) fn parse(self, text: &str, ended: bool) -> Action {
        let action = match self {
            Dialect::Aepo => return read(&pieces_of_text(text, ended), true),
            Dialect::Hermes => hermes(text),
            Dialect::Llama3 => llama3(text),
        };
        action.unwrap_or_else(Action::Malformed)
    }

    /// How a call is written into a message's text, for [`Dialect::Aepo`]; the others leave it to the template.
    pub(super) fn call_in_text(tool: Tool, input: &str) -> String {
        format!("<{0}>{input}</{0}>", tool.name())
    }
}

/// Name of a tool's only argument.
pub(super) fn argument(tool: Tool) -> &'static str {
    match tool {
        Tool::Python => "code",
        Tool::Search => "query",
    }
}

/// The OpenAI description of a tool.
fn schema(tool: Tool) -> Value {
    let (what, of_argument) = match tool {
        Tool::Python => ("Runs a Python program and returns what it prints.", "The program."),
        Tool::Search => ("Looks a query up in a collection of texts and returns the best matches.", "The query."),
    };
    json!({
        "type": "function",
        "function": {
            "name": tool.name(),
            "description": what,
            "parameters": {
                "type": "object",
                "properties": { argument(tool): { "type": "string", "description": of_argument } },
                "required": [argument(tool)],
            },
        },
    })
}

/// A call of a tool as a conversation holds it.
pub(in super::super) fn function_call(tool: Tool, input: String) -> FunctionCall {
    let arguments = Map::from_iter([(argument(tool).to_owned(), Value::String(input))]);
    FunctionCall { name: tool.name().to_owned(), arguments }
}

/// The tool and input of a call by name and arguments; both must be known, and nothing else may be there.
pub(super) fn tool_call(name: &str, arguments: &Map<String, Value>) -> Option<(Tool, String)> {
    let tool = Tool::ALL.into_iter().find(|tool| tool.name() == name)?;
    match arguments.get(argument(tool)) {
        Some(Value::String(input)) if arguments.len() == 1 => Some((tool, input.clone())),
        _ => None,
    }
}

fn hermes(text: &str) -> Result<Action, Malformation> {
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
    json_call(call, "arguments")
}

fn llama3(text: &str) -> Result<Action, Malformation> {
    const PYTHON: &str = "<|python_tag|>";
    let text = text.trim();
    let (program, call) = match text.split_once(PYTHON) {
        Some((_, program)) => (Some(program), program.trim()),
        None => (None, text),
    };
    let is_object = matches!(serde_json::from_str::<Value>(call), Ok(Value::Object(_)));
    match program {
        // A program may be an expression in braces; a call has a name.
        Some(program) if !is_object => Ok(Action::Call { tool: Tool::Python, input: program.to_owned() }),
        Some(_) => json_call(call, "parameters"),
        None if is_object => json_call(call, "parameters"),
        // Two objects after another, with or without a sign between them, are two calls.
        None if call.starts_with("{\"name\"") => Err(match call.matches("\"name\"").count() {
            1 => Malformation::BadCall,
            _ => Malformation::ManyCalls,
        }),
        None => answer(text),
    }
}

fn json_call(text: &str, arguments: &str) -> Result<Action, Malformation> {
    let call: Value = serde_json::from_str(text.trim()).map_err(|_| Malformation::BadCall)?;
    let name = call.get("name").and_then(Value::as_str).ok_or(Malformation::BadCall)?;
    let arguments = call.get(arguments).and_then(Value::as_object).ok_or(Malformation::BadCall)?;
    let (tool, input) = tool_call(name, arguments).ok_or(Malformation::BadCall)?;
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
pub(super) fn without_fence(program: &str) -> &str {
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

    fn call(tool: Tool, input: &str) -> Action {
        Action::Call { tool, input: input.to_owned() }
    }

    #[test]
    fn hermes_calls_are_json_between_tags() {
        use Malformation::{BadCall, BadTags, ManyCalls, NoAction, NoBox};
        let bad = Action::Malformed;
        let one = r#"<tool_call>
{"name": "search", "arguments": {"query": "area of Algeria"}}
</tool_call>"#;
        let code = "I compute.\n<tool_call>{\"name\":\"python\",\"arguments\":{\"code\":\"print(\\\"<tool_call>\\\")\"}}</tool_call>\n";
        let table = [
            (one.to_owned(), call(Tool::Search, "area of Algeria")),
            (format!("<think>\nHm.\n</think>\n\n{one}"), call(Tool::Search, "area of Algeria")),
            (format!("Hm.\n</think>\n\n{one}"), call(Tool::Search, "area of Algeria")),
            (code.to_owned(), call(Tool::Python, "print(\"<tool_call>\")")),
            (format!("{one}\n{one}"), bad(ManyCalls)),
            (format!("{one} and so"), bad(BadTags)),
            ("<tool_call>{}".to_owned(), bad(BadTags)),
            ("<tool_call>{}</tool_call>".to_owned(), bad(BadCall)),
            ("<tool_call>{\"name\": \"search\"}</tool_call>".to_owned(), bad(BadCall)),
            (one.replace("search", "browse"), bad(BadCall)),
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
            assert_eq!(Dialect::Hermes.parse(&text, true), expected, "{text}");
        }
    }

    #[test]
    fn llama_calls_are_bare_json_or_programs() {
        use Malformation::{BadCall, ManyCalls, NoBox};
        let bad = Action::Malformed;
        let one = r#"{"name": "search", "parameters": {"query": "area of Algeria"}}"#;
        let table = [
            (one.to_owned(), call(Tool::Search, "area of Algeria")),
            (format!("<|python_tag|>{one}"), call(Tool::Search, "area of Algeria")),
            ("<|python_tag|>print(2 ** 9)".to_owned(), call(Tool::Python, "print(2 ** 9)")),
            (format!("{one}; {one}"), bad(ManyCalls)),
            (one.replace("}}", ""), bad(BadCall)),
            (one.replace("parameters", "arguments"), bad(BadCall)),
            ("{5} is \\boxed{5}".to_owned(), Action::Answer("5".to_owned())),
            ("5".to_owned(), bad(NoBox)),
        ];
        for (text, expected) in table {
            assert_eq!(Dialect::Llama3.parse(&text, true), expected, "{text}");
        }
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
