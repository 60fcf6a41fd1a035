//! Which corpora are the indexes of these tests built from?

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use aepo_tools::Document;
use aepo_tools::search::disk::{BuildSettings, Built, DiskIndex, IndexError, build};
use serde_json::json;

/// `n` articles of common and rare words, the same for the same `n`; every seventh is the twin of another.
pub fn articles(n: usize) -> Vec<Document> {
    let mut state = 1u64;
    let mut draw = |below: u64| {
        // Knuth's multiplier; the upper bits are good enough for words.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut articles: Vec<Document> = Vec::new();
    for i in 0..n {
        let mut article = Document { id: format!("d{i}"), title: String::new(), text: String::new() };
        if i % 7 == 6 {
            let twin = articles[i - 3].clone();
            article = Document { id: article.id, ..twin };
        } else {
            let mut word = || {
                let size = [4, 40, 400, 4000][draw(4) as usize];
                format!("w{}", draw(size))
            };
            article.title = format!("{} {}", word(), word());
            article.text = (0..20).map(|_| word()).collect::<Vec<_>>().join(" ");
        }
        articles.push(article);
    }
    articles
}

pub fn jsonl(path: &Path, articles: &[Document]) {
    let row = |a: &Document| json!({"id": a.id, "title": a.title, "text": a.text}).to_string() + "\n";
    std::fs::write(path, articles.iter().map(row).collect::<String>()).unwrap();
}

/// Settings that commit every `commit_rows` documents.
pub fn settings(corpus: PathBuf, out: PathBuf, commit_rows: u64) -> BuildSettings {
    BuildSettings { commit_rows, ..BuildSettings::new(corpus, out) }
}

pub fn built(settings: &BuildSettings) -> Result<Built, IndexError> {
    build(settings, |_| ControlFlow::Continue(()))
}

pub const QUERIES: [&str; 8] =
    ["w1", "w2 w3", "w17 w380 w3999", "w0 w1 w2 w3", "w12 w13 w14 w15 w16", "W5, w6!", "zebra", "w1 w39 w399 w3000 w2"];

/// Everything that an index answers to the queries, with the bits of the scores.
pub fn answers(index: &DiskIndex) -> Vec<(String, u64)> {
    let hits = QUERIES.iter().flat_map(|query| index.search(query, 30).unwrap());
    hits.map(|hit| (hit.document.id, hit.score.unwrap().to_bits())).collect()
}
