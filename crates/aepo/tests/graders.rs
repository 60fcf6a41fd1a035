//! Do the graders of texts score as SQuAD and GAIA define it? The scores come from `golden/make_graders.py`, which shares
//! no code with this crate.

use aepo::data::task::Grader;
use aepo::score::{gaia, grade, qa};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    /// Answer, truth, F1, exact match.
    qa: Vec<(String, String, f64, bool)>,
    /// Answer, truth, whether they are equal.
    gaia: Vec<(String, String, bool)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/graders.json")).unwrap()
}

#[test]
fn f1_and_exact_match_are_those_of_squad() {
    let pairs = golden().qa;
    assert!(pairs.len() >= 1000);
    for (answer, truth, f1, exact) in &pairs {
        let got = qa::f1(answer, truth);
        assert!((got - f1).abs() < 1e-12, "{answer:?} / {truth:?}: {got}, not {f1}");
        assert_eq!(qa::exact_match(answer, truth), *exact, "{answer:?} / {truth:?}");
        // The one entrance gives no less than the definition.
        let verdict = grade(Grader::Qa, answer, std::slice::from_ref(truth));
        assert!(verdict.score > f1 - 1e-12 && verdict.score <= 1.0, "{answer:?} / {truth:?}: {verdict:?}");
    }
}

#[test]
fn gaias_rule_is_that_of_its_scorer() {
    let pairs = golden().gaia;
    assert!(pairs.len() >= 1000);
    for (answer, truth, expected) in &pairs {
        assert_eq!(gaia::equal(answer, truth), *expected, "{answer:?} / {truth:?}");
        let verdict = grade(Grader::Gaia, answer, std::slice::from_ref(truth));
        assert_eq!(verdict.score, f64::from(u8::from(*expected)));
    }
}
