//! Do `aepo data` and a recipe's files of questions do what they say?

use std::path::Path;
use std::process::Command;

use expect_test::expect;
use serde_json::Value;

use crate::support::{place, stderr};

/// What a command prints, and its exit code.
fn run(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_aepo")).args(args).current_dir(dir).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    format!("$ aepo {}\n{text}[{}]\n", args.join(" "), output.status.code().unwrap())
}

const GSM8K: &str = r#"{"question": "Janet has 16 eggs and eats 3. How many of them are left for her friends?", "answer": "16-3=13\n#### 13", "idx": 0}
{"question": "A robe takes 2 bolts. How many do 500 robes take?", "answer": "2*500\n#### 1,000", "idx": 1}
"#;

const TRAIN: &str = "id,prompt,answer,level\n\
a,\"Sum: $\x0crac12 + \\dfrac{1}{2}$\",1,easy\n\
b,\"Janet has 16 eggs, and eats 3; how many of them are left for her friends?\",13,easy\n\
c,\"sum: \\( \\frac12+\\frac{1}{2} \\)\",2,hard\n\
d,What?,,hard\n\
e,short\n";

#[test]
fn benchmarks_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["data", "list"]);
    assert!(said.starts_with("$ aepo data list\nname               group                  grader  metric"), "{said}");
    let rows = [
        "gsm8k              math                   math    accuracy  python                  1319   1319  openai/gsm8k",
        "hle                deepsearch             by row  judge     python, search, visit   2158    500  cais/hle",
    ];
    assert!(rows.iter().all(|row| said.contains(row)), "{said}");
    let json = run(folder.path(), &["data", "list", "--json"]);
    let objects = json.lines().filter(|line| line.starts_with('{'));
    let objects: Vec<Value> = objects.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((objects.len(), &objects[3]["name"], &objects[3]["n_rows"]), (15, &"gsm8k".into(), &1319.into()));
    // The document shows the same table.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = std::fs::read_to_string(root.join("docs/benchmarks.md")).unwrap();
    for b in &objects {
        let words = |key: &str| {
            let words = b[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
            words.collect::<Vec<_>>().join(", ")
        };
        let text = |key: &str| b[key].as_str().unwrap();
        let n_paper = b["n_paper"].as_u64().map_or("?".to_owned(), |n| n.to_string());
        let (groups, tools, n_rows) = (words("groups"), words("tools"), &b["n_rows"]);
        let (name, grader, metric, hub) = (text("name"), text("grader"), text("metric"), text("hub"));
        let row = format!("| {name} | {groups} | {grader} | {metric} | {tools} | {n_rows} | {n_paper} | {hub} |");
        assert!(document.contains(&row), "{row}");
        assert!(root.join(text("recipe")).is_file(), "{b}");
    }
}

#[test]
fn files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("gsm8k.sample.jsonl"), GSM8K).unwrap();
    std::fs::write(dir.join("train.csv"), TRAIN).unwrap();
    std::fs::write(dir.join("empty.jsonl"), "\n").unwrap();
    std::fs::write(dir.join("bad.jsonl"), "{\"question\": 1\n").unwrap();
    std::fs::write(dir.join("cut.parquet"), "PAR1").unwrap();
    let fields = ["--question", "prompt", "--answers", "answer", "--id", "id", "--kind", "level", "--grader", "math"];
    let mut session = run(dir, &["data", "check", "gsm8k.sample.jsonl"]);
    session += &run(dir, &[&["data", "check", "train.csv", "--against", "gsm8k.sample.jsonl"], &fields[..]].concat());
    let json =
        run(dir, &[&["data", "check", "train.csv", "--against", "gsm8k.sample.jsonl", "--json"], &fields[..]].concat());
    let object: Value = serde_json::from_str(json.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    session += &format!("{}\n", serde_json::to_string_pretty(&object).unwrap());
    for args in [
        &["data", "check", "train.csv"][..],
        &["data", "check", "train.csv", "--benchmark", "gsm9k"],
        &["data", "check", "train.csv", "--question", "prompt", "--answers", "answer"],
        &["data", "check", "train.csv", "--grader", "f1"],
        &["data", "check", "empty.jsonl"],
        &["data", "check", "bad.jsonl"],
        &["data", "check", "cut.parquet"],
        &["data", "check", "absent.jsonl"],
    ] {
        session += &run(dir, args);
    }
    expect![[r#"
        $ aepo data check gsm8k.sample.jsonl
        gsm8k.sample.jsonl: 2 questions of 2 rows, laid out as GSM8K

        field     rows  empty    type
        question     2      0    text
        answer       2      0    text
        idx          2      0  number

        graders: math 2
        not the whole set: GSM8K has 1319 rows
        nothing is wrong
        [0]
        $ aepo data check train.csv --against gsm8k.sample.jsonl --question prompt --answers answer --id id --kind level --grader math
        train.csv: 3 questions of 5 rows, by the fields that were named

        field   rows  empty  type
        id         4      0  text
        prompt     4      0  text
        answer     4      1  text
        level      4      0  text

        graders: math 3
        rows repaired: 1 of 5 (commands that got their backslash back, where a control character stood as in \x08oxed: 1)

        rows that are no questions: 2
          row 4: key answer: missing
          row 5: 2 fields, where the first line names 4

        questions that are there more than once: 1
          row 1, row 3, with other answers: "Sum: $\frac12 + \dfrac{1}{2}$"

        questions of gsm8k.sample.jsonl (2 rows): 1
          row 2 is line 1: "Janet has 16 eggs, and eats 3; how many of them are left for her frien…"
        error: train.csv: 2 rows that are no questions, 1 question again, 1 question of another file
        [1]
        {
          "file": "train.csv",
          "layout": "fields",
          "n_rows": 5,
          "n_questions": 3,
          "graders": {
            "math": 3
          },
          "fields": [
            {
              "name": "id",
              "n_rows": 4,
              "n_empty": 0,
              "types": {
                "text": 4
              }
            },
            {
              "name": "prompt",
              "n_rows": 4,
              "n_empty": 0,
              "types": {
                "text": 4
              }
            },
            {
              "name": "answer",
              "n_rows": 4,
              "n_empty": 1,
              "types": {
                "null": 1,
                "text": 3
              }
            },
            {
              "name": "level",
              "n_rows": 4,
              "n_empty": 0,
              "types": {
                "text": 4
              }
            }
          ],
          "repaired": {
            "n_rows": 1,
            "n_commands": 1,
            "n_removed": 0
          },
          "left_out": [],
          "n_no_questions": 2,
          "no_questions": [
            {
              "row": 4,
              "why": "key answer: missing"
            },
            {
              "row": 5,
              "why": "2 fields, where the first line names 4"
            }
          ],
          "n_again": 1,
          "again": [
            {
              "rows": [
                1,
                3
              ],
              "answers_differ": true
            }
          ],
          "n_not_right": 0,
          "not_right": [],
          "against": [
            {
              "file": "gsm8k.sample.jsonl",
              "n_rows": 2,
              "n_found": 1,
              "found": [
                {
                  "row": 2,
                  "how": "is",
                  "other_row": 1
                }
              ]
            }
          ],
          "wrong": [
            "2 rows that are no questions",
            "1 question again",
            "1 question of another file"
          ]
        }
        $ aepo data check train.csv
        error: train.csv: no known layout has the fields "id", "prompt", "answer", "level"; name a benchmark whose layout it has, or the fields of question and answer
        [1]
        $ aepo data check train.csv --benchmark gsm9k
        error: --benchmark gsm9k: there is no such benchmark
        hint: known are aime24, aime25, math500, gsm8k, math, webwalkerqa, hotpotqa, 2wikimultihopqa, musique, bamboogle, hle, gaia, simpleqa, xbench-deepsearch, frames
        [2]
        $ aepo data check train.csv --question prompt --answers answer
        error: --question needs to know how answers are compared
        hint: --grader math, qa, choice or gaia for all rows, or --grader-field FIELD
        [2]
        $ aepo data check train.csv --grader f1
        error: --grader "f1" is none of "math", "qa", "choice" and "gaia"
        [2]
        $ aepo data check empty.jsonl
        empty.jsonl: no row could be read
        error: empty.jsonl: no question
        [1]
        $ aepo data check bad.jsonl
        bad.jsonl: no row could be read

        rows that are no questions: 1
          line 1: not JSON (EOF while parsing an object at line 1 column 14)
        error: bad.jsonl: no question, 1 row that is no question
        [1]
        $ aepo data check cut.parquet
        error: cut.parquet, row 1: cannot be read as Parquet: EOF: Parquet file too small. Size is 4 but need 8
        [1]
        $ aepo data check absent.jsonl
        error: opening absent.jsonl: No such file or directory (os error 2)
        [1]
    "#]].assert_eq(&session);
}

#[test]
fn files_are_converted_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("gsm8k.sample.jsonl"), GSM8K).unwrap();
    std::fs::write(dir.join("train.csv"), TRAIN).unwrap();
    let fields = ["--question", "prompt", "--answers", "answer", "--grader", "math"];
    let mut session = run(dir, &["data", "convert", "gsm8k.sample.jsonl", "--out", "out.jsonl"]);
    session += &std::fs::read_to_string(dir.join("out.jsonl")).unwrap();
    session += &run(dir, &["data", "convert", "gsm8k.sample.jsonl", "--out", "out.jsonl"]);
    session += &run(dir, &["data", "convert", "gsm8k.sample.jsonl", "--out", "out.csv"]);
    session += &run(dir, &[&["data", "convert", "train.csv", "--out", "never.jsonl"], &fields[..]].concat());
    session += &run(dir, &["data", "convert", "out.jsonl", "--out", "absent/out.jsonl"]);
    session += &run(dir, &["data", "check", "out.jsonl", "--against", "gsm8k.sample.jsonl"]);
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["gsm8k.sample.jsonl", "out.jsonl", "train.csv"], "nothing else is left behind");
    expect![[r#"
        $ aepo data convert gsm8k.sample.jsonl --out out.jsonl
        out.jsonl: 2 questions of 2 rows (gsm8k)
        [0]
        {"id":"0","kind":"gsm8k","question":"Janet has 16 eggs and eats 3. How many of them are left for her friends?","answers":["13"],"grader":"math"}
        {"id":"1","kind":"gsm8k","question":"A robe takes 2 bolts. How many do 500 robes take?","answers":["1000"],"grader":"math"}
        $ aepo data convert gsm8k.sample.jsonl --out out.jsonl
        error: out.jsonl is there already
        hint: remove it, or choose another --out
        [2]
        $ aepo data convert gsm8k.sample.jsonl --out out.csv
        error: --out out.csv: JSON lines are written; end the name in .jsonl
        [2]
        $ aepo data convert train.csv --out never.jsonl --question prompt --answers answer --grader math
        error: train.csv, row 4, key answer: missing
        [1]
        $ aepo data convert out.jsonl --out absent/out.jsonl
        error: --out absent/out.jsonl: absent is no directory
        [2]
        $ aepo data check out.jsonl --against gsm8k.sample.jsonl
        out.jsonl: 2 questions of 2 rows, in our own layout

        field     rows  empty  type
        id           2      0  text
        kind         2      0  text
        question     2      0  text
        answers      2      0  list
        grader       2      0  text

        graders: math 2

        questions of gsm8k.sample.jsonl (2 rows): 2
          line 1 is line 1: "Janet has 16 eggs and eats 3. How many of them are left for her friend…"
          line 2 is line 2: "A robe takes 2 bolts. How many do 500 robes take?"
        error: out.jsonl: 2 questions of other files
        [1]
    "#]].assert_eq(&session);
}

/// A CSV file trains the tiny model, and a benchmark's layout measures it.
#[test]
fn a_recipe_trains_on_files_of_any_layout() {
    let place = place();
    let questions: String = (1..=24).map(|i| format!("\"What is {i} + {i}?\",{}\n", 2 * i)).collect();
    std::fs::write(place.path("sums.csv"), format!("q,a\n{questions}")).unwrap();
    std::fs::write(place.path("gsm8k.sample.jsonl"), GSM8K).unwrap();
    let sets = [
        "tasks.source=sums.csv",
        "tasks.fields.question=q",
        "tasks.fields.answers=a",
        "tasks.grader=math",
        "tasks.eval_file=gsm8k.sample.jsonl",
        "tasks.eval_layout=gsm8k",
        "train.steps=1",
        "train.warmup_steps=0",
    ];
    let mut args = vec!["train", "tiny.toml", "--out", "files", "--json"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let output = place.run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let config = std::fs::read_to_string(place.path("files/config.toml")).unwrap();
    for line in ["eval_layout = \"gsm8k\"", "[tasks.fields]\nquestion = \"q\"\nanswers = \"a\"\n"] {
        assert!(config.contains(line), "{config}");
    }
    let output = place.run(&["eval", "files", "--json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let report =
        said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line["event"] == "eval");
    let report = report.unwrap();
    assert_eq!(report["n_questions"], 2, "{report}");
    assert!(report["kinds"]["gsm8k"].is_object(), "{report}");
}
