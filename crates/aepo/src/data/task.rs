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

impl Grader {
    /// Every grader.
    pub const ALL: [Grader; 4] = [Grader::Math, Grader::Qa, Grader::Choice, Grader::Gaia];

    /// What task files, recipes and commands call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Grader::Math => "math",
            Grader::Qa => "qa",
            Grader::Choice => "choice",
            Grader::Gaia => "gaia",
        }
    }

    /// The grader of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Grader> {
        Grader::ALL.into_iter().find(|grader| grader.name() == name)
    }

    /// Why a name is none of a grader.
    #[must_use]
    pub fn expected(found: &str) -> String {
        format!("{found:?} is none of \"math\", \"qa\", \"choice\" and \"gaia\"")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graders_have_one_name_each_and_it_is_that_of_task_files() {
        for grader in Grader::ALL {
            assert_eq!(serde_json::to_value(grader).unwrap(), grader.name());
            assert_eq!(Grader::named(grader.name()), Some(grader));
            assert!(Grader::expected("").contains(grader.name()));
        }
    }
}
