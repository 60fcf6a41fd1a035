//! What is in an archive of weights? Two files of PEFT, which are taken out of it and nothing else is.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use aepo::config::lora::Projection;
use flate2::read::GzDecoder;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::error::TinkerError;

/// The description, and the matrices.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// Longest file of an archive, bytes.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// Longest archive, unpacked, bytes: what is passed over counts too.
const MAX_BYTES: u64 = 8 << 30;
/// Entries that an archive may have.
const MAX_ENTRIES: usize = 1000;

/// Takes the description and the matrices out of a `tar.gz` into `dir`, which exists. `base` is the model that they are
/// said to belong to from now on: where that model is here, and not on the server.
pub fn extract(host: &str, archive: &[u8], dir: &Path, base: &str) -> Result<(), TinkerError> {
    let broken = |why: String| TinkerError::Archive { host: host.to_owned(), why };
    let mut found: [Option<Vec<u8>>; 2] = [None, None];
    let mut tar = tar::Archive::new(GzDecoder::new(archive).take(MAX_BYTES));
    let entries = tar.entries().map_err(|e| broken(format!("cannot be read: {e}")))?;
    for (i, entry) in entries.enumerate() {
        let entry = entry.map_err(|e| broken(format!("cannot be read: {e}")))?;
        if i >= MAX_ENTRIES {
            return Err(broken(format!("has more than {MAX_ENTRIES} entries")));
        }
        // Only the last part of a name counts, and only these two names: nothing can be written anywhere else.
        let path = entry.path_bytes().into_owned();
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
        let Some(which) = [CONFIG, WEIGHTS].iter().position(|known| known.as_bytes() == name) else { continue };
        if !entry.header().entry_type().is_file() {
            return Err(broken("holds something that is not a file under a known name".to_owned()));
        }
        let mut bytes = Vec::new();
        entry.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|e| broken(format!("cannot be read: {e}")))?;
        if found[which].replace(bytes).is_some() {
            return Err(broken("holds a file twice".to_owned()));
        }
    }
    let [Some(config), Some(weights)] = found else {
        return Err(broken(format!("holds no {CONFIG} or no {WEIGHTS}")));
    };
    let config = describe(&config, &weights, base).map_err(broken)?;
    for (name, bytes) in [(CONFIG, format!("{config:#}\n").as_bytes()), (WEIGHTS, &weights)] {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(|e| TinkerError::File { path, why: e.to_string() })?;
    }
    Ok(())
}

/// The description with the modules that there are matrices for: SkyRL leaves them out.
fn describe(config: &[u8], weights: &[u8], base: &str) -> Result<Value, String> {
    let mut config: Map<String, Value> =
        serde_json::from_slice(config).map_err(|e| format!("has a description that is no JSON object: {e}"))?;
    let tensors = SafeTensors::deserialize(weights).map_err(|e| format!("has damaged matrices: {e}"))?;
    let names: BTreeSet<Projection> =
        tensors.names().into_iter().filter_map(|name| Projection::named(name.rsplit('.').nth(2)?)).collect();
    config.insert("target_modules".to_owned(), json!(names.iter().map(|p| p.name()).collect::<Vec<_>>()));
    config.insert("base_model_name_or_path".to_owned(), json!(base));
    Ok(Value::Object(config))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn weights() -> Vec<u8> {
        let name = |part: &str| format!("base_model.model.model.layers.0.{part}.weight");
        let data = [0u8; 8];
        let view = || safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 2], &data).unwrap();
        let names = ["mlp.up_proj.lora_A", "mlp.up_proj.lora_B", "self_attn.q_proj.lora_A"].map(name);
        safetensors::serialize(names.iter().map(|n| (n.as_str(), view())), None).unwrap()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // As hostile archives do, by hand: the library refuses to write such names.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&tar.into_inner().unwrap()).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn two_files_are_taken_out_and_say_what_they_belong_to() {
        let dir = tempfile::tempdir().unwrap();
        let config = br#"{"peft_type":"LORA","r":1,"lora_alpha":32,"target_modules":null}"#;
        let files: [(&str, &[u8]); 3] = [
            ("./adapter_config.json", config),
            ("../../README.md", b"x"),
            ("../../../adapter_model.safetensors", &weights()),
        ];
        extract("h", &archive(&files), dir.path(), "here").unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [CONFIG, WEIGHTS], "whatever path the archive says");
        let config: Value = serde_json::from_slice(&std::fs::read(dir.path().join(CONFIG)).unwrap()).unwrap();
        assert_eq!(config["target_modules"], json!(["q_proj", "up_proj"]));
        assert_eq!((&config["base_model_name_or_path"], &config["r"]), (&json!("here"), &json!(1)));
    }

    #[test]
    fn an_archive_that_is_none_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let weights = weights();
        let config: &[u8] = b"{}";
        let whole = archive(&[(CONFIG, config), (WEIGHTS, &weights)]);
        let bad = [
            (Vec::new(), "cannot be read"),
            (b"<html>".to_vec(), "cannot be read"),
            (whole[..whole.len() / 2].to_vec(), "cannot be read"),
            (archive(&[(CONFIG, config)]), "holds no"),
            (archive(&[(CONFIG, config), ("a/adapter_config.json", config), (WEIGHTS, &weights)]), "twice"),
            (archive(&[(CONFIG, b"[]"), (WEIGHTS, &weights)]), "no JSON object"),
            (archive(&[(CONFIG, config), (WEIGHTS, &weights[..20])]), "damaged"),
        ];
        for (archive, expected) in bad {
            let error = extract("h", &archive, dir.path(), "here").unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
