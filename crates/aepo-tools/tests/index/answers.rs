//! Does an index on disk answer as one in memory does, however it was built, and notice what was done to it?

use std::ops::ControlFlow;

use aepo_tools::search::disk::{DiskIndex, IndexError, Phase, build};
use aepo_tools::{SearchIndex, SearchSettings};

use crate::corpora::{QUERIES, answers, articles, built, jsonl, settings};

#[test]
fn answers_are_those_of_memory_in_however_many_commits() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    let documents = articles(3000);
    jsonl(&corpus, &documents);
    let memory = SearchIndex::build(documents, SearchSettings::default()).unwrap();
    let expected: Vec<(String, u64)> = QUERIES
        .iter()
        .flat_map(|query| memory.best(query, 30).unwrap())
        .map(|(score, document)| (document.id.clone(), f64::from(score).to_bits()))
        .collect();
    assert!(expected.len() > 150);
    for commit_rows in [10_000, 3000, 701, 100] {
        let out = folder.path().join(format!("index-{commit_rows}"));
        let made = built(&settings(corpus.clone(), out.clone(), commit_rows)).unwrap();
        assert_eq!((made.manifest.n_rows, made.manifest.n_skipped, made.n_resumed), (3000, 0, 0));
        let index = DiskIndex::open(&out).unwrap();
        assert_eq!(answers(&index), expected, "a commit every {commit_rows} documents");
        let manifest = DiskIndex::check(&out, |_| ()).unwrap();
        assert_eq!(&manifest, index.manifest());
        assert!(!settings(corpus.clone(), out, 1).beside().exists());
    }
}

#[test]
fn twins_are_in_the_order_of_the_corpus() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    let mut documents = articles(1);
    documents[0].text = "identical words".to_owned();
    let twin = documents[0].clone();
    documents = (0..500).map(|i| aepo_tools::Document { id: i.to_string(), ..twin.clone() }).collect();
    jsonl(&corpus, &documents);
    let out = folder.path().join("index");
    built(&settings(corpus, out.clone(), 60)).unwrap();
    let index = DiskIndex::open(&out).unwrap();
    for n in [1, 7, 100, 1000] {
        let found: Vec<String> =
            index.search("identical words", n).unwrap().into_iter().map(|h| h.document.id).collect();
        let expected: Vec<String> = (0..n.min(500)).map(|i| i.to_string()).collect();
        assert_eq!(found, expected);
    }
    assert!(index.search("identical", 0).unwrap().is_empty());
}

#[test]
fn every_string_is_a_query() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    jsonl(&corpus, &articles(50));
    let out = folder.path().join("index");
    built(&settings(corpus, out.clone(), 1000)).unwrap();
    let index = DiskIndex::open(&out).unwrap();
    let long = "w1 ".repeat(1 << 18);
    for query in ["", " ", "\"", "\"unbalanced", "(((", "*", "[a TO", "+-!^~", "\0", "\u{202e}", "🦀", "title:", &long]
    {
        let found = index.search(query, 3).unwrap();
        assert_eq!(found.is_empty(), query != long, "{query:.20}");
    }
}

#[test]
fn a_stopped_build_goes_on_and_is_never_opened_half() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    jsonl(&corpus, &articles(1000));
    let whole = folder.path().join("whole");
    built(&settings(corpus.clone(), whole.clone(), 100)).unwrap();
    let out = folder.path().join("index");
    let plan = settings(corpus.clone(), out.clone(), 100);
    let stop_at = |n: u64| {
        build(&plan, |phase| match phase {
            Phase::Indexing { n_committed, .. } if n_committed >= n => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    };
    for n in [100, 400, 900] {
        assert!(matches!(stop_at(n), Err(IndexError::Stopped { n_rows }) if n_rows == n));
        assert!(matches!(DiskIndex::open(&out), Err(IndexError::NotAnIndex { .. })));
        assert!(matches!(DiskIndex::open(&plan.beside()), Err(IndexError::NotAnIndex { .. })));
    }
    // What would answer otherwise is not mixed.
    let mut other = plan.clone();
    other.fields.id = String::new();
    assert!(matches!(built(&other), Err(IndexError::OtherBuild { what: "the fields", .. })));
    other = plan.clone();
    other.skip_bad_rows = true;
    assert!(matches!(built(&other), Err(IndexError::OtherBuild { .. })));
    other = plan.clone();
    other.corpus = folder.path().join("other.jsonl");
    jsonl(&other.corpus, &articles(999));
    assert!(matches!(built(&other), Err(IndexError::OtherBuild { what: "the corpus", .. })));

    let made = built(&plan).unwrap();
    assert_eq!((made.n_resumed, made.manifest.n_rows), (900, 1000));
    let (index, undisturbed) = (DiskIndex::open(&out).unwrap(), DiskIndex::open(&whole).unwrap());
    assert_eq!(answers(&index), answers(&undisturbed));
    assert_eq!(index.manifest().identity(), undisturbed.manifest().identity());
    assert!(matches!(built(&plan), Err(IndexError::Exists { .. })));
}

#[test]
fn one_build_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    jsonl(&corpus, &articles(100));
    let plan = settings(corpus, folder.path().join("index"), 10);
    let mut tried = false;
    build(&plan, |phase| {
        if matches!(phase, Phase::Indexing { .. }) && !tried {
            tried = true;
            assert!(matches!(built(&plan), Err(IndexError::Busy { .. })));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(tried);
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    jsonl(&corpus, &articles(200));
    let out = folder.path().join("index");
    let made = built(&settings(corpus, out.clone(), 1000)).unwrap();
    assert!(made.manifest.files.len() > 4);
    let listed: Vec<&str> = made.manifest.files.iter().map(|f| f.name.as_str()).collect();
    for entry in std::fs::read_dir(&out).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(listed.contains(&name.as_str()) || name == "manifest.json", "{name} is in no list");
    }
    for file in &made.manifest.files {
        let path = out.join(&file.name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let error = DiskIndex::check(&out, |_| ()).unwrap_err();
        assert!(matches!(&error, IndexError::Damaged { path, .. } if path.ends_with(&file.name)), "{error}");
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(DiskIndex::open(&out), Err(IndexError::Damaged { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(DiskIndex::open(&out), Err(IndexError::NotAnIndex { .. })));
        std::fs::write(&path, &good).unwrap();
    }
    DiskIndex::check(&out, |_| ()).unwrap();
    let manifest = out.join("manifest.json");
    let good = std::fs::read_to_string(&manifest).unwrap();
    for bad in [
        String::new(),
        "{}".to_owned(),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replacen("\"name\": \"", "\"name\": \"../", 1),
        good.replace("\"n_rows\": 200", "\"n_rows\": 201"),
    ] {
        assert_ne!(bad, good);
        std::fs::write(&manifest, bad).unwrap();
        assert!(DiskIndex::open(&out).is_err());
    }
}
