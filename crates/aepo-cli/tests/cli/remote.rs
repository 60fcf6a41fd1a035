//! Does a run whose model is trained by a server go as one that is trained here: steps, checkpoints, the end?

use aepo_remote::fakes::tinker::{FakeSettings, FakeTinker, Fault, FaultKind};
use aepo_remote::tinker::model::Dialect;
use aepo_remote::tinker::probe::Reduction;
use expect_test::expect;

use crate::support::{place, stderr};

fn server(change: impl FnOnce(&mut FakeSettings)) -> FakeTinker {
    let mut settings = FakeSettings::of(place().path("cold/model"));
    change(&mut settings);
    FakeTinker::start(settings).unwrap()
}

/// The command that trains on a server into `out`.
fn train(server: &FakeTinker, out: &str, more: &[&str]) -> Vec<String> {
    let url = format!("policy.train.url={}", server.url);
    let sets =
        ["policy.train.engine=tinker", &url, "lora.rank=4", "train.learning_rate=1e-2", "train.max_grad_norm=1e6"];
    let sets = sets.into_iter().flat_map(|set| ["--set", set]);
    ["train", "tiny.toml", "--out", out]
        .into_iter()
        .chain(sets)
        .chain(more.iter().copied())
        .map(str::to_owned)
        .collect()
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

#[test]
fn a_run_is_trained_there_resumed_and_loads_here() {
    let (place, server) = (place(), server(|_| {}));
    place.ok(&words(&train(&server, "there", &["--quiet"])));
    let rows = place.rows("there");
    assert_eq!(rows.len(), 6);
    let update = rows.iter().map(|row| &row["update"]).find(|update| update["n_applied"] == 2).unwrap();
    assert!(
        update["grad_norm"].as_f64().unwrap() > 0.0 && update["logp_diff_max"].as_f64().unwrap() < 1e-4,
        "{update}"
    );
    assert_eq!((server.n_loaded(), server.counts().n_created), (0, server.counts().n_unloaded));

    // A run that is cut in two, on a server that fails now and then, is the same run.
    let every = |route, every, kind| Fault { route, every, kind };
    server
        .set_faults(vec![every("forward_backward", 3, FaultKind::Lost), every("retrieve_future", 4, FaultKind::Busy)]);
    place.ok(&words(&train(&server, "there-cut", &["--quiet", "--steps", "4"])));
    place.ok(&words(&train(&server, "there-cut", &["--quiet", "--resume"])));
    server.set_faults(Vec::new());
    assert_eq!(place.rows("there-cut"), rows);
    assert_eq!(place.json("there-cut/summary.json")["eval_after"], place.json("there/summary.json")["eval_after"]);

    // What is left needs no server: a merged model, and a checkpoint with PEFT's files.
    drop(server);
    let eval = |model: &str| -> serde_json::Value {
        serde_json::from_str(&place.ok(&["eval", model, "--recipe", "there/config.toml", "--json"])).unwrap()
    };
    let mut report = eval("there/checkpoints/step-000006");
    report.as_object_mut().unwrap().remove("event").unwrap();
    assert_eq!(report, place.json("there/summary.json")["eval_after"]);
    assert!(
        place.path("there/model/model.safetensors").is_file()
            && place.path("there/checkpoints/step-000006/server.json").is_file()
    );
    let update = place.run(&words(&["train", "tiny.toml", "--out", "there", "--resume"].map(str::to_owned)));
    assert_ne!(update.status.code(), Some(0), "and other settings do not go on with it");
}

#[test]
fn what_cannot_be_trained_there_is_said_before_the_first_step() {
    let (place, server) = (place(), server(|_| {}));
    let refused = |more: &[&str]| {
        let output = place.run(&words(&train(&server, "there-never", more)));
        assert_ne!(output.status.code(), Some(0), "{more:?}");
        assert!(!place.path("there-never").exists(), "{more:?}");
        stderr(&output)
    };
    assert!(refused(&["--set", "train.max_grad_norm=1"]).contains("`train.max_grad_norm`"));
    assert!(refused(&["--set", "lora.rank=0"]).contains("`lora.rank` is 0"));
    assert!(refused(&["--set", "loss.entropy_coef=0.1"]).contains("`loss.entropy_coef`"));
    assert!(refused(&["--set", "policy.train.base_model=other"]).contains("policy.train.base_model"));
    assert!(refused(&["--set", "policy.train.key_env=AEPO_NO_SUCH_KEY"]).contains("AEPO_NO_SUCH_KEY"));
    assert!(refused(&["--set", "policy.train.url=http://127.0.0.1:9"]).contains("cannot be reached"));
    // Other weights under the server's name.
    assert!(refused(&["--set", "model.init=quickstart"]).contains("other log-probabilities"));
    assert_eq!((server.n_loaded(), server.counts().n_created), (0, server.counts().n_unloaded));
}

#[test]
fn the_doctor_says_what_a_server_can_do() {
    let told = |server: &FakeTinker| {
        place().ok(&["doctor", "--engine", &server.url]).replace(&server.url, "http://127.0.0.1:PORT")
    };
    let skyrl = server(|_| {});
    expect![[r#"
        http://127.0.0.1:PORT speaks the Tinker protocol

          yes     model           fake, 512 tokens of context
          yes     batches         as protobuf
          yes     losses          importance_sampling, ppo, cispo
          yes     adding up       sequences are averaged, then a step's sequences; that is undone here
          yes     repeats         a request whose answer was lost is sent again and counts once
          no      clipping        gradients are not clipped: set train.max_grad_norm to 1e6
          no      all weights     LoRA's matrices only (set lora.rank)
          no      entropies       none come back (leave loss.entropy_coef at 0)
    "#]]
    .assert_eq(&told(&skyrl));
    let other = server(|s| {
        (s.dialect, s.numbered, s.reduction, s.clips) = (Dialect::Json, false, Reduction::Sum, true);
    });
    expect![[r#"
        http://127.0.0.1:PORT speaks the Tinker protocol

          yes     model           fake, 512 tokens of context
          yes     batches         as json
          yes     losses          importance_sampling, ppo, cispo
          yes     adding up       coefficients are added up
          no      repeats         a lost answer ends a run, which goes on from its last checkpoint
          yes     clipping        gradients are clipped to train.max_grad_norm
          no      all weights     LoRA's matrices only (set lora.rank)
          no      entropies       none come back (leave loss.entropy_coef at 0)
    "#]]
    .assert_eq(&told(&other));
    assert_eq!((skyrl.n_loaded(), skyrl.counts().n_unloaded), (0, 1));
    let json = place().ok(&["doctor", "--engine", &skyrl.url, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["server"]["reduction"], "mean-of-means");
}
