//! Is every layout read that the sets are published in? Made-up rows of each schema, and rows that half fit.

use serde_json::{Value, json};

use super::*;
use crate::data::files::{LeftOut, Taken};
use crate::data::task::Task;

fn read(name: &str, row: &Value) -> Result<Taken, String> {
    task(find(name).unwrap(), row.as_object().unwrap(), 5).map_err(|fault| fault.to_string())
}

#[track_caller]
fn task_of(name: &str, row: Value) -> Task {
    match read(name, &row) {
        Ok(Taken::Task { task, .. }) => task,
        other => panic!("{name}: {other:?}"),
    }
}

/// `id | kind | grader | answers`
fn line(task: &Task) -> String {
    format!("{} | {} | {} | {}", task.id, task.kind, task.grader.name(), task.answers.join(" / "))
}

#[test]
fn every_published_layout_is_read() {
    let q = "What?";
    let table = [
        (
            "aime24",
            json!({"id": 60, "problem": q, "solution": "…", "answer": "025", "url": "u", "year": "2024"}),
            "60 | aime24 | math | 25",
        ),
        (
            "aime24",
            json!({"ID": "2024-I-1", "Problem": q, "Solution": "…", "Answer": 204}),
            "2024-I-1 | aime24 | math | 204",
        ),
        ("aime25", json!({"problem": q, "answer": 70, "id": "0"}), "0 | aime25 | math | 70"),
        ("aime25", json!({"question": q, "answer": "336^\\circ"}), "5 | aime25 | math | 336"),
        ("math500", json!({"question": q, "answer": "p - q"}), "5 | math500 | math | p - q"),
        (
            "math500",
            json!({"problem": q, "solution": "\\boxed{1}", "answer": "2", "subject": "Algebra", "level": 2, "unique_id": "test/a/1.json"}),
            "test/a/1.json | Algebra | math | 2",
        ),
        (
            "math",
            json!({"problem": q, "level": "Level 5", "type": "Geometry", "solution": "so \\boxed{\\frac{1}{2}}"}),
            "5 | Geometry | math | \\frac{1}{2}",
        ),
        ("gsm8k", json!({"question": q, "answer": "1+1=<<1+1=2>>2\n#### 1,002", "idx": 0}), "0 | gsm8k | math | 1002"),
        ("webwalkerqa", json!({"question": q, "answer": "x"}), "5 | webwalkerqa | qa | x"),
        (
            "webwalker",
            json!({"question": q, "answer": "x", "root_url": "u", "info": {"difficulty_level": "hard", "hop": "multi-source"}}),
            "5 | hard | qa | x",
        ),
        ("hotpotqa", json!({"question": q, "answer": ["x"]}), "5 | hotpotqa | qa | x"),
        (
            "hotpotqa",
            json!({"_id": "a1", "question": q, "answer": "yes", "type": "comparison", "level": "hard", "context": []}),
            "a1 | comparison | qa | yes",
        ),
        (
            "2wiki",
            json!({"id": "dev_0", "question": q, "golden_answers": ["x", "y"], "metadata": {}}),
            "dev_0 | 2wikimultihopqa | qa | x / y",
        ),
        (
            "musique",
            json!({"id": "2hop__1", "question": q, "answer": "x", "answer_aliases": ["X", "x"], "answerable": true}),
            "2hop__1 | musique | qa | x / X",
        ),
        ("musique", json!({"question": q, "answer": "x", "answer_aliases": []}), "5 | musique | qa | x"),
        ("bamboogle", json!({"Question": q, "Answer": "x"}), "5 | bamboogle | qa | x"),
        (
            "hle",
            json!({"id": "h", "question": q, "image": "", "answer": "C", "answer_type": "multipleChoice", "category": "Math"}),
            "h | Math | choice | C",
        ),
        (
            "hle",
            json!({"id": "h", "question": q, "answer": "48", "answer_type": "exactMatch", "category": "Math", "has_image": false}),
            "h | Math | math | 48",
        ),
        (
            "hle",
            json!({"id": "h", "question": q, "image": null, "answer": "Grus", "answer_type": "exactMatch", "category": "Other"}),
            "h | Other | qa | Grus",
        ),
        (
            "gaia",
            json!({"id": 1, "task_id": "t", "Question": q, "answer": "10", "Level": 1, "file_name": ""}),
            "t | level 1 | gaia | 10",
        ),
        (
            "gaia",
            json!({"task_id": "t", "Question": q, "Final answer": "a, b", "Level": "2", "file_name": "", "file_path": ""}),
            "t | level 2 | gaia | a, b",
        ),
        ("simpleqa", json!({"metadata": "{'topic': 'Art'}", "problem": q, "answer": "x"}), "5 | simpleqa | qa | x"),
        ("simpleqa", json!({"question": q, "answer": ["x"]}), "5 | simpleqa | qa | x"),
        ("xbench", json!({"question": q, "answer": ["161.27元"]}), "5 | xbench-deepsearch | qa | 161.27元"),
        (
            "xbench",
            json!({"id": 9, "prompt": q, "answer": "abcd", "canary": "key"}),
            "9 | xbench-deepsearch | qa | abcd",
        ),
        (
            "frames",
            json!({"": "0", "Prompt": q, "Answer": "x", "reasoning_types": "Tabular reasoning"}),
            "0 | Tabular reasoning | qa | x",
        ),
    ];
    for (name, row, expected) in table {
        let task = task_of(name, row.clone());
        assert_eq!((line(&task).as_str(), task.question.as_str()), (expected, q), "{row}");
    }
    // Encrypted with the key "key" by Python's base64, as in `cipher`.
    let secret = json!({"id": 1, "prompt": "jsHjjtXohNnmX1c=", "answer": "jsHjjtXohNnmX1c=", "canary": "key"});
    let task = task_of("xbench", secret.clone());
    assert_eq!((task.question.as_str(), &task.answers[..]), ("多少？42", &["多少？42".to_owned()][..]));
    let mut half = secret;
    half["answer"] = json!("161.27元");
    assert_eq!(read("xbench", &half), Err("key answer: not encrypted like the row's question".to_owned()));
}

#[test]
fn what_text_cannot_answer_is_left_out() {
    let rows = [
        (
            "gaia",
            json!({"task_id": "t", "Question": "?", "Final answer": "1", "Level": 1, "file_name": "a.xlsx"}),
            "file_name",
        ),
        (
            "hle",
            json!({"id": "h", "question": "?", "image": "data:image/png;base64,…", "answer": "1", "answer_type": "exactMatch"}),
            "image",
        ),
        (
            "hle",
            json!({"id": "h", "question": "?", "has_image": true, "answer": "1", "answer_type": "exactMatch"}),
            "has_image",
        ),
    ];
    for (name, row, key) in rows {
        assert_eq!(read(name, &row), Ok(Taken::LeftOut(LeftOut::Attachment { key: key.to_owned() })), "{row}");
    }
}

#[test]
fn a_row_that_half_fits_is_a_fault_of_a_field() {
    let q = "What?";
    let table = [
        ("gsm8k", json!({"question": q}), "key answers: missing, and so are answer, golden_answers, Answer"),
        (
            "gsm8k",
            json!({"answer": "#### 1"}),
            "key question: missing, and so are Question, problem, Problem, prompt, Prompt",
        ),
        ("gsm8k", json!({"question": q, "answer": "eighteen"}), "key answer: does not end with #### and a number"),
        (
            "gsm8k",
            json!({"question": 7.5, "answer": null}),
            "key answers: missing, and so are answer, golden_answers, Answer",
        ),
        ("gsm8k", json!({"question": "\u{8}", "answer": "#### 1"}), "key question: blank"),
        ("aime24", json!({"problem": q, "answer": "1/2"}), "key answer: no whole number from 0 to 999"),
        ("math", json!({"problem": q, "solution": "it is 5"}), "key solution: a solution without \\boxed{…}"),
        ("hotpotqa", json!({"question": q, "answer": []}), "key answer: an empty list"),
        ("hotpotqa", json!({"question": q, "answer": ["x", ""]}), "key answer[1]: blank"),
        ("hotpotqa", json!({"question": [q], "answer": "x"}), "key question: neither text nor a number"),
        (
            "gaia",
            json!({"task_id": "t", "Question": q, "Final answer": "?"}),
            "key Final answer: \"?\": this is a test split whose answers are not published",
        ),
        ("hle", json!({"question": q, "answer": "x"}), "key answer_type: missing"),
        (
            "hle",
            json!({"question": q, "answer": "x", "answer_type": "essay"}),
            "key answer_type: \"essay\" is neither \"exactMatch\" nor \"multipleChoice\"",
        ),
    ];
    for (name, row, expected) in table {
        assert_eq!(read(name, &row), Err(expected.to_owned()), "{row}");
    }
}

#[test]
fn names_are_found_however_they_are_written_and_none_is_ambiguous() {
    for name in ["gsm8k", "GSM8K", "2wiki", "2WikiMultihopQA", "webwalker", "SimpleQA", "xbench", "math-500"] {
        assert!(find(name).is_some(), "{name}");
    }
    for (file, name) in [
        ("gaia.sample.jsonl", "gaia"),
        ("2wiki.jsonl", "2wikimultihopqa"),
        ("simple_qa_test.csv", "simpleqa"),
        ("aime24.jsonl", "aime24"),
    ] {
        assert_eq!(find_by_file(file).map(|b| b.name), Some(name), "{file}");
    }
    for name in ["", "mathematics", "test", "train.parquet"] {
        assert!(find(name).is_none() && find_by_file(name).is_none(), "{name}");
    }
    let mut names: Vec<String> =
        BENCHMARKS.iter().flat_map(|b| std::iter::once(&b.name).chain(b.aliases)).map(|n| folded(n)).collect();
    let n = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), n, "two benchmarks share a name, or an alias says the same twice");
}

#[test]
fn groups_are_those_of_the_papers() {
    let names = |group: Group| group.benchmarks().map(|b| b.name).collect::<Vec<_>>().join(" ");
    assert_eq!(names(Group::Math), "aime24 aime25 math500 gsm8k math");
    assert_eq!(names(Group::Knowledge), "webwalkerqa hotpotqa 2wikimultihopqa musique bamboogle");
    assert_eq!(names(Group::DeepSearch), "webwalkerqa hle gaia simpleqa xbench-deepsearch frames");
    let f1: Vec<&str> = BENCHMARKS.iter().filter(|b| b.metric == Metric::F1).map(|b| b.name).collect();
    assert_eq!(f1, ["hotpotqa", "2wikimultihopqa", "musique", "bamboogle"]);
}
