//! Do commands take models of the hub by name, pinned, resumed and offline?

use std::process::{Command, Output};

use crate::server::{COMMIT, Fault, REPO, Server};
use crate::support::{Place, place, stderr};

/// A hub that has the model of the cold start.
fn hub(place: &Place) -> Server {
    let read = |name: &str| std::fs::read(place.path("cold/model").join(name)).unwrap();
    Server::start(&[
        ("config.json", &read("config.json")),
        ("tokenizer.json", &read("tokenizer.json")),
        ("model.safetensors", &read("model.safetensors")),
    ])
}

/// A command that knows this hub, with a cache of its own.
fn command(place: &Place, server: &Server, cache: &str, args: &[&str]) -> Command {
    let mut command = place.command(args);
    command.env("HF_ENDPOINT", &server.endpoint).env("HF_HOME", place.path(cache)).env("HF_TOKEN", "hf_secret");
    command
}

fn run(place: &Place, server: &Server, cache: &str, args: &[&str]) -> Output {
    command(place, server, cache, args).output().unwrap()
}

/// What was said, without what differs from run to run.
fn said(place: &Place, server: &Server, output: &Output) -> String {
    stderr(output).replace(&server.endpoint, "HUB").replace(place.dir.to_str().unwrap(), "DIR")
}

#[test]
fn a_model_is_measured_by_its_name_once_fetched_offline_too() {
    let place = place();
    let server = hub(place);
    let args = ["eval", REPO, "--recipe", "tiny.toml"];
    let output = run(place, &server, "hf-eval", &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let here = place.ok(&["eval", "cold/model", "--recipe", "tiny.toml"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), here);
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        assert!(stderr(&output).contains(&format!("fetch {file}, ")), "{}", stderr(&output));
    }
    server.log();
    let offline = run(place, &server, "hf-eval", &[&args[..], &["--offline"]].concat());
    assert_eq!(String::from_utf8_lossy(&offline.stdout), here);
    assert!(server.log().is_empty());
    let variable = command(place, &server, "hf-eval", &args).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&variable.stdout), here);
    let output = run(place, &server, "hf-empty", &[&args[..], &["--offline"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said(place, &server, &output),
        "error: maker/tiny is not in the cache (refs/main is missing below DIR/hf-empty/hub/models--maker--tiny), and no \
         network is to be used: fetch it once without --offline and HF_HUB_OFFLINE\n"
    );
}

#[test]
fn a_run_stays_with_the_commit_that_it_began_with() {
    let place = place();
    let server = hub(place);
    let init = format!("model.init={REPO}");
    let args = ["train", "tiny.toml", "--steps", "2", "--out", "from-hub", "--quiet", "--set", &init];
    let output = run(place, &server, "hf-train", &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let settings = std::fs::read_to_string(place.path("from-hub/config.toml")).unwrap();
    assert!(settings.contains(&format!("init = \"{REPO}@{COMMIT}\"")), "{settings}");
    place.ok(&["train", "tiny.toml", "--steps", "2", "--out", "from-here", "--quiet"]);
    assert_eq!(place.rows("from-hub"), place.rows("from-here"));
    // Neither going on nor measuring needs the hub, and the name without its commit is the same model.
    let resumed = place.ok(&["train", "tiny.toml", "--steps", "4", "--out", "from-hub", "--resume", "--set", &init]);
    assert!(resumed.contains("4 steps"), "{resumed}");
    place.ok(&["eval", "from-hub"]);
    let other =
        ["train", "tiny.toml", "--steps", "5", "--out", "from-hub", "--resume", "--set", "model.init=maker/other"];
    let output = place.run(&other);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`model.init` is "), "{}", stderr(&output));
}

#[test]
fn what_the_hub_refuses_is_said_without_the_token() {
    let place = place();
    let server = hub(place);
    let args = ["eval", REPO, "--recipe", "tiny.toml"];
    for (status, header, expected) in [
        (
            403,
            "x-error-code: GatedRepo",
            "error: HUB denies access to maker/tiny (403): its terms must be accepted on its page by the account of the token\n",
        ),
        (404, "x: y", "error: there is no model maker/tiny on HUB: check the spelling at HUB/maker/tiny\n"),
    ] {
        server.fail("/api/", Fault::Status(status, header), 1);
        let output = run(place, &server, "hf-refused", &args);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(said(place, &server, &output), expected);
    }
    server.fail("model.safetensors", Fault::Header("x-linked-etag", "\"../../evil\""), 9);
    let output = run(place, &server, "hf-refused", &args);
    let text = said(place, &server, &output);
    assert!(text.ends_with("with an etag that is no checksum, `\"../../evil\"`: is HF_ENDPOINT a hub?\n"), "{text}");
    assert!(!text.contains("hf_secret"));
}
