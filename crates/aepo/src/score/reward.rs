//! What does the algorithm maximise? One number from accuracy, format and the tools that ran.

use super::{Score, Transcript, grade};
use crate::data::task::Task;

/// What an answer off the protocol is worth.
pub const BAD_FORMAT: f64 = -1.0;
/// Added to a right answer for which both tools ran.
pub const BOTH_TOOLS_BONUS: f64 = 0.1;

/// In [0, 1]: what [`grade()`] gives.
#[must_use]
pub fn accuracy(task: &Task, answer: &str) -> f64 {
    grade(task.grader, answer, &task.answers).score
}

/// The rule of AEPO and ARPO (arXiv 2510.14545, 2507.19849):
/// R = −1 when the format is broken; else `max(acc + 0.1·[both tools ran and acc > 0], acc)`.
///
/// A trajectory without an answer has broken the format. Accuracy is reported for well-formed trajectories only, so
/// that an answer the protocol does not accept earns nothing in an evaluation either.
#[must_use]
pub fn score(task: &Task, transcript: &Transcript) -> Score {
    let answer = transcript.answer.as_deref().filter(|_| transcript.well_formed);
    let Some(answer) = answer else {
        return Score { reward: BAD_FORMAT, accuracy: 0.0, format_ok: false };
    };
    let accuracy = accuracy(task, answer);
    let both_tools = transcript.python_ran && transcript.search_ran;
    let bonus = if both_tools && accuracy > 0.0 { BOTH_TOOLS_BONUS } else { 0.0 };
    Score { reward: accuracy + bonus, accuracy, format_ok: true }
}

/// DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13), added to the reward of a trajectory of `n_tokens`:
/// with L_cache = `share`·L_max it is 0 up to L_max − L_cache, falls linearly to −1 at L_max, and stays there. A share
/// of 0 switches it off.
#[must_use]
pub fn overlong_punishment(n_tokens: usize, max_tokens: usize, share: f64) -> f64 {
    if share <= 0.0 || max_tokens == 0 {
        return 0.0;
    }
    let cache = share * max_tokens as f64;
    ((max_tokens as f64 - cache - n_tokens as f64) / cache).clamp(-1.0, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::task::Grader;

    fn task(grader: Grader, answers: &[&str]) -> Task {
        Task {
            id: "t".to_owned(),
            kind: "k".to_owned(),
            question: "q".to_owned(),
            answers: answers.iter().map(|a| (*a).to_owned()).collect(),
            grader,
        }
    }

    #[test]
    fn the_rule_case_by_case() {
        let math = task(Grader::Math, &["15", "30/2"]);
        let qa = task(Grader::Qa, &["Algerian dinars"]);
        // task, answer, well-formed, Python ran, search ran → reward, accuracy
        let table = [
            (&math, Some("15"), true, false, false, 1.0, 1.0),
            (&math, Some("15.0"), true, true, false, 1.0, 1.0),
            (&math, Some("15"), true, false, true, 1.0, 1.0),
            (&math, Some("15"), true, true, true, 1.1, 1.0),
            (&math, Some("1.5"), true, true, true, 0.0, 0.0),
            (&math, Some("-15"), true, true, true, 0.0, 0.0),
            (&math, Some("15"), false, true, true, -1.0, 0.0),
            (&math, None, true, true, true, -1.0, 0.0),
            (&math, None, false, false, false, -1.0, 0.0),
            (&qa, Some("the Algerian dinars"), true, false, true, 1.0, 1.0),
            (&qa, Some("dinars"), true, false, true, 2.0 / 3.0, 2.0 / 3.0),
            (&qa, Some("dinars"), true, true, true, 2.0 / 3.0 + 0.1, 2.0 / 3.0),
            (&qa, Some("euros"), true, true, true, 0.0, 0.0),
        ];
        for (task, answer, well_formed, python_ran, search_ran, reward, accuracy) in table {
            let transcript = Transcript { answer: answer.map(str::to_owned), well_formed, python_ran, search_ran };
            let got = score(task, &transcript);
            assert!((got.reward - reward).abs() < 1e-12, "{transcript:?}: {got:?}");
            assert!((got.accuracy - accuracy).abs() < 1e-12, "{transcript:?}: {got:?}");
            assert_eq!(got.format_ok, answer.is_some() && well_formed);
        }
    }

    #[test]
    fn worked_values_of_the_overlong_punishment() {
        // The paper's numbers: 20480 at most, the last 4096 of them punished.
        let at = |n| overlong_punishment(n, 20480, 0.2);
        assert_eq!([0, 16384, 18432, 20480, 90000].map(at), [0.0, 0.0, -0.5, -1.0, -1.0]);
        assert_eq!(overlong_punishment(500, 100, 0.0), 0.0);
    }
}
