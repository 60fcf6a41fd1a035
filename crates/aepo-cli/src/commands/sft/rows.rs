//! What does a cold start learn from? Demonstrations, or the conversations of a file as the model reads them.

use std::collections::BTreeSet;

use aepo::config::Config;
use aepo::data::chat::{Chats, Conversation, Layout, parse_chats};
use aepo::prompt::demo::demonstrator;
use aepo::prompt::{Protocol, Renderer};
use aepo::sft::RowSource;
use aepo::sft::dataset::{Dataset, DatasetFacts};
use aepo::sft::rows::Row;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::assets::QUICKSTART;
use crate::error::usage;
use crate::run_dir::RunDir;
use crate::world;

/// Name of [`FileFacts`] in a run directory.
const DATA: &str = "data.json";

/// Which file is learned, and what became of its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Its path.
    pub file: String,
    /// Its size.
    pub n_bytes: u64,
    /// Its checksum.
    pub crc32: u32,
    /// How its rows are written.
    pub layout: Layout,
    /// Keys in it that nothing reads.
    pub unread: BTreeSet<String>,
    /// What became of its rows.
    pub rows: DatasetFacts,
}

/// What `sft.source` names, and, where it is a file, what is in it. A run that `began` with a file goes on with the same.
pub fn source(
    config: &Config,
    renderer: &Renderer,
    context_len: usize,
    began: Option<&FileFacts>,
) -> anyhow::Result<(RowSource, Option<FileFacts>)> {
    let s = &config.sft;
    if s.source == QUICKSTART {
        let drills = s.copy_share.iter().chain(&s.lookup_share).any(|&share| share > 0.0);
        if config.prompt.protocol != Protocol::Tags && drills {
            let message = "rows that repeat or look up (sft.copy_share, sft.lookup_share) are made of the quickstart's \
                           own tags, and prompt.protocol is another";
            return Err(usage(message, "set sft.copy_share = [0.0, 0.0] and sft.lookup_share = [0.0, 0.0]"));
        }
        let demonstrator = Box::new(demonstrator(renderer.tokenizer(), &world::countries()?));
        return Ok((RowSource::Generated { demonstrator, renderer: renderer.clone() }, None));
    }
    let file = &s.source;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read conversations {file}"))?;
    let (n_bytes, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
    if let Some(then) = began.filter(|then| (then.n_bytes, then.crc32) != (n_bytes, crc32)) {
        let message = format!(
            "{file} has changed since the run began: it had {} bytes (CRC-32 {:08x}), and has {n_bytes} ({crc32:08x})",
            then.n_bytes, then.crc32
        );
        return Err(usage(message, "bring the file back, or start another run with another --out"));
    }
    let text = String::from_utf8(bytes).with_context(|| file.clone())?;
    let Chats { layout, conversations, unread } = parse_chats(file, &text)?;
    // A large file is not held as text beside its ids.
    drop(text);
    let encode = |c: Conversation| -> anyhow::Result<Row> {
        renderer.dialogue(&c.messages, &c.tools).with_context(|| format!("{file}, {}", c.at))
    };
    let rows = conversations.into_iter().map(encode).collect::<anyhow::Result<Vec<Row>>>()?;
    let data = Dataset::new(rows, s, context_len).with_context(|| file.clone())?;
    let facts = FileFacts { file: file.clone(), n_bytes, crc32, layout, unread, rows: data.facts.clone() };
    Ok((RowSource::File(data), Some(facts)))
}

impl FileFacts {
    /// What a run that is resumed began with; `None` where it was stopped before that was written.
    pub fn of(dir: &RunDir) -> anyhow::Result<Option<FileFacts>> {
        dir.read_json(DATA)
    }

    /// Writes down what a run begins with.
    pub fn keep(&self, dir: &RunDir) -> anyhow::Result<()> {
        dir.write_json(DATA, self)
    }

    /// One line for people, and one more where something is left out.
    pub fn lines(&self) -> Vec<String> {
        let r = &self.rows;
        let mut lines = vec![format!(
            "{}: {} conversations, {} learned and {} held out, {} tokens per epoch, {} of them trained",
            self.file, r.n_rows, r.n_train, r.n_holdout, r.n_tokens, r.n_trained
        )];
        let limit = r.max_row_tokens;
        let parts = [
            (r.n_too_long, format!("left out, longer than {limit} tokens (the longest has {})", r.longest)),
            (r.n_cut, format!("cut behind {limit} tokens (the longest has {})", r.longest)),
            (r.n_nothing_to_train, format!("left out, nothing to train within {limit} tokens")),
        ];
        let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!("{n} {why}")).collect();
        if !parts.is_empty() {
            lines.push(format!("of them {}", parts.join("; ")));
        }
        if !self.unread.is_empty() {
            let keys: Vec<&str> = self.unread.iter().map(String::as_str).collect();
            lines.push(format!("keys of it that nothing reads: {}", keys.join(", ")));
        }
        lines
    }
}
