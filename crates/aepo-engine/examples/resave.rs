//! Is a saved model what was loaded? Loads a model directory and writes it anew, for other programs to look at.
//!
//!     cargo run -p aepo-engine --example resave -- FROM TO f32|bf16 MAX_SHARD_BYTES

use std::path::Path;

use aepo_engine::Engine;
use aepo_engine::checkpoint::Precision;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, precision, max_shard_bytes] = &args[..] else {
        return Err("usage: resave FROM TO f32|bf16 MAX_SHARD_BYTES".into());
    };
    let precision = match precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => return Err(format!("no precision `{other}`: f32 and bf16 are").into()),
    };
    std::fs::create_dir_all(to)?;
    let engine = Engine::load(Path::new(from), 1)?;
    engine.export_shards(Path::new(to), precision, max_shard_bytes.parse()?)?;
    println!("{} weights of {from} are in {to}", engine.n_parameters());
    Ok(())
}
