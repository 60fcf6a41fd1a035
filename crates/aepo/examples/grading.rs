//! How fast is the grader of mathematics, and which pairs does it decide? Prints a JSON object per pair that is made of
//! the benchmarks' reference answers, and then what it took, for `tests/golden/compare_grading.py`. The
//! longest times for hostile texts go to standard error.
//!
//!     cargo run --release -p aepo --example grading > pairs.jsonl

#[path = "../tests/grading/pairs.rs"]
mod pairs;
#[path = "../tests/grading/shared.rs"]
mod shared;
#[path = "../tests/grading/texts.rs"]
mod texts;

use std::time::{Duration, Instant};

use aepo::score::math;

fn main() {
    let mut n_pairs = 0u32;
    let mut n_right = 0u32;
    let mut total = Duration::ZERO;
    let mut longest = (Duration::ZERO, String::new());
    for (set, references) in shared::references() {
        for pair in pairs::pairs(&references) {
            let start = Instant::now();
            let verdict = math::compare(&pair.answer, &pair.reference);
            let took = start.elapsed();
            total += took;
            n_pairs += 1;
            n_right += u32::from(verdict.equal == pair.equal);
            if took > longest.0 {
                longest = (took, format!("{} | {}", pair.answer, pair.reference));
            }
            let row = serde_json::json!({
                "set": set, "kind": pair.kind, "answer": pair.answer, "reference": pair.reference,
                "equal": pair.equal, "ours": verdict.equal, "why": verdict.why,
            });
            println!("{row}");
        }
    }
    let mut hostile: Vec<(Duration, String)> = Vec::new();
    for text in texts::hostile() {
        for other in [format!("{text} + 1"), format!("{text} "), "3.25 + x_7".to_owned()] {
            let start = Instant::now();
            let verdict = math::compare(&text, &other);
            let shown: String = text.chars().take(40).collect();
            hostile.push((start.elapsed(), format!("{shown} ({} bytes): {}", text.len(), verdict.why)));
        }
    }
    hostile.sort();
    for (took, shown) in hostile.iter().rev().take(8) {
        eprintln!("{:.2} ms for {shown}", took.as_secs_f64() * 1e3);
    }
    let secs = total.as_secs_f64();
    let summary = serde_json::json!({"summary": {
        "pairs": n_pairs, "right": n_right, "secs": secs, "pairs_per_sec": f64::from(n_pairs) / secs,
        "longest_ms": longest.0.as_secs_f64() * 1e3, "longest": longest.1,
    }});
    println!("{summary}");
}
