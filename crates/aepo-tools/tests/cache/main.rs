//! Is a run repeated from its cache, and is nothing lost that was acknowledged?

mod kill;
mod rollout;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolResult, ToolSpec, Toolset as _};
use aepo_tools::cache::{Cache, CacheError, CacheSettings, Entry, Key, Mode, import_arpo};
use aepo_tools::toolset::{Answer, Basis, BreakerSettings, Limits, Offer, Provider};
use aepo_tools::{Tools, ToolsError, ToolsSettings};

/// What a provider of these tests says to a call.
pub type Say = fn(&ToolCall, u64) -> Answer;

struct Told {
    say: Say,
    basis: Basis,
    n_calls: Arc<AtomicU64>,
    specs: [ToolSpec; 1],
}

impl Provider for Told {
    fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    fn identity(&self) -> String {
        "told 1".to_owned()
    }

    fn basis(&self) -> Basis {
        self.basis
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        (self.say)(call, self.n_calls.fetch_add(1, Ordering::SeqCst))
    }
}

/// One tool that answers with `say`; the number counts how often it was asked.
pub fn offer(spec: &ToolSpec, basis: Basis, say: Say) -> (Offer, Arc<AtomicU64>) {
    let n_calls = Arc::new(AtomicU64::new(0));
    let (counter, spec) = (Arc::clone(&n_calls), spec.clone());
    let make = move || -> Result<Box<dyn Provider>, ToolsError> {
        Ok(Box::new(Told { say, basis, n_calls: Arc::clone(&counter), specs: [spec.clone()] }))
    };
    let breaker = BreakerSettings { n_failures: 0, ..BreakerSettings::default() };
    let limits = Limits { n_workers: 2, deadline_secs: 600.0, max_calls: 0, breaker };
    (Offer { make: Arc::new(make), limits, until: None }, n_calls)
}

/// A cache whose failures hold for an hour.
pub fn settings(path: &Path, mode: Mode) -> CacheSettings {
    CacheSettings { path: path.to_path_buf(), mode, negative_secs: 3600 }
}

fn tools(cache: CacheSettings, basis: Basis, say: Say) -> (Tools, Arc<AtomicU64>) {
    let (offer, n_calls) = offer(&ToolSpec::search(), basis, say);
    let settings = ToolsSettings { cache: Some(cache), ..ToolsSettings::default() };
    (Tools::of(vec![offer], &settings).unwrap_or_else(|e| panic!("{e}")), n_calls)
}

fn call(input: &str, seed: u64) -> ToolCall {
    let (id, tool, earlier) = (CallId(1), ToolName::SEARCH, Arc::default());
    ToolCall { id, tool, input: input.to_owned(), seed: Seed(seed), earlier, shared: false }
}

fn ask(tools: &mut Tools, input: &str, seed: u64) -> (ToolOutcome, String) {
    tools.submit(call(input, seed));
    let mut results: Vec<ToolResult> = tools.poll(true);
    assert_eq!(results.len(), 1);
    let result = results.remove(0);
    (result.outcome, result.text)
}

fn world(call: &ToolCall, n: u64) -> Answer {
    match call.input.as_str() {
        "404" => Answer::raised(format!("not found {n}")),
        "down" => Answer::unavailable("it is down"),
        input => Answer::ok(format!("{input}, {} and {n}", call.seed.0)),
    }
}

fn silent(_: &ToolCall, _: u64) -> Answer {
    Answer::unavailable("nobody is there")
}

#[test]
fn what_was_recorded_is_replayed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.redb");
    let (mut recording, n_calls) = tools(settings(&path, Mode::Record), Basis::Seeded, world);
    let first = ask(&mut recording, "a", 1);
    assert_eq!(first, (ToolOutcome::Ok, "a, 1 and 0".to_owned()));
    assert_eq!(ask(&mut recording, "a", 1), first, "from the cache");
    assert_ne!(ask(&mut recording, "a", 2), first, "another seed is another question");
    assert_eq!(ask(&mut recording, "down", 1).0, ToolOutcome::Unavailable);
    assert_eq!(n_calls.load(Ordering::SeqCst), 3);
    let stats = &recording.stats()[&ToolName::SEARCH];
    assert_eq!((stats.n_calls, stats.n_made, stats.n_hits), (4, 3, 1));
    drop(recording);
    let (mut replaying, n_calls) = tools(settings(&path, Mode::Replay), Basis::Seeded, silent);
    assert_eq!(ask(&mut replaying, "a", 1), first);
    for (input, seed) in [("a", 3), ("b", 1), ("down", 1)] {
        let (outcome, text) = ask(&mut replaying, input, seed);
        assert_eq!(outcome, ToolOutcome::Unavailable);
        assert!(text.contains(&format!("not in the cache: search {input:?}")), "{text}");
    }
    assert_eq!(n_calls.load(Ordering::SeqCst), 0, "a replay asks nobody");
    let stats = &replaying.stats()[&ToolName::SEARCH];
    assert_eq!((stats.n_hits, stats.n_missing, stats.n_refused), (1, 3, 3));
}

#[test]
fn failures_are_kept_for_a_short_time_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.redb");
    let short = |mode| CacheSettings { negative_secs: 0, ..settings(&path, mode) };
    let (mut tools_, _) = tools(short(Mode::Record), Basis::Input, world);
    let first = ask(&mut tools_, "404", 1);
    assert_eq!(first, (ToolOutcome::Raised, "not found 0".to_owned()));
    ask(&mut tools_, "fine", 1);
    assert_eq!(ask(&mut tools_, "404", 1), first, "a run has one answer for each question");
    drop(tools_);
    // Times are whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (mut later, n_calls) = tools(short(Mode::Record), Basis::Input, |_, _| Answer::ok("it is there now"));
    assert_eq!(ask(&mut later, "fine", 1).1, "fine, 1 and 1", "what succeeded stays");
    assert_eq!(ask(&mut later, "404", 1), (ToolOutcome::Ok, "it is there now".to_owned()));
    assert_eq!(n_calls.load(Ordering::SeqCst), 1);
    drop(later);
    let (mut long, n_calls) = tools(settings(&path, Mode::Record), Basis::Input, world);
    ask(&mut long, "404", 1);
    assert_eq!(n_calls.load(Ordering::SeqCst), 0);
}

#[test]
fn what_a_program_did_is_no_passing_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.redb");
    let say: Say = |call, _| match call.input.as_str() {
        "raised" => Answer::raised("ZeroDivisionError"),
        _ => Answer { outcome: ToolOutcome::Timeout, text: String::new() },
    };
    let (mut recording, _) = tools(settings(&path, Mode::Record), Basis::Session, say);
    ask(&mut recording, "raised", 1);
    ask(&mut recording, "slow", 1);
    drop(recording);
    let contents = Cache::open(&settings(&path, Mode::Replay)).unwrap().contents().unwrap();
    assert_eq!(contents.n_negative, 1, "only the time it took may lie with this machine");
    assert_eq!(contents.n_entries[&("search".to_owned(), ToolOutcome::Raised)], 1);
    let (mut replaying, _) =
        tools(CacheSettings { negative_secs: 0, ..settings(&path, Mode::Replay) }, Basis::Session, silent);
    assert_eq!(ask(&mut replaying, "slow", 1).0, ToolOutcome::Timeout, "a replay does not look at the time");
}

#[test]
fn one_process_records_and_others_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.redb");
    let recording = Cache::open(&settings(&path, Mode::Record)).unwrap();
    for mode in [Mode::Record, Mode::Replay] {
        assert!(matches!(Cache::open(&settings(&path, mode)), Err(CacheError::InUse { .. })));
    }
    drop(recording);
    let first = Cache::open(&settings(&path, Mode::Replay)).unwrap();
    let second = Cache::open(&settings(&path, Mode::Replay)).unwrap();
    assert_eq!(first.contents().unwrap(), second.contents().unwrap());
    assert!(matches!(first.put(&[]), Err(CacheError::ReadOnly { .. })));
    assert!(matches!(Cache::open(&settings(&path, Mode::Record)), Err(CacheError::InUse { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else lies there");
}

#[test]
fn what_is_no_cache_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = dir.path().join("whole");
    drop(Cache::open(&settings(&whole, Mode::Record)).unwrap());
    let bytes = std::fs::read(&whole).unwrap();
    let other = dir.path().join("other");
    drop(redb::Database::create(&other).unwrap());
    let paths = [
        file("empty", b""),
        file("short", b"redb"),
        file("text", b"{\"query\": \"result\"}"),
        file("head", &bytes[..9]),
        file("half", &bytes[..bytes.len() / 2]),
        file("noise", &[&bytes[..9], &[0xA5; 5000][..]].concat()),
        other,
    ];
    for path in paths {
        let before = std::fs::read(&path).unwrap();
        for mode in [Mode::Record, Mode::Replay] {
            let error = Cache::open(&settings(&path, mode)).err().unwrap_or_else(|| panic!("{}", path.display()));
            let is_typed = matches!(error, CacheError::Foreign { .. } | CacheError::Damaged { .. });
            assert!(is_typed && error.to_string().contains(&path.display().to_string()), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "{}", path.display());
    }
    assert!(matches!(Cache::open(&settings(dir.path(), Mode::Record)), Err(CacheError::Foreign { .. })));
    let absent = dir.path().join("absent");
    assert!(matches!(Cache::open(&settings(&absent, Mode::Replay)), Err(CacheError::Missing { .. })));
    assert!(!absent.exists());
}

fn entry(text: &str) -> Entry {
    Entry {
        tool: "search".to_owned(),
        input: "q".to_owned(),
        outcome: ToolOutcome::Ok,
        text: text.to_owned(),
        negative: false,
        wall_secs: 0.25,
        created_secs: 1,
    }
}

#[test]
fn a_changed_byte_never_gives_another_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.redb");
    let keys: Vec<Key> = (0..200).map(|i| Key::imported("test", "search", &i.to_string())).collect();
    let text = |i: usize| format!("{i} ").repeat(50 + i);
    let cache = Cache::open(&settings(&path, Mode::Record)).unwrap();
    let entries: Vec<_> = keys.iter().enumerate().map(|(i, key)| (*key, entry(&text(i)))).collect();
    cache.put(&entries).unwrap();
    drop(cache);
    let whole = std::fs::read(&path).unwrap();
    let (mut n_refused, seed) = (0, Seed(5));
    for round in 0..60 {
        let mut bytes = whole.clone();
        // Somewhere in the part that is in use, one bit; the head of the file more often than its share.
        let range = if round % 4 == 0 { 512 } else { bytes.len().min(200 << 10) };
        let at = (seed.child(round).uniform(0) * range as f64) as usize;
        bytes[at] ^= 1 << (round % 8);
        for mode in [Mode::Record, Mode::Replay] {
            let damaged = dir.path().join("damaged.redb");
            std::fs::write(&damaged, &bytes).unwrap();
            let cache = match Cache::open(&settings(&damaged, mode)) {
                Ok(cache) => cache,
                Err(error) => {
                    n_refused += 1;
                    assert!(!matches!(error, CacheError::Missing { .. } | CacheError::InUse { .. }), "{error}");
                    continue;
                }
            };
            for (i, key) in keys.iter().enumerate() {
                match cache.get(key) {
                    Ok(Some(found)) => assert_eq!(found, entry(&text(i))),
                    Ok(None) => panic!("bit {round} at {at}: an entry has vanished without a word ({mode:?})"),
                    Err(error) => assert!(matches!(error, CacheError::Damaged { .. }), "{error}"),
                }
            }
        }
    }
    assert!(n_refused > 0, "no change was seen");
}

#[test]
fn the_search_cache_of_arpo_answers_whoever_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (path, file) = (dir.path().join("cache.redb"), dir.path().join("search_cache.json"));
    let object = r#"{"capital of France": "Page 1: Paris", "who is it": ["Page 1: a", "Page 2: b"], "failed": ""}"#;
    std::fs::write(&file, object).unwrap();
    let cache = Cache::open(&settings(&path, Mode::Record)).unwrap();
    let imported = import_arpo(&cache, &file, "search", None).unwrap();
    assert_eq!((imported.n_kept, imported.n_empty, imported.n_known), (2, 1, 0));
    assert_eq!(import_arpo(&cache, &file, "search", None).unwrap().n_known, 2, "what is there stays");
    for bad in ["", "[]", "{\"a\": 1}", "{\"a\": {\"b\": \"c\"}}", "{\"a\": \"b\"", "{\"a\": [1]}"] {
        std::fs::write(&file, bad).unwrap();
        let error = import_arpo(&cache, &file, "search", None).unwrap_err();
        assert!(
            matches!(error, CacheError::Import { .. }) && error.to_string().contains("search_cache.json"),
            "{error}"
        );
    }
    drop(cache);
    let (mut replaying, _) = tools(settings(&path, Mode::Replay), Basis::Input, silent);
    assert_eq!(ask(&mut replaying, " capital of \"France\"", 1), (ToolOutcome::Ok, "Page 1: Paris".to_owned()));
    assert_eq!(ask(&mut replaying, "who is it", 2).1, "Page 1: a\nPage 2: b");
    assert_eq!(ask(&mut replaying, "failed", 1).0, ToolOutcome::Unavailable);
    drop(replaying);
    let (mut seeded, _) = tools(settings(&path, Mode::Replay), Basis::Seeded, silent);
    assert_eq!(ask(&mut seeded, "who is it", 1).0, ToolOutcome::Unavailable, "a program is not a query");
}

#[test]
fn an_answer_that_cannot_be_kept_is_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent").join("cache.redb");
    let (offer, _) = offer(&ToolSpec::search(), Basis::Input, world);
    let settings = ToolsSettings { cache: Some(settings(&path, Mode::Record)), ..ToolsSettings::default() };
    let error = Tools::of(vec![offer], &settings).err().unwrap().to_string();
    assert!(error.contains("creating the cache") && error.contains("absent"), "{error}");
}
