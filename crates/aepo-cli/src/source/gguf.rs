//! What does a GGUF file hold besides weights? Its tokenizer and template, written as the files of a model directory.

use std::collections::BTreeMap;
use std::path::Path;

use aepo_engine::Engine;
use aepo_engine::config::ModelConfig;
use aepo_engine::gguf::{self, GgufText, SpecialIds};
use aepo_engine::setup::Setup;
use anyhow::Context as _;
use serde_json::{Value, json};

use super::files::{CHAT_TEMPLATE, TOKENIZER_CONFIG};
use super::{Chat, Source, TokenizerFiles};

/// Loads a file.
pub fn load(path: &Path, setup: &Setup) -> anyhow::Result<Source> {
    let (engine, GgufText { tokenizer_json, special_ids, chat_template }) = Engine::load_gguf(path, setup)?;
    let (files, chat) = text(engine.config(), tokenizer_json, special_ids, chat_template)
        .with_context(|| path.display().to_string())?;
    Ok(Source { engine, label: path.to_owned(), files, chat })
}

/// What a file says besides its weights.
pub fn look(path: &Path) -> anyhow::Result<(ModelConfig, TokenizerFiles, Chat)> {
    let (config, GgufText { tokenizer_json, special_ids, chat_template }) = gguf::look(path)?;
    let (files, chat) =
        text(&config, tokenizer_json, special_ids, chat_template).with_context(|| path.display().to_string())?;
    Ok((config, files, chat))
}

/// The files that `transformers` and vLLM would find beside the weights, had they been published that way.
fn text(
    config: &ModelConfig,
    tokenizer_json: String,
    ids: SpecialIds,
    chat_template: Option<String>,
) -> anyhow::Result<(TokenizerFiles, Chat)> {
    let roles = [("bos_token", ids.bos), ("eos_token", ids.eos), ("pad_token", ids.pad)];
    let texts = texts(&tokenizer_json, &roles.iter().filter_map(|(_, id)| *id).collect::<Vec<u32>>())?;
    let special = |(role, id): &(&str, Option<u32>)| Some(((*role).to_owned(), texts.get(id.as_ref()?)?.clone()));
    let specials: BTreeMap<String, String> = roles.iter().filter_map(special).collect();
    let mut settings = json!({
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.max_position_embeddings,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    if let Some(keys) = settings.as_object_mut() {
        keys.extend(specials.iter().map(|(role, token)| (role.clone(), token.as_str().into())));
    }
    let mut others = BTreeMap::from([(TOKENIZER_CONFIG.to_owned(), format!("{settings:#}\n").into_bytes())]);
    others.extend(chat_template.iter().map(|text| (CHAT_TEMPLATE.to_owned(), text.clone().into_bytes())));
    let templates = chat_template.map(|text| ("default".to_owned(), text)).into_iter().collect();
    let chat = Chat { templates, specials, eos_ids: config.token_ids.eos.clone() };
    Ok((TokenizerFiles { json: tokenizer_json.into_bytes(), others }, chat))
}

/// The texts of some ids in a `tokenizer.json`.
fn texts(tokenizer_json: &str, ids: &[u32]) -> anyhow::Result<BTreeMap<u32, String>> {
    let json: Value = serde_json::from_str(tokenizer_json)?;
    let as_id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter_map(|token| Some((as_id(&token["id"])?, token["content"].as_str()?)));
    let vocab = json["model"]["vocab"].as_object().into_iter().flatten();
    let vocab = vocab.filter_map(|(token, id)| Some((as_id(id)?, token.as_str())));
    let wanted = added.chain(vocab).filter(|(id, _)| ids.contains(id));
    Ok(wanted.map(|(id, token)| (id, token.to_owned())).collect())
}
