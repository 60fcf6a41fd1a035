//! Does the grader decide hand-written pairs as a person does? They come from `golden/make_grading.py`.

use std::collections::BTreeMap;

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

/// `docs/grading-math.md` says how often math-verify differs, and why.
#[test]
fn the_documented_disagreements_are_those_of_the_pairs() {
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for (kind, _, _, equal, told) in rows() {
        let of_kind = counts.entry(kind).or_default();
        of_kind[0] += 1;
        of_kind[1] += usize::from(equal && !told);
        of_kind[2] += usize::from(told && !equal);
    }
    let text = include_str!("../../../../docs/grading-math.md");
    for (kind, [n, refuses, accepts]) in counts {
        let row = format!("\n| {kind} | {n} | {refuses} | {accepts} | ");
        assert!(text.contains(&row), "docs/grading-math.md has no row{row}");
    }
}
