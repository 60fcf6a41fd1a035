//! What is the agent asked? One question with its accepted answers.

use serde::{Deserialize, Serialize};

/// How an answer is compared with the accepted ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grader {
    /// Equality of values: numbers must be equal as numbers.
    Math,
    /// Open question answering: token F1 after SQuAD normalisation, best over the accepted answers.
    Qa,
    /// Multiple choice: the letter, however it is written.
    Choice,
    /// GAIA's rule (arXiv 2311.12983): numbers, lists and texts, each normalised as its scorer does.
    Gaia,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Unique within its set, stable between runs.
    pub id: String,
    /// Group under which results are also reported ("one-hop", "arithmetic", …).
    pub kind: String,
    /// The question, plain text.
    pub question: String,
    /// Accepted answers, at least one.
    pub answers: Vec<String>,
    /// How to compare.
    pub grader: Grader,
}
