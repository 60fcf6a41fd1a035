//! Is the letter found however it is written, and never where two are named?

use super::*;

#[test]
fn a_letter_is_found_however_it_is_written() {
    let c = [
        "C",
        "c",
        " C ",
        "(C)",
        "(c)",
        "[C]",
        "C.",
        "c.",
        "C)",
        "c)",
        "C:",
        "**C**",
        "**C.**",
        "`C`",
        "\"C\"",
        "Ｃ",
        "（Ｃ）",
        "Answer: C",
        "answer: c",
        "ANSWER: C",
        "**Answer:** C",
        "Answer: (C)",
        "Answer is C",
        "The answer is C.",
        "The correct answer is C",
        "The correct answer is: **C**",
        "the final answer is (c)",
        "Final Answer: C",
        "option c",
        "Option C",
        "Option C.",
        "option (C)",
        "Choice C",
        "The correct option is C",
        "C is correct",
        "C is the correct answer.",
        "C) 23",
        "C. 23",
        "C: 23",
        "C - 23",
        "(C) 23",
        "(c) 23",
        "C, 23",
        "C\n23",
        "\\text{C}",
        "\\boxed{C}",
        "\\boxed{\\text{C}}",
        "$C$",
        "$\\boxed{\\textbf{(C)}\\ 23}$",
        "\\(C\\)",
        "\\textbf{(C) }23",
        "I choose C",
        "I would go with C.",
        "It's C",
        "I’d say C",
        "That is probably C",
        "I think the answer is C",
        "So the answer is C",
        "答案是C",
        "答案：C",
        "选C",
        "故选C。",
        "正确答案为（C）",
        "C。",
        "C、23",
        "C because 2047 = 23 · 89",
        "Answer: C because A is too small",
        "The answer is C which divides it",
        "C) vitamin D",
        "C. P(X > 2) = 0.3 or so",
        "C) a cat and a dog",
        "C. A cat",
        "C. I do not know",
        "C!",
        "Let me think. 17 and 19 do not divide it. The answer is C.",
        "- C",
        "# C",
        "The answer is C.\n\nI hope this answer helps.",
        "It is well known. Option C fits.",
    ];
    let missed = c.iter().filter(|answer| !(equal(answer, "C") && equal(answer, "(C)") && !equal(answer, "B")));
    let missed: Vec<_> = missed.map(|answer| (answer, letters(answer).map(|l| l.to_string()))).collect();
    assert!(missed.is_empty(), "{missed:?}");
    for answer in [
        "A",
        "a",
        "A.",
        "(a)",
        "Answer: A",
        "the answer is a",
        "A) cat",
        "A is correct",
        "Option A is right",
        "I",
        "选A",
    ] {
        let wanted = if answer == "I" { "I" } else { "A" };
        assert!(equal(answer, wanted), "{answer}");
    }
}

#[test]
fn two_letters_are_never_one() {
    let both = [
        "C or D",
        "C and D",
        "C, D",
        "C/D",
        "C D",
        "CD",
        "(C) or (D)",
        "(C)(D)",
        "C) 23 or D) 24",
        "C. 23\nD. 29",
        "Both C and D",
        "Either C or D",
        "Answer: C or D",
        "The answer is C. The answer is D.",
        "C. D is also right.",
        "C (or D)",
        "C, or D",
        "C\nD",
        "C; D",
        "C & D",
        "C、D",
        "选C或D",
        "C. The answer is D",
        "Answer: C\nAnswer: D",
        "C) 23, or (D)",
        "option C or option D",
        "C/D.",
        "c, d",
        "(c), (d)",
        "C + D",
    ];
    for answer in both {
        assert!(!equal(answer, "C") && !equal(answer, "D"), "{answer}: {:?}", letters(answer));
    }
}

#[test]
fn several_letters_are_a_set() {
    for answer in [
        "A, C",
        "C, A",
        "A and C",
        "(A), (C)",
        "AC",
        "A C",
        "A; C",
        "答案是AC",
        "A、C",
        "Options A and C",
        "**A, C**",
        "a, c",
        "A, and C",
    ] {
        assert!(equal(answer, "A, C"), "{answer}: {:?}", letters(answer));
        assert!(equal(answer, "AC"), "{answer}");
        assert!(!equal(answer, "A") && !equal(answer, "A, B, C"), "{answer}");
    }
}

#[test]
fn what_names_no_letter_names_none() {
    let none = [
        "",
        " ",
        "23",
        "A cat",
        "a cat",
        "I do not know",
        "cat",
        "C++",
        "C#",
        "C?",
        "not C",
        "The answer is not C",
        "C-4 it was",
        "C's",
        "the answer is a cat",
        "CAB",
        "?",
        "()",
        "(",
        "\\",
        "CC",
        "é",
        "Caesar",
        "I am not sure",
    ];
    for answer in none {
        assert_eq!(letters(answer), None, "{answer}");
        assert!(!equal(answer, "C") && !equal(answer, "A") && !equal(answer, "I"), "{answer}");
    }
}

#[test]
fn without_letters_words_are_compared() {
    assert!(equal("All of the above.", "all of the above") && !equal("None", "all of the above"));
    assert!(equal("23", "C. 23") && equal("23", "(C) 23") && !equal("24", "C. 23") && !equal("", "C."));
    assert!(!equal("", "") && !equal("C", ""));
}

#[test]
fn no_text_is_trouble() {
    let parts = ["answer ", "answer: C. ", "C, ", "(", "\\", "答案", "选C", "C or ", "a ", "C\n", "I ", "- "];
    for part in parts {
        let text = part.repeat((1 << 20) / part.len());
        assert!(!equal(&text, "B"), "{part}");
    }
}
