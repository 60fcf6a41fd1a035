//! How does a model want conversations to be written? Its templates, its tokens with a role, and what ends a turn.

use std::collections::BTreeMap;
use std::path::Path;

use aepo_engine::checkpoint::{GENERATION_CONFIG, load_generation_config};
use aepo_engine::config::ModelConfig;
use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use super::files::{CHAT_TEMPLATE, MORE_TEMPLATES, SPECIAL_TOKENS, TOKENIZER_CONFIG, TokenizerFiles};

/// The roles that a template can ask for; the names are those of `tokenizer_config.json`.
pub const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a model says about conversations; empty for one that knows none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chat {
    /// Jinja templates by name: `default`, and `tool_use` where tools have one of their own.
    pub templates: BTreeMap<String, String>,
    /// Texts of the tokens with a role, by the names of [`ROLES`].
    pub specials: BTreeMap<String, String>,
    /// Ids that end a text or a turn: those of `generation_config.json`, or else of `config.json`.
    pub eos_ids: Vec<u32>,
}

impl Chat {
    /// Reads what the files of a model directory say.
    ///
    /// The order of precedence is that of `transformers` 5: templates in files of their own replace those of
    /// `tokenizer_config.json`; `special_tokens_map.json` counts only beside a `tokenizer_config.json` of before added
    /// tokens were listed in it.
    pub fn of(dir: &Path, files: &TokenizerFiles, config: &ModelConfig) -> anyhow::Result<Chat> {
        let settings = object(dir, files, TOKENIZER_CONFIG)?;
        let mut specials = specials(&dir.join(TOKENIZER_CONFIG), &settings)?;
        if !settings.contains_key("added_tokens_decoder") {
            let map = object(dir, files, SPECIAL_TOKENS)?;
            specials.extend(self::specials(&dir.join(SPECIAL_TOKENS), &map)?);
        }
        let mut templates = BTreeMap::new();
        for (name, bytes) in &files.others {
            let more = name.strip_prefix(MORE_TEMPLATES).and_then(|name| name.strip_prefix('/'));
            let name = match more.and_then(|name| name.strip_suffix(".jinja")) {
                Some(more) => more,
                None if name == CHAT_TEMPLATE => "default",
                None => continue,
            };
            let text = String::from_utf8(bytes.clone());
            let text = text.with_context(|| format!("{}: template `{name}` is not UTF-8", dir.display()))?;
            templates.insert(name.to_owned(), text);
        }
        if templates.is_empty() {
            templates = in_settings(&dir.join(TOKENIZER_CONFIG), &settings)?;
        }
        let eos_ids = match eos_of_generation(dir)? {
            ids if ids.is_empty() => config.token_ids.eos.clone(),
            ids => ids,
        };
        Ok(Chat { templates, specials, eos_ids })
    }
}

/// One of the files as a JSON object; an absent one has no keys.
fn object(dir: &Path, files: &TokenizerFiles, name: &str) -> anyhow::Result<Map<String, Value>> {
    let Some(bytes) = files.others.get(name) else { return Ok(Map::new()) };
    serde_json::from_slice(bytes).with_context(|| format!("{}: not a JSON object", dir.join(name).display()))
}

/// A token is a text, or an object that holds it as `content`; `null` says that there is none.
fn specials(path: &Path, keys: &Map<String, Value>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for role in ROLES {
        let token = match keys.get(role) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
            Some(token) => token.as_str(),
        };
        let Some(token) = token else { bail!("{}: key `{role}` is no token", path.display()) };
        found.insert(role.to_owned(), token.to_owned());
    }
    Ok(found)
}

/// The key `chat_template`: a template, or a list of objects with `name` and `template`.
fn in_settings(path: &Path, keys: &Map<String, Value>) -> anyhow::Result<BTreeMap<String, String>> {
    let wrong = || format!("{}: key `chat_template` is neither a template nor a list of named ones", path.display());
    match keys.get("chat_template") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::String(template)) => Ok(BTreeMap::from([("default".to_owned(), template.clone())])),
        Some(Value::Array(list)) => {
            let named = |entry: &Value| {
                let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
                Some((text("name")?, text("template")?))
            };
            list.iter().map(named).collect::<Option<_>>().with_context(wrong)
        }
        Some(_) => bail!(wrong()),
    }
}

/// `eos_token_id` of `generation_config.json`, one or several.
fn eos_of_generation(dir: &Path) -> anyhow::Result<Vec<u32>> {
    let Some(text) = load_generation_config(dir)? else { return Ok(Vec::new()) };
    let keys: Map<String, Value> = serde_json::from_str(&text)?;
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match keys.get("eos_token_id") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(one) => id(one).map(|id| vec![id]),
    };
    ids.with_context(|| {
        format!("{}: key `eos_token_id` is neither an id nor a list of them", dir.join(GENERATION_CONFIG).display())
    })
}
