//! Does an evaluation on benchmarks lose nothing and ask nothing twice, whatever ends it? Real commands against a server
//! that counts what it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::served::{Fault, Served};
use crate::support::{Place, place, signal, stderr};

/// Questions of a set: id, question, reference.
type Questions = Vec<(String, String, String)>;

/// A folder of its own.
struct Folder {
    dir: PathBuf,
}

impl Folder {
    fn new(name: &str) -> Folder {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("benchmarks-{name}"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Folder { dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        Place { dir: self.dir.clone() }.command(args)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "aepo {}: {}", args.join(" "), stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The lines of `answers.jsonl` that are whole.
    fn answers(&self, out: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.join(out).join("answers.jsonl")).unwrap_or_default();
        text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn summary(&self, out: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.dir.join(out).join("summary.json")).unwrap()).unwrap()
    }
}

/// A server that boxes the reference, or for some questions something else; each of its answers takes `millis`.
fn solver(questions: &Questions, is_right: fn(&str) -> bool, millis: u64) -> Served {
    let known: BTreeMap<String, (String, String)> =
        questions.iter().map(|(id, q, a)| (q.clone(), (id.clone(), a.clone()))).collect();
    let say = move |messages: &[String]| {
        let (id, answer) = &known[messages.last().unwrap()];
        let answer = if is_right(id) { answer.clone() } else { "-12345".to_owned() };
        format!("<think>I know this one.</think><answer>\\boxed{{{answer}}}</answer>")
    };
    Served::start(true, Arc::new(say), Arc::new(move |_| Fault::Late(Duration::from_millis(millis))))
}

/// Made-up sums as our own tasks.
fn sums(folder: &Folder, name: &str, n: usize) -> Questions {
    let mut text = String::new();
    let mut questions = Vec::new();
    for i in 0..n {
        let (id, question, answer) = (format!("s{i}"), format!("What is {i} + {i}?"), (2 * i).to_string());
        let kind = if i % 2 == 0 { "even" } else { "odd" };
        let task =
            serde_json::json!({"id": id, "kind": kind, "question": question, "answers": [answer], "grader": "math"});
        text += &format!("{task}\n");
        questions.push((id, question, answer));
    }
    std::fs::write(folder.dir.join(name), text).unwrap();
    questions
}

/// The data of benchmarks beside the repository; `None` where there is none.
fn shared(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = std::env::var_os("AEPO_SHARED_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    Some(data.join("benchmarks").join(name)).filter(|path| path.is_file())
}

/// Which questions of requests were asked how often, and by which bodies.
fn by_question(served: &Served) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (body, n) in served.asked() {
        let body: Value = serde_json::from_str(&body).unwrap();
        *counts.entry(body["messages"][1]["content"].as_str().unwrap().to_owned()).or_insert(0) += n;
    }
    counts
}

#[test]
fn all_of_gsm8k_is_killed_twice_and_nothing_is_lost_or_asked_twice() {
    let Some(file) = shared("gsm8k.jsonl") else {
        println!("skipped: there is no gsm8k.jsonl beside the repository");
        return;
    };
    let questions: Questions = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .enumerate()
        .map(|(i, line)| {
            let row: Value = serde_json::from_str(line).unwrap();
            let answer = row["answer"].as_str().unwrap();
            let answer = answer.rsplit_once("####").map_or(answer, |(_, a)| a).trim().replace(',', "");
            let id = row.get("idx").or(row.get("id")).map_or_else(|| (i + 1).to_string(), Value::to_string);
            (id, row["question"].as_str().unwrap().to_owned(), answer)
        })
        .collect();
    assert_eq!(questions.len(), 1319);
    let folder = Folder::new("gsm8k");
    let served = solver(&questions, |id| !id.ends_with('7'), 5);
    const JOBS: usize = 8;
    let jobs = JOBS.to_string();
    let args = [
        "eval",
        "--server",
        &served.url,
        "--model",
        "m",
        "--benchmark",
        "gsm8k",
        "--data",
        file.to_str().unwrap(),
        "--out",
        "run",
        "--jobs",
        &jobs,
        "--quiet",
    ];
    let resumed = [&args[..], &["--resume"]].concat();
    let mut written: Vec<(BTreeSet<String>, BTreeMap<String, u64>)> = Vec::new();
    for (start, n) in [(&args[..], 300), (&resumed[..], 900)] {
        let mut child = folder.start(start);
        let deadline = Instant::now() + Duration::from_secs(300);
        while served.n_answered() < n {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it ended before {n} answers");
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(&child, "KILL");
        child.wait().unwrap();
        let there = folder.answers("run");
        assert!(there.len() as u64 + 2 * JOBS as u64 >= n, "{} of {n} were written", there.len());
        let ids = there.iter().map(|a| a["id"].as_str().unwrap().to_owned()).collect();
        written.push((ids, by_question(&served)));
    }
    folder.ok(&resumed);

    let asked = by_question(&served);
    let text_of: BTreeMap<&str, &str> = questions.iter().map(|(id, q, _)| (id.as_str(), q.as_str())).collect();
    for (ids, before) in &written {
        for question in ids.iter().map(|id| text_of[id.as_str()]) {
            assert_eq!(asked[question], before[question], "what was written is not asked again: {question}");
        }
    }
    assert_eq!(asked.len(), 1319, "every question was asked");
    let n_again: u64 = asked.values().map(|n| n - 1).sum();
    assert!(n_again <= 2 * JOBS as u64, "{n_again} were asked again: more than were under way at two kills");
    let answers = folder.answers("run");
    let ids: BTreeSet<&str> = answers.iter().map(|a| a["id"].as_str().unwrap()).collect();
    assert_eq!((answers.len(), ids.len()), (1319, 1319), "one answer each");
    let set = &folder.summary("run")["sets"][0];
    assert_eq!(
        (set["n_rows"].as_u64(), set["n_answers"].as_u64(), set["n_missing"].as_u64()),
        (Some(1319), Some(1319), Some(0))
    );
    let n_right = questions.iter().filter(|(id, _, _)| !id.ends_with('7')).count() as f64;
    assert!((set["score"]["value"].as_f64().unwrap() - n_right / 1319.0).abs() < 1e-12, "{set}");
    let markdown = std::fs::read_to_string(folder.dir.join("run/report.md")).unwrap();
    assert!(markdown.contains("all 1319 questions, 1 answer each"), "{markdown}");

    // What is finished asks nothing more.
    let before = served.asked();
    folder.ok(&resumed);
    assert_eq!(served.asked(), before);
}

#[test]
fn faults_cost_tries_and_a_server_that_is_away_costs_no_answer() {
    let folder = Folder::new("faults");
    let questions = sums(&folder, "sums.jsonl", 24);
    let known: BTreeMap<String, String> = questions.iter().map(|(_, q, a)| (q.clone(), a.clone())).collect();
    let say = Arc::new(move |messages: &[String]| format!("<answer>\\boxed{{{}}}</answer>", known[&messages[1]]));
    let faults =
        [Fault::Status(429), Fault::Status(500), Fault::Half, Fault::Garbage, Fault::Late(Duration::from_millis(40))];
    let misbehave = move |n: u64| if n.is_multiple_of(3) { faults[n as usize / 3 % faults.len()] } else { Fault::None };
    let served = Served::start(false, say.clone(), Arc::new(misbehave));
    let args = |url: &str| -> Vec<String> {
        [
            "eval",
            "--server",
            url,
            "--model",
            "m",
            "--data",
            "sums.jsonl",
            "--out",
            "run",
            "--jobs",
            "4",
            "--samples",
            "2",
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let run = |url: &str, more: &[&str]| {
        let args = args(url);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        folder.run(&args)
    };
    // Nobody is there: no answer is wrong, and the command says how to go on.
    let gone = "http://127.0.0.1:9/v1";
    let output = run(gone, &["--request-secs", "0.3"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("answers in a row could not be had"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--resume goes on"), "{}", stderr(&output));
    let set = &folder.summary("run")["sets"][0];
    assert_eq!((set["n_answers"].as_u64(), set["score"]["n_questions"].as_u64()), (Some(0), Some(0)));
    // The same where there are too few questions for a row of failures.
    let few: Vec<String> =
        args(gone).into_iter().map(|arg| if arg == "run" { "few".to_owned() } else { arg }).collect();
    let few: Vec<&str> = few.iter().map(String::as_str).chain(["--request-secs", "0.3", "--limit", "1"]).collect();
    let output = folder.run(&few);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing was measured"), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    let row = table.lines().find(|line| line.contains("0 of 24")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.matches('–').count() == 7 && !row.contains("-0"), "{row}");
    // Then somebody is, and misbehaves.
    let output = run(&served.url, &["--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let set = &folder.summary("run")["sets"][0];
    assert_eq!((set["n_answers"].as_u64(), set["score"]["value"].as_f64()), (Some(48), Some(1.0)), "{set}");
    assert_eq!((set["kinds"]["odd"]["n_questions"].as_u64(), set["samples"].as_u64()), (Some(12), Some(2)));
    // A refusal ends it at once.
    let refuses = Served::start(true, say, Arc::new(|_| Fault::Status(401)));
    let output = run(&refuses.url, &["--resume"]);
    assert_eq!(output.status.code(), Some(0), "nothing is missing, so nobody is asked: {}", stderr(&output));
    let mut more = args(&refuses.url);
    *more.last_mut().unwrap() = "3".to_owned();
    let more: Vec<&str> = more.iter().map(String::as_str).chain(["--resume"]).collect();
    let output = folder.run(&more);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("HTTP status 401"), "{}", stderr(&output));
    assert_eq!(folder.answers("run").iter().filter(|a| a["stop"] == "answered").count(), 48, "and what is there stays");
}

#[test]
fn a_served_model_calls_tools_as_in_training() {
    let folder = Folder::new("tools");
    sums(&folder, "sums.jsonl", 6);
    let say = |messages: &[String]| match messages.last().unwrap().rsplit_once("<result>\n") {
        Some((_, result)) => format!("<answer>\\boxed{{{}}}</answer>", result.lines().next().unwrap()),
        None => {
            let sum = messages[1].trim_start_matches("What is ").trim_end_matches('?');
            format!("<think>A sum.</think><python>print({sum})</python> and then what?")
        }
    };
    for (says_stop, results) in [(true, "message"), (false, "message"), (true, "turn")] {
        let served = Served::start(says_stop, Arc::new(say), Arc::new(|_| Fault::None));
        let out = format!("{says_stop}-{results}");
        folder.ok(&[
            "eval",
            "--server",
            &served.url,
            "--model",
            "m",
            "--data",
            "sums.jsonl",
            "--out",
            &out,
            "--results",
            results,
            "--set",
            "tools.offer=[\"python\"]",
        ]);
        let set = &folder.summary(&out)["sets"][0];
        assert_eq!((set["score"]["value"].as_f64(), set["calls"]["python"].as_f64()), (Some(1.0), Some(1.0)), "{set}");
        for answer in folder.answers(&out) {
            let text = answer["text"].as_str().unwrap();
            let n = answer["answer"].as_str().unwrap();
            let program = text.split_once("<python>").unwrap().1.split_once("</python>").unwrap().0;
            assert_eq!(
                text,
                format!(
                    "<think>A sum.</think><python>{program}</python><result>\n{n}\n</result><answer>\\boxed{{{n}}}</answer>"
                )
            );
        }
        let second = served.asked().into_keys().find(|body| body.contains("<result>")).unwrap();
        let second: Value = serde_json::from_str(&second).unwrap();
        let roles: Vec<&str> =
            second["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
        match results {
            "message" => assert_eq!(roles, ["system", "user", "assistant", "user"]),
            _ => assert_eq!(
                (roles, second["continue_final_message"].as_bool()),
                (vec!["system", "user", "assistant"], Some(true))
            ),
        }
        assert_eq!(second["stop"], serde_json::json!(["</python>"]));
    }
}

#[test]
fn the_engine_inside_goes_on_to_the_same_answers() {
    let folder = Folder::new("inside");
    sums(&folder, "sums.jsonl", 5);
    let (model, recipe) = (place().path("cold/model"), place().path("tiny.toml"));
    let args = |out: &str, more: &[&str]| {
        let fixed =
            ["eval", model.to_str().unwrap(), "--recipe", recipe.to_str().unwrap(), "--data", "sums.jsonl", "--quiet"];
        folder.ok(&[&fixed[..], &["--out", out], more].concat())
    };
    args("whole", &["--samples", "3", "--k", "1,2,3"]);
    args("parts", &["--limit", "2", "--samples", "2"]);
    args("parts", &["--resume", "--samples", "3"]);
    let facts = |out: &str| -> BTreeSet<String> {
        let fact = |a: &Value| {
            let mut a = a.clone();
            a.as_object_mut().unwrap().remove("secs");
            a.to_string()
        };
        folder.answers(out).iter().map(fact).collect()
    };
    assert_eq!(facts("whole").len(), 15);
    assert_eq!(facts("whole"), facts("parts"));
    let set = &folder.summary("whole")["sets"][0];
    assert_eq!(set["pass"].as_object().unwrap().len(), 3);
    assert!(set["sampled_tokens"].as_f64().unwrap() > 0.0);
    let said = folder.ok(&["eval", "compare", "whole", "parts", "--out", "versus"]);
    assert!(said.contains("sums") && said.contains("1.0000"), "{said}");
    assert!(folder.dir.join("versus/versus.html").is_file());
}

#[test]
fn a_paper_is_reproduced_in_one_flag_and_misuse_is_said() {
    let folder = Folder::new("misuse");
    let questions = sums(&folder, "sums.jsonl", 3);
    let gsm8k: String = questions
        .iter()
        .map(|(_, q, a)| format!("{}\n", serde_json::json!({"question": q, "answer": format!("So.\n#### {a}")})))
        .collect();
    std::fs::create_dir(folder.dir.join("data")).unwrap();
    std::fs::write(folder.dir.join("data/gsm8k.jsonl"), gsm8k).unwrap();
    let served = solver(&questions, |_| true, 0);
    let known: BTreeMap<String, String> = questions.iter().map(|(_, q, a)| (q.clone(), a.clone())).collect();
    let say = Arc::new(move |messages: &[String]| format!("<answer>\\boxed{{{}}}</answer>", known[&messages[1]]));
    let answers = Served::start(true, say, Arc::new(|_| Fault::None));
    let said = folder.ok(&[
        "eval",
        "--server",
        &answers.url,
        "--model",
        "m",
        "--reproduce",
        "arpo",
        "--data",
        "data",
        "--out",
        "run",
    ]);
    assert!(
        said.contains("GSM8K") && said.contains("Not measured, because there is no file of them: AIME 2024"),
        "{said}"
    );
    let bodies = answers.asked();
    assert_eq!(bodies.len(), 15, "five answers to each of three questions, with a seed each");
    let body: Value = serde_json::from_str(bodies.keys().next().unwrap()).unwrap();
    assert_eq!((body["temperature"].as_f64(), body["top_p"].as_f64()), (Some(0.6), Some(0.95)));
    let markdown = std::fs::read_to_string(folder.dir.join("run/report.md")).unwrap();
    for words in ["92.2", "3 questions, the whole set has 1319", "Pass@5", "eval.python\\_calls | 5"] {
        assert!(markdown.contains(words), "{words}: {markdown}");
    }

    let server = ["--server", &served.url, "--model", "m"];
    for (args, words) in [
        (&["--benchmark", "gsm9k", "--data", "data"][..], "there is no benchmark `gsm9k`"),
        (&["--benchmark", "hle", "--data", "data"], "data has no file of"),
        (&["--benchmark", "gsm8k", "--data", "nowhere"], "there is no nowhere"),
        (&["--data", "data"], "is a folder, and no benchmark is named"),
        (&["--benchmark", "gsm8k", "--data", "data", "--k", "5"], "--k 5: there are 1 answers"),
        (&["--benchmark", "gsm8k", "--data", "data", "--limit", "0"], "--limit 0 asks nothing"),
        (&["--benchmark", "gsm8k", "--data", "data", "--out", "run"], "run is not empty"),
        (&["--benchmark", "gsm8k", "--data", "data", "--out", "run", "--resume"], "is an evaluation with the setting"),
        (&["--benchmark", "gsm8k", "--data", "data", "--out", "none", "--resume"], "no evaluation to resume"),
        (&["--benchmark", "gsm8k", "--data", "data", "--set", "prompt.protocol=hermes"], "in tags"),
        (&["--benchmark", "gsm8k"], "there is no benchmarks"),
    ] {
        let output = folder.run(&[&["eval"], &server[..], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{args:?}: {}", stderr(&output));
    }
    assert!(served.asked().is_empty(), "misuse asks nobody");
}

#[test]
fn a_judge_decides_where_the_papers_have_one_and_is_asked_once() {
    let folder = Folder::new("judge");
    let rows: String = (0..8)
        .map(|i| {
            format!(
                "{}\n",
                serde_json::json!({"question": format!("Who is number {i}?"), "answer": format!("Person {i}")})
            )
        })
        .collect();
    std::fs::write(folder.dir.join("simpleqa.jsonl"), rows).unwrap();
    // It answers in other words than the file, and wrongly for the last.
    let say = |messages: &[String]| {
        let i = messages[1].trim_start_matches("Who is number ").trim_end_matches('?').to_owned();
        let name = if i == "7" { "nobody".to_owned() } else { format!("the {i}th person of all") };
        format!("<answer>\\boxed{{{name}}}</answer>")
    };
    let model = Served::start(true, Arc::new(say), Arc::new(|_| Fault::None));
    let verdict = |messages: &[String]| {
        let (word, reason) = match &messages[1] {
            case if case.contains("nobody") => ("incorrect", "Another person."),
            case if case.contains("the 3th person") => return "I cannot decide.".to_owned(),
            _ => ("correct", "The same person."),
        };
        format!("Let me see.\n{{\"verdict\": \"{word}\", \"reason\": \"{reason}\"}}")
    };
    let judge = Served::start(true, Arc::new(verdict), Arc::new(|_| Fault::None));
    let args = [
        "eval",
        "--server",
        &model.url,
        "--model",
        "m",
        "--benchmark",
        "simpleqa",
        "--data",
        ".",
        "--out",
        "run",
        "--set",
        "tools.offer=[\"python\"]",
    ];
    let said = folder.ok(&args);
    assert!(said.contains("No model judged. The papers have one judge the answers to SimpleQA"), "{said}");
    let set = folder.summary("run")["sets"][0].clone();
    assert_eq!((set["metric"].as_str(), set["score"]["value"].as_f64()), (Some("accuracy"), Some(0.0)), "{set}");
    let judged = [&args[..], &["--resume", "--judge", &judge.url, "--judge-model", "big"]].concat();
    let said = folder.ok(&judged);
    assert!(
        said.contains("big judged 7 answers: 0 are right by it and by the grader of strings, 6 by it alone"),
        "{said}"
    );
    assert!(said.contains("no verdict on 1 answers"), "{said}");
    let set = folder.summary("run")["sets"][0].clone();
    assert_eq!((set["metric"].as_str(), set["n_measured"].as_u64()), (Some("judge"), Some(7)), "{set}");
    assert!((set["score"]["value"].as_f64().unwrap() - 6.0 / 7.0).abs() < 1e-12, "{set}");
    let scores = std::fs::read_to_string(folder.dir.join("run/scores.jsonl")).unwrap();
    assert!(scores.contains("The same person."), "{scores}");
    assert_eq!(model.asked().values().sum::<u64>(), 8, "grading asks the model nothing");
    let n_judged = judge.asked().len();
    folder.ok(&judged);
    assert!(judge.asked().len() == n_judged, "what was judged is kept; only what had no verdict is asked again");
}
