//! Is the grader right about thousands of rewritings of the benchmarks' reference answers?

use aepo::score::math;

use super::{pairs, shared};

#[test]
fn rewritings_of_the_benchmarks_answers_are_decided_right() {
    let sets = shared::references();
    if sets.len() < 3 {
        eprintln!("skipped: the benchmarks' files are not beside this repository, nor where AEPO_SHARED_DATA says");
        return;
    }
    let (mut n_pairs, mut faults) = (0, Vec::new());
    for (set, references) in &sets {
        for pair in pairs::pairs(references) {
            n_pairs += 1;
            let verdict = math::compare(&pair.answer, &pair.reference);
            if verdict.equal != pair.equal {
                let (kind, answer, reference) = (pair.kind, pair.answer, pair.reference);
                faults.push(format!("{set}, {kind}: {answer} | {reference}: {} ({})", verdict.equal, verdict.why));
            }
        }
    }
    assert!(n_pairs >= 5000, "{n_pairs}");
    assert!(faults.is_empty(), "{} of {n_pairs}\n{}", faults.len(), faults.join("\n"));
}
