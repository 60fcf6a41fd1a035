//! How long does a verdict take? Usual answers per second, and the slowest of hostile ones of a megabyte.
//!
//!     cargo run --release -p aepo --example graders

use std::time::Instant;

use aepo::data::task::Grader;
use aepo::score::{grade, solution};

const PIECES: [&str; 24] = [
    "a ",
    "the",
    "the ",
    "C",
    "C or ",
    "(C)",
    "answer: C. ",
    "answer ",
    "选C",
    "答案",
    "5,",
    "1,200 ",
    "٣",
    "\u{1d7ff}",
    "北京",
    "\\",
    "\\boxed{",
    "\\boxed{5}",
    "{",
    "é",
    "e\u{301}",
    "İΣ",
    "\u{0}",
    "\n",
];

fn main() {
    let usual = [
        (Grader::Qa, "The New York City", "New York"),
        (Grader::Qa, "22 Oct. 1930", "October 22, 1930"),
        (Grader::Choice, "The answer is (C).", "C"),
        (Grader::Gaia, "Ahr; Lahn; Moselle", "Ahr, Lahn, Moselle"),
    ];
    for (grader, answer, reference) in usual {
        let accepted = [reference.to_owned()];
        let (clock, mut n) = (Instant::now(), 0u32);
        while clock.elapsed().as_secs_f64() < 0.5 {
            (0..100).for_each(|_| drop(grade(grader, answer, &accepted)));
            n += 100;
        }
        let per_second = f64::from(n) / clock.elapsed().as_secs_f64();
        println!("{:6}  {per_second:>9.0} verdicts per second  {answer} / {reference}", grader.name());
    }
    for grader in [Grader::Qa, Grader::Choice, Grader::Gaia] {
        for n_bytes in [1 << 18, 1 << 20] {
            let mut slowest = (0.0, "");
            for piece in PIECES {
                let long = piece.repeat(n_bytes / piece.len());
                let clock = Instant::now();
                drop(grade(grader, solution::answer_in(grader, &long), &["C".to_owned()]));
                let secs = clock.elapsed().as_secs_f64();
                if secs > slowest.0 {
                    slowest = (secs, piece);
                }
            }
            let (secs, piece) = slowest;
            println!("{:6}  {n_bytes:>9} bytes: {:.1} ms at most ({piece:?})", grader.name(), 1000.0 * secs);
        }
    }
}
