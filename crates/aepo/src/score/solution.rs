//! What is graded of a text? A whole solution stands for its final answer.

use crate::data::task::Grader;

/// The part of a prediction that is its answer: what stands between `<answer>` tags or behind `</think>`, and of that the
/// final answer where it marks one, as [`final_answer`] finds it. A letter of a choice is found by its grader, which must
/// see whether others are named beside it: of those only a box is opened.
#[must_use]
pub fn answer_in(grader: Grader, prediction: &str) -> &str {
    let said = prediction.rsplit_once("</think>").map_or(prediction, |(_, said)| said);
    let said = said.rsplit_once("<answer>").map_or(said, |(_, answer)| answer.split("</answer>").next().unwrap_or(""));
    let found = match grader {
        Grader::Choice if !said.contains("\\boxed") => None,
        _ => final_answer(said),
    };
    found.unwrap_or(said).trim()
}

/// The part of an accepted answer that is compared: the final answer of a worked solution of mathematics, such as GSM8K's
/// and MATH's, else the whole.
#[must_use]
pub fn reference_in(grader: Grader, reference: &str) -> &str {
    let is_solution = grader == Grader::Math && (reference.contains("####") || reference.contains("\\boxed"));
    let found = if is_solution { final_answer(reference) } else { None };
    found.unwrap_or(reference).trim()
}
