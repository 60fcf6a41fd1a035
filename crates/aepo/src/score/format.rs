//! Did a trajectory keep the protocol? Judged by its turns as parsed from sampled tokens, never by tool text.

use crate::prompt::Action;

/// Whether every turn but the last is a call and the last is an answer. `turns` are the parsed turns in order; a
/// trajectory that was cut off has no answer in the end.
#[must_use]
pub fn well_formed(turns: &[Action]) -> bool {
    match turns.split_last() {
        None => false,
        Some((last, calls)) => {
            matches!(last, Action::Answer(_)) && calls.iter().all(|turn| matches!(turn, Action::Call { .. }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Malformation;
    use crate::tool::ToolName;

    #[test]
    fn calls_then_one_answer() {
        let call = || Action::Call { tool: ToolName::SEARCH, input: String::new() };
        let answer = || Action::Answer("5".to_owned());
        let bad = || Action::Malformed(Malformation::BadTags);
        let table = [
            (vec![answer()], true),
            (vec![call(), call(), answer()], true),
            (vec![], false),
            (vec![call()], false),
            (vec![answer(), answer()], false),
            (vec![answer(), call()], false),
            (vec![bad(), answer()], false),
            (vec![call(), bad()], false),
        ];
        for (turns, expected) in table {
            assert_eq!(well_formed(&turns), expected, "{turns:?}");
        }
    }
}
