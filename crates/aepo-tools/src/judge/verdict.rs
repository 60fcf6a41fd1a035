//! What did a judge decide? Read strictly: a reply that is not clearly a verdict is none.

use serde::{Deserialize, Serialize};

/// A verdict as it is asked for, and as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    pub verdict: Word,
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Correct,
    Incorrect,
}

/// The decision in the last line of a reply, or in the whole of it. `None` where there is none, or where an earlier line
/// decides otherwise. Thoughts up to `</think>` and fences of code around the line do not count.
pub(super) fn read(reply: &str) -> Option<Decision> {
    let said = reply.rsplit_once("</think>").map_or(reply, |(_, said)| said);
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("```"));
    let lines: Vec<&str> = lines.collect();
    // A list of values would do for the parser.
    let is_object = |text: &&str| text.starts_with('{');
    let decision =
        |text: &str| Some(text).filter(is_object).and_then(|text| serde_json::from_str::<Decision>(text).ok());
    let (last, earlier) = lines.split_last()?;
    let Some(found) = decision(last) else {
        // An object over several lines, and nothing beside it.
        return decision(&lines.join("\n"));
    };
    let all_agree = earlier.iter().filter_map(|line| decision(line)).all(|other| other.verdict == found.verdict);
    all_agree.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_verdict_is_one() {
        let (yes, no) = (r#"{"verdict": "correct", "reason": "r"}"#, r#"{"verdict": "incorrect", "reason": "r"}"#);
        let table = [
            (yes.to_owned(), Some(Word::Correct)),
            (no.to_owned(), Some(Word::Incorrect)),
            (format!("It says the same.\n{yes}\n"), Some(Word::Correct)),
            (format!("<think>{no}\n</think>\n\n{yes}"), Some(Word::Correct)),
            (format!("```json\n{yes}\n```"), Some(Word::Correct)),
            ("{\n  \"verdict\": \"incorrect\",\n  \"reason\": \"r\"\n}".to_owned(), Some(Word::Incorrect)),
            (r#"{"verdict":"correct"}"#.to_owned(), Some(Word::Correct)),
            (format!("{no}\n{yes}"), None),
            (format!("{yes}\nThat is my verdict."), None),
            (format!("Verdict: {yes}"), None),
            (format!("{yes} {yes}"), None),
            ("correct".to_owned(), None),
            (r#"{"verdict": "Correct", "reason": "r"}"#.to_owned(), None),
            (r#"{"verdict": "partially correct", "reason": "r"}"#.to_owned(), None),
            (r#"{"verdict": true, "reason": "r"}"#.to_owned(), None),
            (r#"{"verdict": "correct", "verdict": "incorrect", "reason": "r"}"#.to_owned(), None),
            (r#"{"verdict": "correct", "reason": "r", "score": 0}"#.to_owned(), None),
            (r#"["correct"]"#.to_owned(), None),
            ("<think> never ends".to_owned(), None),
            (String::new(), None),
            ("[".repeat(100_000), None),
        ];
        for (reply, expected) in table {
            assert_eq!(read(&reply).map(|d| d.verdict), expected, "{}", reply.chars().take(80).collect::<String>());
        }
    }
}
