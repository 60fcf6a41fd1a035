//! Does the grader decide hand-written pairs as a person does? They come from `golden/make_grading.py`.

use aepo::score::math;

/// Kind, answer, reference, whether they are equal, and what math-verify 0.9.0 says.
type Row = (String, String, String, bool, bool);

fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!("../golden/grading.json")).unwrap()
}

#[test]
fn hand_written_pairs_are_decided_right_in_both_orders() {
    let rows = rows();
    assert!(rows.len() >= 300, "{}", rows.len());
    let mut faults = Vec::new();
    for (kind, answer, reference, equal, _) in &rows {
        for (a, b) in [(answer, reference), (reference, answer)] {
            let verdict = math::compare(a, b);
            if verdict.equal != *equal {
                faults.push(format!("{kind}: {a} | {b}: {} ({})", verdict.equal, verdict.why));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_answer_equals_itself() {
    for (_, answer, reference, ..) in rows() {
        for text in [answer, reference] {
            assert!(math::equal(&text, &text), "{text}");
        }
    }
}
