//! Does a model come from the hub whole, whatever servers and connections do?

mod server;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aepo_tools::http::Secret;
use aepo_tools::hub::{Event, Fetched, Hub, HubError, ModelName, What};
use server::{COMMIT, Fault, LARGE, REPO, Server, etag};
use tempfile::TempDir;

const SECRET: &str = "hf_secret";

fn shard(i: u8) -> Vec<u8> {
    (0..300_000u32).map(|x| (x.wrapping_mul(2_654_435_761) >> 13) as u8 ^ i).collect()
}

const INDEX: &str =
    r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;

/// A model in two shards, with files that nobody needs.
fn model() -> Server {
    Server::start(&[
        ("config.json", b"{}"),
        ("tokenizer.json", &vec![b' '; 2 * LARGE]),
        ("tokenizer_config.json", b"{\"chat_template\": null}"),
        ("additional_chat_templates/tool_use.jinja", b"tools"),
        ("model.safetensors.index.json", INDEX.as_bytes()),
        ("model-00001-of-00002.safetensors", &shard(1)),
        ("model-00002-of-00002.safetensors", &shard(2)),
        ("pytorch_model.bin", b"old"),
        ("README.md", b"text"),
    ])
}

struct Place {
    dir: TempDir,
    hub: Hub,
    /// What was told.
    told: RefCell<Vec<String>>,
}

impl Place {
    fn new(server: &Server) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub {
            endpoint: server.endpoint.clone(),
            cache: dir.path().join("hub"),
            token: Some(Secret::of(SECRET).unwrap()),
            offline: false,
            certificates: None,
            patience: Duration::from_millis(400),
            tries: 3,
            backoff: Duration::ZERO,
        };
        Place { dir, hub, told: RefCell::default() }
    }

    fn fetch(&self, name: &str, what: What) -> Result<Fetched, HubError> {
        let tell = |event: Event<'_>| {
            let line = match event {
                Event::Begin { file, n_have, n_bytes } => format!("begin {file} at {n_have} of {n_bytes:?}"),
                Event::At { .. } => return ControlFlow::Continue(()),
                Event::End { file } => format!("end {file}"),
                Event::Waiting { file } => format!("waiting {file}"),
                Event::Again { file, why, .. } => format!("again {file}: {why}"),
                Event::FromCache { why, .. } => format!("from cache: {why}"),
            };
            self.told.borrow_mut().push(line);
            ControlFlow::Continue(())
        };
        self.hub.fetch(&ModelName::parse(name).unwrap(), what, &tell)
    }

    #[track_caller]
    fn everything(&self) -> PathBuf {
        self.fetch(REPO, What::Everything).unwrap().path
    }

    #[track_caller]
    fn error(&self, name: &str) -> String {
        let error = self.fetch(name, What::Everything).unwrap_err();
        for text in [format!("{error}"), format!("{error:?}"), format!("{:?}", self.hub)] {
            assert!(!text.contains(SECRET), "{text}");
        }
        error.to_string().replace(&self.hub.endpoint, "HUB").replace(self.dir.path().to_str().unwrap(), "DIR")
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        self.hub.cache.join("models--maker--tiny/blobs").join(etag(bytes))
    }

    /// Names of files that are neither whole nor locks.
    fn unfinished(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.hub.cache.join("models--maker--tiny/blobs")) else { return vec![] };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".incomplete")).collect()
    }

    fn told(&self, text: &str) -> usize {
        self.told.borrow().iter().filter(|line| line.contains(text)).count()
    }
}

fn assert_whole(path: &Path) {
    for (name, bytes) in [
        ("config.json", b"{}".to_vec()),
        ("additional_chat_templates/tool_use.jinja", b"tools".to_vec()),
        ("model-00001-of-00002.safetensors", shard(1)),
        ("model-00002-of-00002.safetensors", shard(2)),
    ] {
        assert!(std::fs::read(path.join(name)).unwrap() == bytes, "{name}");
    }
}

#[test]
fn a_model_comes_once_with_what_it_needs_in_the_layout_of_other_programs() {
    let server = model();
    let place = Place::new(&server);
    let path = place.everything();
    assert_whole(&path);
    let folder = place.hub.cache.join("models--maker--tiny");
    assert_eq!(path, folder.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let link = std::fs::read_link(path.join("additional_chat_templates/tool_use.jinja")).unwrap();
    assert_eq!(link, Path::new("../../../blobs").join(etag(b"tools")));
    assert!(!path.join("README.md").exists() && !path.join("pytorch_model.bin").exists());
    assert!(place.unfinished().is_empty());
    let log = server.log();
    assert!(log.iter().filter(|r| !r.away).all(|r| r.authorization.as_deref() == Some("Bearer hf_secret")));
    assert!(log.iter().filter(|r| r.away).all(|r| r.authorization.is_none()), "the token is the hub's alone");
    assert_eq!(log.iter().filter(|r| r.away).count(), 3);
    // What is there is not fetched again; only what the branch means now is asked for.
    place.everything();
    let log = server.log();
    assert_eq!(log.iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), ["/api/models/maker/tiny/revision/main"]);
}

#[test]
fn facts_come_without_weights_and_weights_later() {
    let server = model();
    let place = Place::new(&server);
    let path = place.fetch(REPO, What::Facts).unwrap().path;
    assert!(path.join("config.json").exists() && path.join("tokenizer.json").exists());
    assert!(!path.join("model.safetensors.index.json").exists());
    server.log();
    assert_whole(&place.everything());
    let n_facts = server.log().iter().filter(|r| r.path.ends_with("/config.json")).count();
    assert_eq!(n_facts, 0);
}

#[test]
fn revisions_and_single_files_can_be_named() {
    let server = model();
    server.put("sub/tiny.Q4_0.gguf", &shard(9));
    let place = Place::new(&server);
    for name in ["maker/tiny@refs/pr/1".to_owned(), format!("maker/tiny@{COMMIT}")] {
        assert_whole(&place.fetch(&name, What::Everything).unwrap().path);
    }
    assert_eq!(place.told("end "), 7, "the second revision is the same commit");
    let file = place.fetch("maker/tiny/sub/tiny.Q4_0.gguf", What::Facts).unwrap().path;
    assert!(std::fs::read(file).unwrap() == shard(9));
    assert_eq!(
        place.error("maker/tiny/nope.gguf"),
        "maker/tiny/nope.gguf has no nope.gguf: it has maker/tiny/sub/tiny.Q4_0.gguf"
    );
}

#[test]
fn without_a_network_the_cache_is_enough() {
    let server = model();
    let mut place = Place::new(&server);
    place.hub.offline = true;
    assert_eq!(
        place.error(REPO),
        "maker/tiny is not in the cache (refs/main is missing below DIR/hub/models--maker--tiny), and no network is to be \
         used: fetch it once without --offline and HF_HUB_OFFLINE"
    );
    place.hub.offline = false;
    let path = place.everything();
    place.hub.offline = true;
    server.log();
    assert_eq!(place.everything(), path);
    assert_eq!(place.fetch(&format!("{REPO}@{COMMIT}"), What::Everything).unwrap().path, path);
    assert!(server.log().is_empty());
    std::fs::remove_file(path.join("model-00002-of-00002.safetensors")).unwrap();
    assert!(place.error(REPO).contains("(model-00002-of-00002.safetensors is missing below"));
    // The network is there to be used, but does not work.
    place.hub.offline = false;
    place.everything();
    place.hub.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(place.everything(), path);
    assert_eq!(place.told("from cache: "), 1, "{:?}", place.told);
    let error = place.error("maker/other");
    assert!(
        error.starts_with("HUB cannot be reached (") && error.contains("and maker/other is not in the cache"),
        "{error}"
    );
}

#[test]
fn a_broken_connection_is_gone_on_with() {
    let server = model();
    let place = Place::new(&server);
    server.fail(&etag(&shard(1)), Fault::Cut(100_000), 1);
    server.fail(&etag(&shard(2)), Fault::Stall(50_000), 1);
    assert_whole(&place.everything());
    let ranges: Vec<String> = server.log().into_iter().filter(|r| r.away).filter_map(|r| r.range).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=50000-"]);
    assert_eq!(place.told("again model-0000"), 2, "{:?}", place.told);
    assert_eq!(place.told("nothing came for too long"), 1, "{:?}", place.told);
}

#[test]
fn what_was_fetched_is_kept_for_the_next_attempt() {
    let server = model();
    let place = Place::new(&server);
    server.fail(&etag(&shard(1)), Fault::Cut(1000), 1);
    server.fail(&etag(&shard(1)), Fault::Cut(0), 2);
    let error = place.error(REPO);
    assert!(
        error.starts_with(
            "model-00001-of-00002.safetensors of maker/tiny: the connection broke 3 times, last after 1000 bytes"
        ),
        "{error}"
    );
    assert_eq!(place.unfinished(), [format!("{}.incomplete", etag(&shard(1)))]);
    assert!(!place.blob(&shard(1)).exists());
    server.log();
    assert_whole(&place.everything());
    assert!(server.log().iter().any(|r| r.range.as_deref() == Some("bytes=1000-")));
    assert_eq!(place.told("begin model-00001-of-00002.safetensors at 1000 of Some(300000)"), 1);
    assert!(place.unfinished().is_empty());
}

#[test]
fn a_server_that_knows_no_ranges_and_damaged_beginnings_give_whole_files() {
    let server = model();
    let place = Place::new(&server);
    server.fail(&etag(&shard(1)), Fault::Cut(1000), 1);
    server.fail(&etag(&shard(1)), Fault::Whole, 1);
    place.fetch(REPO, What::Facts).unwrap();
    let blobs = place.hub.cache.join("models--maker--tiny/blobs");
    // What an earlier attempt left is not the beginning of the file, and once it is too long.
    std::fs::write(blobs.join(format!("{}.incomplete", etag(&shard(2)))), [7; 2000]).unwrap();
    assert_whole(&place.everything());
    std::fs::remove_dir_all(place.hub.cache.join("models--maker--tiny/snapshots")).unwrap();
    std::fs::remove_file(place.blob(&shard(2))).unwrap();
    std::fs::write(blobs.join(format!("{}.incomplete", etag(&shard(2)))), vec![7; 300_001]).unwrap();
    assert_whole(&place.everything());
    // Exactly all of it was there, but the program ended before it was checked.
    std::fs::remove_dir_all(place.hub.cache.join("models--maker--tiny/snapshots")).unwrap();
    std::fs::rename(place.blob(&shard(2)), blobs.join(format!("{}.incomplete", etag(&shard(2))))).unwrap();
    server.log();
    assert_whole(&place.everything());
    assert!(server.log().iter().all(|r| r.method == "HEAD" || r.path.starts_with("/api")), "nothing was sent again");
}

#[test]
fn other_bytes_than_announced_are_not_kept() {
    for (fault, expected) in
        [(Fault::Damaged, "its SHA-256 is "), (Fault::Longer, "300004 bytes were sent, 300000 announced")]
    {
        let server = model();
        let place = Place::new(&server);
        server.fail(&etag(&shard(1)), fault, 1);
        let error = place.error(REPO);
        assert!(error.contains(expected), "{error}");
        assert!(place.unfinished().is_empty() && !place.blob(&shard(1)).exists());
        assert_whole(&place.everything());
    }
    let server = model();
    let place = Place::new(&server);
    server.fail("/config.json", Fault::Header("etag", "\"00000000000000000000000000000000000000ff\""), 1);
    assert!(place.error(REPO).contains("config.json of maker/tiny: its git SHA-1 is "));
    // A file that ends early and cleanly is not taken for whole.
    server.fail("/config.json", Fault::Header("content-length", "7"), 9);
    let error = place.error(REPO);
    assert!(error.contains("config.json of maker/tiny: the connection broke 3 times"), "{error}");
}

#[test]
fn trouble_of_the_server_passes_or_is_told() {
    let server = model();
    let place = Place::new(&server);
    server.fail("/api/", Fault::Status(503, ""), 2);
    server.fail("/config.json", Fault::Status(429, ""), 1);
    server.fail(&etag(&shard(1)), Fault::Status(500, ""), 2);
    assert_whole(&place.everything());
    assert_eq!(place.told("again "), 5, "{:?}", place.told);
    let place = Place::new(&server);
    server.fail("/config.json", Fault::Status(502, ""), 3);
    assert_eq!(
        place.error(REPO),
        "HUB answers 502 for config.json of maker/tiny, 3 times: try again later; what was fetched is kept"
    );
    server.fail("/api/", Fault::Stall(0), 3);
    let error = place.error(REPO);
    assert!(error.starts_with("HUB cannot be reached (nothing came for too long), and maker/tiny is not"), "{error}");
}

#[test]
fn what_the_hub_refuses_says_what_to_do() {
    let server = model();
    let mut place = Place::new(&server);
    let gated = "x-error-code: GatedRepo";
    let mut refused = |status, header, token: Option<&str>| {
        place.hub.token = token.map(|token| Secret::of(token).unwrap());
        server.fail("/api/", Fault::Status(status, header), 1);
        place.error(REPO)
    };
    assert_eq!(
        refused(401, "x-error-message: Repository not found", None),
        "HUB denies access to maker/tiny (401: Repository not found): it does not exist, or is private: check the \
         spelling, or put a token into HF_TOKEN"
    );
    assert!(refused(401, gated, None).ends_with("then put a token of that account into HF_TOKEN"));
    assert!(refused(403, gated, Some(SECRET)).ends_with("must be accepted on its page by the account of the token"));
    assert!(refused(401, "", Some(SECRET)).contains("the token (HF_TOKEN, or the token file) may be old"));
    assert_eq!(
        refused(404, "", Some(SECRET)),
        "there is no model maker/tiny on HUB: check the spelling at HUB/maker/tiny"
    );
    assert_eq!(
        place.error("maker/tiny@v9"),
        "there is no revision `v9` of model maker/tiny on HUB: check the spelling at HUB/maker/tiny"
    );
    assert!(!place.hub.cache.exists(), "what is refused leaves nothing behind");
}

#[test]
fn repositories_that_hold_no_such_model_say_what_is_missing() {
    let cases: [(&[&str], &str); 4] = [
        (&["README.md"], "maker/tiny has no config.json"),
        (
            &["tiny.Q8_0.gguf"],
            "maker/tiny has no config.json: one of its GGUF files can be named: maker/tiny/tiny.Q8_0.gguf",
        ),
        (
            &["config.json", "vocab.json"],
            "maker/tiny has no tokenizer.json: let AutoTokenizer.from_pretrained(…) of transformers save it anew into a \
             directory",
        ),
        (
            &["config.json", "tokenizer.json", "pytorch_model.bin"],
            "maker/tiny has no model.safetensors: pytorch_model.bin is not read; convert it to safetensors",
        ),
    ];
    for (files, expected) in cases {
        let files: Vec<(&str, &[u8])> = files.iter().map(|file| (*file, &b"{}"[..])).collect();
        let place = Place::new(&Server::start(&files));
        assert_eq!(place.error(REPO), expected);
    }
}

#[test]
fn a_hostile_server_reaches_nothing_outside_the_cache() {
    let outside = |place: &Place| {
        let found = std::fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name());
        assert!(found.eq(["hub"]), "something was written beside the cache");
    };
    for (path, fault, expected) in [
        (
            "/config.json",
            Fault::Header("etag", "\"../../../../x\""),
            "with an etag that is no checksum, `\"../../../../x\"`",
        ),
        ("/config.json", Fault::Header("x-repo-commit", "../../x"), "with commit ../../x instead of"),
        ("/config.json", Fault::Elsewhere("file:///etc/passwd".into()), "with a redirect to `file:///etc/passwd`"),
        ("/config.json", Fault::Elsewhere("/a/config.json".into()), "with more than 8 redirects"),
        ("/api/", Fault::Elsewhere("/maker/tiny/resolve/x".into()), "HUB"),
        ("/api/", Fault::Status(200, ""), "with no JSON"),
    ] {
        let server = model();
        server.list_also("additional_chat_templates/../../../x.jinja");
        server.list_also("/etc/x.jinja");
        let place = Place::new(&server);
        place.fetch(REPO, What::Facts).unwrap();
        let again = Place::new(&server);
        server.fail(path, fault, 20);
        let error = again.error(REPO);
        assert!(error.contains(expected), "{error}");
        outside(&place);
    }
    let index = INDEX.replace("model-00001-of-00002.safetensors", "../../../../x.safetensors");
    let server = model();
    server.put("model.safetensors.index.json", index.as_bytes());
    let place = Place::new(&server);
    let error = place.error(REPO);
    assert!(error.contains("names `../../../../x.safetensors` as a shard"), "{error}");
    outside(&place);
}

#[test]
fn a_renamed_repository_is_followed() {
    let server = model();
    let place = Place::new(&server);
    server.fail("/api/models/old/name", Fault::Elsewhere(format!("/api/models/{REPO}/revision/main")), 1);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "additional_chat_templates/tool_use.jinja"] {
        let to = format!("/{REPO}/resolve/{COMMIT}/{file}");
        server.fail(&format!("/old/name/resolve/{COMMIT}/{file}"), Fault::Elsewhere(to), 2);
    }
    let path = place.fetch("old/name", What::Facts).unwrap().path;
    assert_eq!(std::fs::read_to_string(path.join("config.json")).unwrap(), "{}");
    assert!(place.hub.cache.join("models--old--name").is_dir());
}

#[test]
fn several_at_once_fetch_each_file_once() {
    let server = model();
    let place = Place::new(&server);
    let hub = &place.hub;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let name = ModelName::parse(REPO).unwrap();
                let fetched = hub.fetch(&name, What::Everything, &|_| ControlFlow::Continue(())).unwrap();
                assert_whole(&fetched.path);
            });
        }
    });
    let log = server.log();
    for bytes in [shard(1), shard(2)] {
        let n_sent = log.iter().filter(|r| r.away && r.path.ends_with(&etag(&bytes))).count();
        assert_eq!(n_sent, 1);
    }
}

#[test]
fn whoever_is_told_can_stop_it() {
    let server = model();
    let place = Place::new(&server);
    let name = ModelName::parse(REPO).unwrap();
    let stop = |event: Event<'_>| match event {
        Event::At { file, n_done } if file.ends_with("safetensors") && n_done > 100_000 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = place.hub.fetch(&name, What::Everything, &stop).unwrap_err();
    assert!(matches!(&error, HubError::Stopped { file } if file == "model-00001-of-00002.safetensors"), "{error}");
    assert_eq!(place.unfinished().len(), 1);
    assert_whole(&place.everything());
}

#[test]
fn the_environment_is_that_of_python_programs() {
    let hub = |variables: &[(&str, &str)]| {
        let variables: Vec<(String, String)> = variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Hub::from_environment(&move |name| {
            variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        })
    };
    let plain = hub(&[("HOME", "/h")]).unwrap();
    assert_eq!((plain.endpoint.as_str(), plain.offline), ("https://huggingface.co", false));
    assert_eq!(plain.cache, Path::new("/h/.cache/huggingface/hub"));
    assert!(plain.token.is_none());
    assert_eq!(hub(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap().cache, Path::new("/x/huggingface/hub"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
    let home = dir.path().to_str().unwrap();
    let with_file = hub(&[("HF_HOME", home), ("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "yes")]).unwrap();
    assert_eq!(with_file.cache, dir.path().join("hub"));
    assert_eq!((with_file.endpoint.as_str(), with_file.offline), ("http://mirror", true));
    assert!(with_file.token == Secret::of("hf_file").ok());
    let set = hub(&[("HF_HOME", home), ("HF_TOKEN", SECRET), ("HF_HUB_CACHE", "/c")]).unwrap();
    assert!(set.token == Secret::of(SECRET).ok());
    assert_eq!(set.cache, Path::new("/c"));
    for wrong in [
        &[][..],
        &[("HOME", "/h"), ("HF_ENDPOINT", "mirror")],
        &[("HOME", "/h"), ("HF_TOKEN", "a\nb")],
        &[("HOME", "/h"), ("HF_HUB_DOWNLOAD_TIMEOUT", "soon")],
    ] {
        let error = hub(wrong).unwrap_err();
        assert!(matches!(error, HubError::Environment { .. }) && !error.to_string().contains('\n'), "{error}");
    }
}
