//! How fast is a prompt read?

use std::time::Instant;

use aepo::policy::{SampleParams, SampleRequest, Sampler};
use aepo::seed::Seed;
use aepo::stop::Stop;

use crate::args::PrefillArgs;
use crate::cases::token;
use crate::flops;
use crate::limits::Limits;
use crate::memory;
use crate::rounds::{Work, measure};
use crate::shapes::{For, engine};

/// `aepo-bench prefill`: from an unread prompt to its first sampled token.
pub fn prefill(args: &PrefillArgs) -> anyhow::Result<()> {
    let limits = Limits::measure(args.common.threads);
    memory::reset();
    let mut engine = engine(args.model, For::Sampling, &args.common)?;
    let n = args.tokens as u64;
    let prompt: Vec<u32> = (0..n).map(|i| token(i, engine.config().vocab_size)).collect();
    let work = Work {
        case: format!("prefill {n}"),
        model: args.model.name(),
        tokens: n,
        flop: Some(flops::forward(engine.config(), n, n * (n + 1) / 2, 1)),
        weight_bytes: None,
        detail: serde_json::Map::new(),
    };
    measure(&args.common, limits, &work, || {
        let start = Instant::now();
        let path = engine.open(&prompt)?;
        let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
        let stop = Stop::at(&[]);
        engine.submit(SampleRequest { path, max_tokens: 1, stop, n_turn: 0, params, seed: Seed(1) })?;
        while engine.poll()?.is_empty() {}
        let secs = start.elapsed().as_secs_f64();
        engine.close(path);
        Ok(secs)
    })
}
