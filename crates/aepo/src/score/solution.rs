//! What is graded of a text? A whole solution stands for its final answer.

use super::math::final_answer;
use crate::data::task::Grader;

/// The part of a prediction that is its answer: what stands between `<answer>` tags or behind `</think>`, and of that what
/// it marks as final. For mathematics [`final_answer`] finds it. Elsewhere it is the content of the last box, or what
/// stands behind the last `final answer:` on its line; a sentence that ends at a full stop would cut `St. Louis`. Of a
/// choice only a box is opened, because its grader must see whether other letters are named beside it.
#[must_use]
pub fn answer_in(grader: Grader, prediction: &str) -> &str {
    let said = prediction.rsplit_once("</think>").map_or(prediction, |(_, said)| said);
    let said = said.rsplit_once("<answer>").map_or(said, |(_, answer)| answer.split("</answer>").next().unwrap_or(""));
    let is_boxed = said.contains("\\boxed");
    let found = match grader {
        Grader::Math => final_answer(said),
        _ if is_boxed => final_answer(said),
        Grader::Choice => None,
        Grader::Qa | Grader::Gaia => announced(said),
    };
    found.unwrap_or(said).trim()
}

/// The rest of the line behind the last `final answer:`, in which asterisks of emphasis do not count.
fn announced(text: &str) -> Option<&str> {
    const WORDS: &str = "final answer";
    // ASCII letters keep their length in lower case, so that positions hold for the text itself.
    let lower = text.to_ascii_lowercase();
    let rest = &text[lower.rfind(WORDS)? + WORDS.len()..];
    let rest = rest.trim_start_matches(['*', ' ']).strip_prefix([':', '：'])?;
    let line = rest.trim_start_matches(['*', ' ']).lines().next()?;
    let line = line.trim_end().trim_end_matches('*');
    (!line.is_empty()).then_some(line)
}

/// The part of an accepted answer that is compared: the final answer of a worked solution of mathematics, such as GSM8K's
/// and MATH's, else the whole.
#[must_use]
pub fn reference_in(grader: Grader, reference: &str) -> &str {
    let is_solution = grader == Grader::Math && (reference.contains("####") || reference.contains("\\boxed"));
    let found = if is_solution { final_answer(reference) } else { None };
    found.unwrap_or(reference).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Grader::{Choice, Gaia, Math, Qa};

    #[test]
    fn the_final_answer_is_taken_out_of_a_solution() {
        let table = [
            (Math, "6 · 7 = 42, so \\boxed{42}.", "42"),
            (Math, "…\n#### 1,018", "1,018"),
            (Math, "Thus the answer is 3.5. Done.", "3.5"),
            (Math, " 1/2 ", "1/2"),
            (Math, "<think>\\boxed{1}</think> It is \\boxed{2}", "2"),
            (Math, "<think>x</think><answer>\\boxed{2}</answer> \\boxed{3}", "2"),
            (Qa, "It is \\boxed{St. Louis}.", "St. Louis"),
            (Qa, "The answer is St. Louis, I think", "The answer is St. Louis, I think"),
            (Qa, "Hm.\n**Final Answer:** St. Louis\nGood luck!", "St. Louis"),
            (Gaia, "FINAL ANSWER: Ahr, Lahn", "Ahr, Lahn"),
            (Gaia, "no final answer", "no final answer"),
            (Gaia, "final answer:", "final answer:"),
            (Qa, "<answer>Paris</answer>", "Paris"),
            (Qa, "<answer>Paris", "Paris"),
            (Choice, "The answer is C. Or the answer is D.", "The answer is C. Or the answer is D."),
            (Choice, "So \\boxed{\\text{C}}", "\\text{C}"),
            (Qa, "", ""),
        ];
        for (grader, prediction, expected) in table {
            assert_eq!(answer_in(grader, prediction), expected, "{prediction}");
        }
        assert_eq!(reference_in(Math, "2/2=<<2/2=1>>1\n#### 3"), "3");
        assert_eq!(reference_in(Math, "the answer is 3"), "the answer is 3");
        assert_eq!(reference_in(Qa, "#### 3"), "#### 3");
    }
}
