//! Does `aepo score` grade rows in their order, name the line and key of a bad one, and ask a judge once per case?

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::api_server::{Reply, Server};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aepo"));
    command.arg("score").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE", "AEPO_BENCHMARKS"] {
        command.env_remove(name);
    }
    command
}

/// Runs `aepo score …` on an input; what it printed and its exit code.
fn run_in(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = command(args).current_dir(dir).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that refuses its arguments does not read; one that answers must not wait for the end of its input.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("{}[{}]\n", String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

fn run(args: &str, input: &str) -> String {
    let args: Vec<&str> = args.split_whitespace().collect();
    run_in(Path::new(env!("CARGO_TARGET_TMPDIR")), &args, input.as_bytes())
}

#[track_caller]
fn check(args: &str, input: &str, expected: Expect) {
    expected.assert_eq(&run(args, input));
}

/// An empty folder of this test.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("score").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

const ROWS: &str = r#"{"id": "a", "prediction": "So it is \\boxed{\\frac{1}{2}}.", "answer": "0.5"}

{"id": 2, "prediction": 15, "answer": ["1.5", 3]}
{"predictions": ["7", "<think>8</think> 7.0", null], "answer": 7, "model": "m"}
"#;

#[test]
fn rows_are_graded_in_their_order() {
    check(
        "--grader math --json",
        ROWS,
        expect![[r#"
            {"id":"a","score":1.0,"exact":true,"why":"equal as values: 0.5","taken":"\\frac{1}{2}"}
            {"id":2,"score":0.0,"exact":false,"why":"15 is not 1.5 or 1 more: other values"}
            {"score":0.6666666666666666,"exact":0.6666666666666666,"why":"the mean of 3 predictions","predictions":[{"score":1.0,"exact":true,"why":"the same text: 7"},{"score":1.0,"exact":true,"why":"equal as values: 7","taken":"7.0"},{"score":0.0,"exact":false,"why":"an empty answer is not 7: one of them is empty"}]}
            {"summary":{"grader":"math","n":3,"n_predictions":5,"score":0.5555555555555555,"exact":0.5555555555555555}}
            [0]
        "#]],
    );
    check(
        "--grader math",
        ROWS,
        expect![[r#"
            score  row
             1.00  a: equal as values: 0.5
             0.00  2: 15 is not 1.5 or 1 more: other values
             0.67  4: the mean of 3 predictions

            math
            rows                                 3
            predictions                          5
            mean score                      55.6 %
            the same as an accepted answer  55.6 %
            [0]
        "#]],
    );
}

#[test]
fn every_grader_can_be_asked_for() {
    check(
        "--grader qa --json",
        r#"{"prediction": "22 Oct 1930", "answer": "1930-10-22"}
           {"prediction": "Algerian dinars", "answer": ["dinar", "the dinars"]}
           {"prediction": "1.5", "answer": "15"}"#,
        expect![[r#"
            {"score":1.0,"exact":true,"why":"the same date: 1930-10-22","f1":0.0,"em":false}
            {"score":0.6666666666666666,"exact":false,"why":"token F1 0.67 with the dinars","f1":0.6666666666666666,"em":false}
            {"score":1.0,"exact":false,"why":"token F1 1.00 with 15","f1":1.0,"em":true}
            {"summary":{"grader":"qa","n":3,"n_predictions":3,"score":0.8888888888888888,"exact":0.3333333333333333,"f1":0.5555555555555555,"em":0.3333333333333333}}
            [0]
        "#]],
    );
    check(
        "--grader choice --json",
        r#"{"prediction": "The answer is (C).", "answer": "C"}
           {"prediction": "C or D", "answer": "C"}"#,
        expect![[r#"
            {"score":1.0,"exact":true,"why":"the same choice as C"}
            {"score":0.0,"exact":false,"why":"C or D is not C"}
            {"summary":{"grader":"choice","n":2,"n_predictions":2,"score":0.5,"exact":0.5}}
            [0]
        "#]],
    );
    check(
        "--grader gaia --json",
        r#"{"prediction": "FINAL ANSWER: ahr,lahn, Moselle", "answer": "Ahr, Lahn, Moselle"}
           {"prediction": "$10.50", "answer": 10.5}"#,
        expect![[r#"
            {"score":1.0,"exact":true,"why":"the same answer by GAIA's rule as Ahr, Lahn, Moselle","taken":"ahr,lahn, Moselle"}
            {"score":1.0,"exact":true,"why":"the same answer by GAIA's rule as 10.5"}
            {"summary":{"grader":"gaia","n":2,"n_predictions":2,"score":1.0,"exact":1.0}}
            [0]
        "#]],
    );
    check(
        "--grader qa --json",
        "",
        expect![[r#"
            {"summary":{"grader":"qa","n":0,"n_predictions":0,"score":null,"exact":null}}
            [0]
        "#]],
    );
}

#[test]
fn a_bad_row_is_named_by_line_and_key_after_what_came_before_it() {
    let good = r#"{"prediction": "1", "answer": "1"}"#;
    for (bad, message) in [
        ("{", "not JSON (EOF while parsing an object at line 1 column 1)"),
        ("[1]", "not a JSON object"),
        ("\u{0}", "not JSON (expected value at line 1 column 1)"),
        (r#"{"answer": "1"}"#, "`prediction` is missing (or `predictions`, a list)"),
        (r#"{"prediction": "1"}"#, "`answer` is missing"),
        (r#"{"prediction": "1", "answer": null}"#, "`answer` is missing"),
        (r#"{"prediction": "1", "answer": []}"#, "`answer` is an empty list"),
        (r#"{"prediction": "1", "answer": [["1"]]}"#, "`answer`: a list is neither a text nor a number"),
        (r#"{"prediction": true, "answer": "1"}"#, "`prediction`: true or false is neither a text nor a number"),
        (r#"{"predictions": [], "answer": "1"}"#, "`predictions` is empty"),
        (r#"{"predictions": "1", "answer": "1"}"#, "`predictions`: a text is no list"),
        (r#"{"predictions": ["1", {}], "answer": "1"}"#, "`predictions[1]`: an object is neither a text nor a number"),
        (r#"{"prediction": "1", "predictions": ["1"], "answer": "1"}"#, "has both `prediction` and `predictions`"),
        (r#"{"id": [1], "prediction": "1", "answer": "1"}"#, "`id`: a list is neither a text nor a number"),
        (r#"{"question": 1, "prediction": "1", "answer": "1"}"#, "`question`: a number is no text"),
    ] {
        let told = run("--grader math --json", &format!("{good}\n\n{bad}\n{good}\n"));
        let first = r#"{"score":1.0,"exact":true,"why":"the same text: 1"}"#;
        assert_eq!(told, format!("{first}\nerror: line 3: {message}\n[2]\n"), "{bad}");
    }
    let dir = folder("hostile");
    let told = run_in(&dir, &["--grader", "qa", "--json"], b"{\"prediction\": \"\xff\", \"answer\": \"1\"}");
    assert!(told.starts_with("error: line 1: not JSON (") && told.ends_with("[2]\n"), "{told}");
    let long = format!("{good}\n{}\n", " ".repeat((16 << 20) + 1));
    let told = run("--grader math --json", &long);
    assert!(told.ends_with("error: line 2: longer than 16777216 bytes\n[2]\n"), "{told}");
    let deep = format!("{{\"prediction\": {}", "[".repeat(100_000));
    assert!(run("--grader math --json", &deep).contains("error: line 1: not JSON (recursion limit exceeded"));
}

#[test]
fn a_row_is_answered_before_the_next_is_read() {
    let mut child = command(&["--grader", "qa", "--json"]).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(stdout).lines();
    for i in 0..3 {
        writeln!(stdin, "{}", json!({ "id": i, "prediction": "x", "answer": "x" })).unwrap();
        let row: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&row["id"], &row["score"]), (&json!(i), &json!(1.0)));
    }
    drop(stdin);
    assert!(lines.next().unwrap().unwrap().starts_with("{\"summary\""));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_benchmark_lends_its_answers() {
    let dir = folder("benchmark");
    std::fs::create_dir(dir.join("benchmarks")).unwrap();
    let rows = [
        json!({ "question": "How many eggs?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5" }),
        json!({ "question": "How many\nhens?", "answer": "#### 1,018" }),
        json!({ "question": "How many foxes?", "answer": "#### 0" }),
    ];
    let file: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(dir.join("benchmarks/gsm8k.jsonl"), file).unwrap();
    let predictions = r#"{"question": "How many hens?", "prediction": "… so the answer is 1018."}
{"id": 1, "prediction": "\\boxed{5}"}
{"question": "How many owls?", "prediction": "4", "answer": "4"}
"#;
    let graded = run_in(&dir, &["--benchmark", "GSM8K", "--json"], predictions.as_bytes());
    expect![[r#"
        {"score":1.0,"exact":true,"why":"the same text: 1018","taken":"1018"}
        {"id":1,"score":1.0,"exact":true,"why":"the same text: 5","taken":"5"}
        {"score":1.0,"exact":true,"why":"the same text: 4"}
        {"summary":{"grader":"math","benchmark":"gsm8k","n":3,"n_predictions":3,"score":1.0,"exact":1.0,"n_questions":3,"n_questions_answered":2}}
        [0]
    "#]]
    .assert_eq(&graded);
    let told = run_in(&dir, &["--benchmark", "gsm8k"], predictions.as_bytes());
    assert!(told.contains("\nOnly 2 of the file's 3 questions have a prediction.\n"), "{told}");

    let wrong = |args: &[&str], row: &str| run_in(&dir, args, row.as_bytes());
    let of_gsm8k = ["--benchmark", "gsm8k", "--json"];
    for (args, row, message) in [
        (&of_gsm8k[..], r#"{"id": 9, "prediction": "1"}"#, "error: line 1: `id`: gsm8k has no question \"9\"\n"),
        (
            &of_gsm8k,
            r#"{"question": "x", "prediction": "1"}"#,
            "error: line 1: `question`: gsm8k has no such question\n",
        ),
        (&of_gsm8k, r#"{"prediction": "1"}"#, "error: line 1: has neither `id` nor `question`, nor an `answer`\n"),
        (
            &["--benchmark", "aime24"],
            r#"{"id": 9, "prediction": "1"}"#,
            "score  row\nerror: line 1: `answer` is missing, and no file of aime24 was found; name it with --data\n",
        ),
        (
            &["--benchmark", "aime24", "--data", "benchmarks"],
            "",
            "error: benchmarks holds no file of aime24\nhint: a name such as aime24.jsonl, or --data FILE\n",
        ),
        (&["--benchmark", "gsm8k", "--data", "none.jsonl"], "", "none.jsonl"),
        (&["--benchmark", "gsm9k"], "", "error: --benchmark: there is no benchmark `gsm9k`\nhint: one of aime24, "),
        (&["--benchmark", "gsm8k", "--grader", "qa"], "", "cannot be used with"),
        (&[], "", "--grader"),
        (&["--grader", "qa", "--judge", "http://x"], "", "--judge-model"),
        (&["--grader", "qa", "--judge-jobs", "2"], "", "--judge"),
    ] {
        let told = wrong(args, row);
        assert!(told.contains(message) && !told.ends_with("[0]\n"), "{args:?}: {told}");
    }
}

#[test]
fn a_judge_decides_and_its_disagreement_is_counted() {
    let says = |verdict: &str, reason: &str| {
        let content = json!({ "verdict": verdict, "reason": reason }).to_string();
        let choice = json!({ "message": { "content": content }, "finish_reason": "stop" });
        Reply::json(&json!({ "choices": [choice] }).to_string())
    };
    let unclear = Reply::json(r#"{"choices": [{"message": {"content": "Maybe."}}]}"#);
    let server = Server::start(&[
        says("correct", "the same city"),
        says("correct", "a nickname"),
        says("incorrect", "another city"),
        unclear.clone(),
        unclear,
    ]);
    let dir = folder("judge");
    let rows = r#"{"id": 1, "question": "Capital?", "prediction": "Paris", "answer": "Paris"}
{"id": 2, "question": "Capital?", "prediction": "City of Light", "answer": "Paris"}
{"id": 3, "question": "Capital?", "prediction": "Lyon", "answer": "Paris"}
{"id": 4, "question": "Capital?", "prediction": "It depends", "answer": "Paris"}
"#;
    let url = format!("{}/v1", server.address);
    let args = ["--grader", "qa", "--judge", &url, "--judge-model", "j", "--judge-jobs", "1"];
    let with_json = [&args[..], &["--json"]].concat();
    let told = run_in(&dir, &with_json, rows.as_bytes());
    expect![[r#"
        {"id":1,"score":1.0,"exact":true,"why":"the same city","judge":{"verdict":"correct","cached":false},"grader":{"score":1.0,"why":"the same words: Paris"},"f1":1.0,"em":true}
        {"id":2,"score":1.0,"exact":false,"why":"a nickname","judge":{"verdict":"correct","cached":false},"grader":{"score":0.0,"why":"City of Light has nothing in common with Paris"},"f1":0.0,"em":false}
        {"id":3,"score":0.0,"exact":false,"why":"another city","judge":{"verdict":"incorrect","cached":false},"grader":{"score":0.0,"why":"Lyon has nothing in common with Paris"},"f1":0.0,"em":false}
        {"id":4,"score":null,"exact":false,"why":"the judge's reply holds no verdict, twice: Maybe.","judge":{"verdict":null,"cached":false},"grader":{"score":0.0,"why":"It depends has nothing in common with Paris"},"f1":0.0,"em":false}
        {"summary":{"grader":"qa","n":4,"n_predictions":4,"score":0.6666666666666666,"exact":0.25,"f1":0.25,"em":0.25,"grader_score":0.25,"n_without_verdict":1,"judge":{"model":"j","counts":{"judged":3,"cached":0,"failed":1,"asked_again":1},"agreement":{"both_right":1,"judge_only":1,"grader_only":0,"both_wrong":1}}}}
        [0]
    "#]]
    .assert_eq(&told);
    assert_eq!(server.log().len(), 5);
    // What was decided is not asked for again; what was not, is.
    let told = run_in(&dir, &args, rows.as_bytes());
    expect![[r#"
        score  row
         1.00  1: judge: the same city
         1.00  2: judge: a nickname
         0.00  3: judge: another city
            –  4: no verdict: the judge's reply holds no verdict, twice: Maybe.

        qa
        rows                                 4
        right, says j                   66.7 %
        mean score by qa                25.0 %
        the same as an accepted answer  25.0 %
        token F1                        25.0 %
        exact match                     25.0 %

        qa beside the judge  correct  incorrect
          calls the same           1          0
          calls different          1          1

        verdicts given: 0, known from before: 3, missing: 1; replies asked for again: 1
        [0]
    "#]]
    .assert_eq(&told);
    assert_eq!(server.log().len(), 2);
    // A key that is not there is said before anything is read.
    let told = run_in(&dir, &[&args[..], &["--judge-key-env", "AEPO_TEST_NO_KEY"]].concat(), rows.as_bytes());
    let message = "error: environment variable AEPO_TEST_NO_KEY: is not set; put the key into it\n[1]\n";
    assert_eq!(told, message);
}
