//! How fast are tokens sampled along live paths that share a prompt?

use std::time::Instant;

use aepo::policy::{SampleParams, SampleRequest, Sampler};
use aepo::seed::Seed;
use aepo::stop::Stop;

use crate::args::DecodeArgs;
use crate::cases::token;
use crate::flops;
use crate::limits::Limits;
use crate::memory;
use crate::rounds::{Work, measure};
use crate::shapes::{For, engine};

/// `aepo-bench decode`: `tokens` on each of `paths` forks of one prompt. The prompt is read, and the forks are made,
/// before the clock starts; every token is drawn from the whole vocabulary at temperature 1 and comes with its
/// log-probability and its entropy.
pub fn decode(args: &DecodeArgs) -> anyhow::Result<()> {
    let limits = Limits::measure(args.common.threads);
    memory::reset();
    let mut engine = engine(args.model, For::Sampling, &args.common)?;
    let (n, paths, steps) = (args.prompt as u64, args.paths as u64, args.tokens as u64);
    anyhow::ensure!(n > 0 && paths > 0 && steps > 0, "a prompt, a path and a token are the least to measure");
    let prompt: Vec<u32> = (0..n).map(|i| token(i, engine.config().vocab_size)).collect();
    let config = engine.config();
    // A step reads the last token of the prompt first: step `i` sees `n + i` tokens.
    let n_seen = paths * (steps * n + steps * (steps - 1) / 2);
    let stored = args.common.precision.n_bytes() as u64 * (flops::block_weights(config) + flops::head_weights(config));
    let work = Work {
        case: format!("decode {paths} paths"),
        model: args.model.name(),
        tokens: paths * steps,
        flop: Some(flops::forward(config, paths * steps, n_seen, paths * steps)),
        weight_bytes: Some(steps * stored),
        detail: [("prompt".to_owned(), n.into()), ("steps".to_owned(), steps.into())].into_iter().collect(),
    };
    measure(&args.common, limits, &work, || {
        let root = engine.open(&prompt)?;
        // A fork at the end makes the engine read the prompt but for its last token.
        let forks = (0..paths).map(|_| engine.fork(root, prompt.len())).collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        for (i, &path) in forks.iter().enumerate() {
            let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
            let (stop, seed) = (Stop::at(&[]), Seed(i as u64));
            engine.submit(SampleRequest { path, max_tokens: args.tokens, stop, n_turn: 0, params, seed })?;
        }
        let mut n_done = 0;
        while n_done < forks.len() {
            n_done += engine.poll()?.len();
        }
        let secs = start.elapsed().as_secs_f64();
        forks.into_iter().chain([root]).for_each(|path| engine.close(path));
        Ok(secs)
    })
}
