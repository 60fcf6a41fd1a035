//! Which files beside the weights make text of a model's ids? They are handed on, byte for byte, wherever weights go.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use aepo_engine::checkpoint::write_whole;
use anyhow::{Context as _, bail};

use crate::checkpoint::TOKENIZER;

/// Names of tokens with a role, of tokens in general, and of templates.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// What older programs wrote tokens with a role into.
pub const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// The template of conversations.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// Folder of further templates, `NAME.jinja`.
pub const MORE_TEMPLATES: &str = "additional_chat_templates";

/// Files of this folder that other programs read besides `tokenizer.json`. Those with the vocabulary in older forms
/// are among them, because some programs look for them first.
const OTHERS: [&str; 7] = [
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    CHAT_TEMPLATE,
    "chat_template.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// No file about text is larger; the vocabularies of the largest models have some twenty megabytes.
const MAX_BYTES: u64 = 1 << 28;

/// The files, by name; those in a folder as `folder/name`.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`
    pub json: Vec<u8>,
    /// All others that are there.
    pub others: BTreeMap<String, Vec<u8>>,
}

impl TokenizerFiles {
    /// A vocabulary with nothing besides.
    pub fn alone(json: Vec<u8>) -> TokenizerFiles {
        TokenizerFiles { json, others: BTreeMap::new() }
    }

    /// Reads those of a model directory.
    pub fn read(dir: &Path) -> anyhow::Result<TokenizerFiles> {
        let json = match read(&dir.join(TOKENIZER))? {
            Some(json) => json,
            None if dir.join("vocab.json").exists() || dir.join("tokenizer.model").exists() => bail!(
                "{}: missing; its vocabulary is here in another form: let AutoTokenizer.from_pretrained(…) of \
                 transformers save it anew, which writes this file",
                dir.join(TOKENIZER).display()
            ),
            None => bail!("{}: missing", dir.join(TOKENIZER).display()),
        };
        let mut others = BTreeMap::new();
        for name in OTHERS.iter().map(|name| (*name).to_owned()).chain(more_templates(dir)?) {
            others.extend(read(&dir.join(&name))?.map(|bytes| (name, bytes)));
        }
        Ok(TokenizerFiles { json, others })
    }

    /// Writes them into a model directory.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        write_whole(&dir.join(TOKENIZER), &self.json)?;
        for (name, bytes) in &self.others {
            let path = dir.join(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            write_whole(&path, bytes)?;
        }
        Ok(())
    }
}

/// `additional_chat_templates/NAME.jinja` for each that is there, in order.
fn more_templates(dir: &Path) -> anyhow::Result<Vec<String>> {
    let folder = dir.join(MORE_TEMPLATES);
    let entries = match std::fs::read_dir(&folder) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| folder.display().to_string())?.file_name();
        names.extend(name.to_str().filter(|name| name.ends_with(".jinja")).map(|n| format!("{MORE_TEMPLATES}/{n}")));
    }
    names.sort();
    Ok(names)
}

/// The bytes of a file, if it is there.
fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let metadata = match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata.with_context(|| path.display().to_string())?,
    };
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        bail!("{}: not a regular file of at most {} MiB", path.display(), MAX_BYTES >> 20);
    }
    Ok(Some(std::fs::read(path).with_context(|| path.display().to_string())?))
}
