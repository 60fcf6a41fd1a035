//! Does `aepo serve --rollouts` hand the trajectories of a tree to its callers, each once and whole, whoever samples?

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use aepo_engine::Engine;
use aepo_remote::fakes::{Fake, FakeSettings, Fault, MakeEngine, Mode, Plays};
use serde_json::{Value, json};

use crate::raw::{Answer, get, post, post_text};
use crate::serve::Serving;
use crate::support::{place, signal};

const K: usize = 4;

fn serve(more: &[&str]) -> Serving {
    let mut command = place().command(&[&["serve", "tiny.toml", "--rollouts"], more].concat());
    command.env_remove("AEPO_API_KEY");
    Serving::start(command)
}

fn ask(group: &str, index: usize) -> Value {
    json!({ "group": group, "index": index, "n": K, "question": "What is 3 + 4?", "answers": ["7"], "grader": "math",
        "seed": [2, group.len()] })
}

fn fetch(serving: &Serving, body: &Value) -> Answer {
    post(serving.address.parse().unwrap(), "/rollouts", body)
}

#[track_caller]
fn trajectory(serving: &Serving, body: &Value) -> Value {
    let answer = fetch(serving, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// All trajectories of these groups, each asked for by a caller of its own, all at once.
fn all(serving: &Serving, groups: &[&str], more: &Value) -> Vec<Vec<Value>> {
    let body = |group: &str, index: usize| {
        let mut body = ask(group, index);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    std::thread::scope(|scope| {
        let of_group = |group: &&str| {
            // The last asks first.
            let one = |index| {
                let body = body(group, index);
                scope.spawn(move || trajectory(serving, &body))
            };
            (0..K).rev().map(one).collect::<Vec<_>>()
        };
        let asked: Vec<_> = groups.iter().map(of_group).collect();
        asked.into_iter().map(|group| group.into_iter().rev().map(|one| one.join().unwrap()).collect()).collect()
    })
}

fn list<'a>(trajectory: &'a Value, key: &str) -> &'a Vec<Value> {
    trajectory[key].as_array().unwrap_or_else(|| panic!("{key} of {trajectory}"))
}

/// That these are the trajectories of one tree: what they share is equal, and no path comes twice.
#[track_caller]
fn assert_is_a_tree(trajectories: &[Value]) {
    let mut paths = HashSet::new();
    let mut nodes = HashMap::new();
    for (index, one) in trajectories.iter().enumerate() {
        assert_eq!((&one["index"], &one["n"]), (&json!(index), &json!(K)));
        assert!(paths.insert(one["path"].to_string()), "{} comes twice", one["path"]);
        assert_eq!(one["prompt_ids"], trajectories[0]["prompt_ids"]);
        let n = list(one, "response_ids").len();
        assert!(n > 0);
        for key in ["response_mask", "logprobs", "entropies"] {
            assert_eq!(list(one, key).len(), n, "{key}");
        }
        for (i, mask) in list(one, "response_mask").iter().enumerate() {
            let (logprob, entropy) = (one["logprobs"][i].as_f64().unwrap(), one["entropies"][i].as_f64().unwrap());
            match mask.as_u64().unwrap() {
                0 => assert_eq!((logprob, entropy), (0.0, 0.0)),
                _ => assert!(logprob <= 0.0 && entropy >= 0.0),
            }
        }
        let mut at = 0;
        for span in list(one, "spans") {
            let end = at + span["n"].as_u64().unwrap() as usize;
            let tokens = list(one, "response_ids")[at..end].to_vec();
            assert_eq!(*nodes.entry(span["node"].as_u64().unwrap()).or_insert_with(|| tokens.clone()), tokens);
            at = end;
        }
        assert_eq!(at, n);
    }
}

#[test]
fn callers_of_a_group_share_a_tree_and_get_each_trajectory_again() {
    let serving = serve(&[]);
    let groups = ["a", "bb", "ccc", "dddd", "eeeee"];
    let told = all(&serving, &groups, &json!({}));
    told.iter().for_each(|group| assert_is_a_tree(group));
    assert_ne!(told[0][0]["response_ids"], told[1][0]["response_ids"], "other seeds, other trees");
    assert!(told.iter().flatten().any(|one| list(one, "response_mask").contains(&json!(0))), "nobody called a tool");
    for one in told.iter().flatten() {
        assert!(one["counts"] == true && one["reward"].is_number(), "{one}");
    }
    let again = all(&serving, &groups, &json!({}));
    assert_eq!(again, told);
    // Another process, asked for one group alone, grows the same tree; so does one without the answers, ungraded.
    let other = serve(&[]);
    assert_eq!(all(&other, &groups[1..2], &json!({}))[0], told[1]);
    let ungraded = &all(&other, &["f"], &json!({ "answers": [] }))[0];
    assert!(ungraded.iter().all(|one| one["reward"].is_null() && one["accuracy"].is_null()));
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let serving = serve(&["--max-groups", "1"]);
    let address = serving.address.parse().unwrap();
    trajectory(&serving, &ask("a", 0));
    let with = |key: &str, value: Value| {
        let mut body = ask("a", 0);
        body[key] = value;
        body
    };
    for (body, status, word) in [
        (with("index", json!(4)), 400, "`index` is 4"),
        (with("index", json!(-1)), 400, "-1"),
        (with("n", json!(8)), 400, "rollout.k"),
        (with("group", json!("")), 400, "`group`"),
        (with("group", json!("x".repeat(300))), 400, "`group`"),
        (with("question", json!(" ")), 400, "`question`"),
        (with("question", json!("word ".repeat(2000))), 400, "context"),
        (with("seed", json!([])), 400, "`seed`"),
        (with("grader", json!("best")), 400, "best"),
        (with("servers", json!(["http://127.0.0.1:9"])), 400, "--servers"),
        (with("temperature", json!(1)), 400, "temperature"),
        (with("question", json!("What is 3 + 5?")), 409, "another question"),
        (with("group", json!("b")), 429, "try again"),
    ] {
        let answer = fetch(&serving, &body);
        assert!(answer.status == status && answer.body.contains(word), "{body}: {answer:?}");
    }
    assert_eq!(post_text(address, "/rollouts", "{\"group\"").status, 400);
    let long = json!({ "question": "x".repeat(2 << 20) });
    assert_eq!(post(address, "/rollouts", &long).status, 413);
    assert_eq!(post(address, "/v1/completions", &json!({})).status, 404);
    assert_eq!(get(address, "/rollouts").status, 405);
    let facts = json!({ "status": "ok", "k": K, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
        "max_response_tokens": 96, "names_servers": false });
    assert_eq!(get(address, "/health").json(), facts);
    // Once the group was fetched whole, its room is free.
    (1..K).for_each(|index| drop(trajectory(&serving, &ask("a", index))));
    trajectory(&serving, &ask("b", 0));
    let all = trajectory(
        &serving,
        &json!({ "group": "b", "question": "What is 3 + 4?", "answers": ["7"],
        "grader": "math", "seed": [2, 1] }),
    );
    assert_eq!((&all["group"], &all["n"]), (&json!("b"), &json!(K)));
    let each: Vec<Value> = (0..K).map(|index| trajectory(&serving, &ask("b", index))).collect();
    assert_eq!(*list(&all, "trajectories"), each);
}

#[test]
fn servers_that_callers_name_sample_the_same_trees() {
    let here = serve(&[]);
    let told = all(&here, &["a", "bb"], &json!({}));
    let dir = place().dir.join("cold/model");
    let make: MakeEngine = Arc::new(move |_: Option<&Path>| Engine::load(&dir, 1).map_err(|e| e.to_string()));
    let fake = || {
        let make = Arc::clone(&make);
        Fake::start(FakeSettings { plays: Plays::Vllm, make, pieces: Arc::new([]), mode: Mode::Scaled }).unwrap()
    };
    let fakes = [fake(), fake()];
    let sets = ["policy.sample.top_logprobs=4096", "policy.sample.deadline_secs=4", "policy.sample.try_secs=4"];
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    let there = serve(&[&["--servers", "vllm"], &sets[..]].concat());
    assert!(fetch(&there, &ask("a", 0)).body.contains("`servers` must name"));
    let dead = json!({ "servers": ["http://127.0.0.1:9"] });
    let mut body = ask("a", 0);
    body["servers"] = dead["servers"].clone();
    let answer = fetch(&there, &body);
    assert!(answer.status == 503 && answer.body.contains("127.0.0.1:9"), "{answer:?}");
    // What failed may be asked for again, of others; who comes back from other servers gets the same.
    fakes[0].fail(&[Fault::HangUp, Fault::Status(503), Fault::Half]);
    let both = json!({ "servers": [fakes[0].url, fakes[1].url] });
    let served = all(&there, &["a", "bb"], &both);
    for (served, told) in served.iter().flatten().zip(told.iter().flatten()) {
        for key in ["prompt_ids", "response_ids", "response_mask", "spans", "path", "reward", "logprobs"] {
            assert_eq!(served[key], told[key], "{key}");
        }
    }
    assert_eq!(all(&there, &["a"], &json!({ "servers": [fakes[1].url] }))[0], served[0]);
    let other = json!({ "servers": [fakes[1].url], "seed": [9] });
    assert_is_a_tree(&all(&there, &["ccc"], &other)[0]);
}

#[test]
fn those_who_wait_are_told_of_the_end() {
    let slow =
        ["--set", "rollout.max_response_tokens=400", "--set", "rollout.max_turn_tokens=400", "--set", "rollout.k=64"];
    let mut serving = serve(&slow);
    let address = serving.address.parse().unwrap();
    let waiter = std::thread::spawn(move || {
        let mut body = ask("a", 0);
        body["n"] = json!(64);
        post(address, "/rollouts", &body)
    });
    std::thread::sleep(std::time::Duration::from_millis(60));
    signal(&serving.child, "INT");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    // The tree may have been quicker.
    let answer = waiter.join().unwrap();
    assert!(answer.status == 200 || answer.body.contains("stopped"), "{answer:?}");
}
