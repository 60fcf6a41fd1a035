//! How does a row in verl's layout become a task?
//!
//! `{"data_source", "prompt": [{"role", "content"}], "ability", "reward_model": {"ground_truth"}, "extra_info"}`, as the
//! released training sets have it. The question is the last message of the user; the system message is left behind,
//! because a recipe says how a model is asked, and control characters in either are counted and put right.

use serde_json::Value;

use super::lookup::{Fault, Row, first, missing, text, texts};
use super::repair::{Repairs, repair};
use super::{LeftOut, Taken, mended};
use crate::data::benchmark;
use crate::data::task::{Grader, Task};

/// What stands between accepted answers in one text.
const BETWEEN: &str = "<|answer_split|>";

/// Reads the `n`-th row of a file, counted from 1. Its own words say how to grade it unless a grader is given.
pub fn task(row: &Row, n: u64, grader: Option<Grader>) -> Result<Taken, Fault> {
    let mut repairs = Repairs::default();
    let question = question(row, &mut repairs)?;
    const TRUTH: &str = "reward_model.ground_truth";
    let Some((_, value)) = first(row, &[TRUTH]) else {
        return Err(missing(&[TRUTH]));
    };
    let (key, value) = match value {
        Value::Object(fields) => {
            let names = ["target", "ground_truth", "answer", "answers"];
            first(fields, &names).ok_or_else(|| missing(&names.map(|_| TRUTH)[..1]))?
        }
        value => (TRUTH, value),
    };
    if value.as_str().is_some_and(|truth| truth.trim().is_empty()) {
        return Ok(Taken::LeftOut(LeftOut::NoAnswer { key: TRUTH.to_owned() }));
    }
    let mut answers: Vec<String> = Vec::new();
    for truth in texts(key, value)? {
        for answer in truth.split(BETWEEN).filter(|answer| !answer.trim().is_empty()) {
            let answer = mended(answer, key, &mut repairs)?;
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
    }
    if answers.is_empty() {
        return Ok(Taken::LeftOut(LeftOut::NoAnswer { key: TRUTH.to_owned() }));
    }
    let (kind, grader) = ability(row, grader)?;
    Ok(Taken::Task { task: Task { id: n.to_string(), kind, question, answers, grader }, repairs })
}

/// The last message of the user; a prompt may also be one text.
fn question(row: &Row, repairs: &mut Repairs) -> Result<String, Fault> {
    const PROMPT: &str = "prompt";
    let messages = match first(row, &[PROMPT]).ok_or_else(|| missing(&[PROMPT]))?.1 {
        Value::Array(messages) => messages,
        value => return mended(&text(PROMPT, value)?, PROMPT, repairs),
    };
    let mut question = None;
    for (i, message) in messages.iter().enumerate() {
        let key = format!("prompt[{i}].content");
        let content = message.get("content").and_then(Value::as_str);
        match (message.get("role").and_then(Value::as_str), content) {
            (Some("user"), Some(content)) => question = Some((key, content)),
            (Some(_), Some(content)) => *repairs += repair(content).1,
            (None, _) => return Err(Fault::new(&format!("prompt[{i}].role"), "missing, or no text")),
            (_, None) => return Err(Fault::new(&key, "missing, or no text")),
        }
    }
    let (key, content) = question.ok_or_else(|| Fault::new(PROMPT, "no message of the user"))?;
    mended(content, &key, repairs)
}

/// Under what results are reported, and the grader: `ability` says what is asked for, or else the source does.
fn ability(row: &Row, given: Option<Grader>) -> Result<(String, Grader), Fault> {
    let of = |key: &str| first(row, &[key]).and_then(|(_, value)| value.as_str()).map(str::trim).unwrap_or_default();
    let (ability, source) = (of("ability"), of("data_source"));
    let lower = ability.to_lowercase();
    let by_ability = match lower.as_str() {
        "math" | "mathematics" | "math_reasoning" => Some(Grader::Math),
        "qa" | "fact-reasoning" | "knowledge" | "search" => Some(Grader::Qa),
        _ => None,
    };
    let name = source.rsplit('/').next().unwrap_or_default();
    let by_source = || {
        let known = benchmark::find(name).map(|benchmark| benchmark.grader);
        let lower = name.to_lowercase();
        let mathematical = ["math", "gsm8k", "aime", "amc"].iter().any(|part| lower.contains(part));
        known.or(mathematical.then_some(Grader::Math))
    };
    let grader = given.or(by_ability).or_else(by_source).ok_or_else(|| {
        Fault::new("ability", format!("{ability:?} of {source:?} does not say how to grade; name a grader"))
    })?;
    let kind = [ability, source].into_iter().find(|name| !name.is_empty()).unwrap_or("verl");
    Ok((kind.to_owned(), grader))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(truth: Value) -> Value {
        json!({
            "data_source": "DR_grpo_mix", "ability": "math", "reward_model": {"ground_truth": truth, "style": "rule"},
            "prompt": [
                {"role": "system", "content": "Answer in \u{8}oxed{}."},
                {"role": "user", "content": "An example?"},
                {"role": "assistant", "content": "\\boxed{1}"},
                {"role": "user", "content": "Find $\u{c}rac12$."},
            ],
        })
    }

    fn read(value: &Value) -> Result<Taken, Fault> {
        task(value.as_object().unwrap(), 7, None)
    }

    #[test]
    fn the_last_question_is_asked_and_defects_are_put_right() {
        let Taken::Task { task, repairs } = read(&row(json!("\\frac12"))).unwrap() else { panic!("left out") };
        assert_eq!((task.id.as_str(), task.kind.as_str(), task.grader), ("7", "math", Grader::Math));
        assert_eq!((task.question.as_str(), &task.answers[..]), ("Find $\\frac12$.", &["\\frac12".to_owned()][..]));
        assert_eq!(repairs, Repairs { n_commands: 2, n_removed: 0 });
    }

    #[test]
    fn truths_are_texts_numbers_lists_or_targets() {
        let table = [
            (json!("a<|answer_split|>b<|answer_split|>a"), vec!["a", "b"]),
            (json!(18), vec!["18"]),
            (json!(["x", "y"]), vec!["x", "y"]),
            (json!({"target": ["x", "y"]}), vec!["x", "y"]),
            (json!({"target": "x"}), vec!["x"]),
        ];
        for (truth, expected) in table {
            let Ok(Taken::Task { task, .. }) = read(&row(truth.clone())) else { panic!("{truth}") };
            assert_eq!(task.answers, expected, "{truth}");
        }
        for blank in [json!(" "), json!("<|answer_split|>")] {
            assert!(matches!(read(&row(blank)).unwrap(), Taken::LeftOut(LeftOut::NoAnswer { .. })));
        }
    }

    #[test]
    fn the_source_grades_where_the_ability_does_not() {
        let graded = |ability: &str, source: &str| {
            let mut row = row(json!("1"));
            row["ability"] = json!(ability);
            row["data_source"] = json!(source);
            match read(&row) {
                Ok(Taken::Task { task, .. }) => Ok((task.kind, task.grader)),
                Ok(Taken::LeftOut(why)) => panic!("{why}"),
                Err(fault) => Err(fault.to_string()),
            }
        };
        assert_eq!(graded("fact-reasoning", "nq"), Ok(("fact-reasoning".to_owned(), Grader::Qa)));
        assert_eq!(graded("", "openai/gsm8k"), Ok(("openai/gsm8k".to_owned(), Grader::Math)));
        assert_eq!(graded("", "hotpotqa"), Ok(("hotpotqa".to_owned(), Grader::Qa)));
        assert_eq!(graded("", "lighteval/MATH-lighteval").unwrap().1, Grader::Math);
        let said = graded("code", "taco").unwrap_err();
        assert_eq!(said, "key ability: \"code\" of \"taco\" does not say how to grade; name a grader");
        let mut row = row(json!("1"));
        row["ability"] = json!("code");
        let Taken::Task { task, .. } = task(row.as_object().unwrap(), 1, Some(Grader::Gaia)).unwrap() else {
            panic!("left out")
        };
        assert_eq!((task.kind.as_str(), task.grader), ("code", Grader::Gaia));
    }

    #[test]
    fn faults_name_the_field() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut row = row(json!("1"));
            change(&mut row);
            read(&row).unwrap_err().to_string()
        };
        assert_eq!(with(&|row| row["prompt"] = Value::Null), "key prompt: missing");
        assert_eq!(with(&|row| row["prompt"] = json!([])), "key prompt: no message of the user");
        assert_eq!(with(&|row| row["prompt"][1]["role"] = json!(1)), "key prompt[1].role: missing, or no text");
        assert_eq!(with(&|row| row["prompt"][3]["content"] = json!("")), "key prompt[3].content: blank");
        assert_eq!(with(&|row| row["reward_model"] = json!({})), "key reward_model.ground_truth: missing");
        let fault = with(&|row| row["reward_model"]["ground_truth"] = json!({"x": 1}));
        assert_eq!(fault, "key reward_model.ground_truth: missing");
    }
}
