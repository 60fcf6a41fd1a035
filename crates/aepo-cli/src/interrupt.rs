//! Has somebody asked us to stop? The first Ctrl-C stops at a safe point, the second at once.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aepo::policy::{
    Completion, Learner, PathId, Policy, PolicyError, PolicyVersion, SampleRequest, Sampler, StepParams, StepReport,
    TokenStats,
};
use aepo::train::batch::TreeBatch;
use anyhow::Context as _;

static ASKED: AtomicBool = AtomicBool::new(false);
/// Kept apart from `ASKED`: only a second signal may stop a run at once.
static ENDED_INPUT: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C and for the signals by which a system ends a program.
pub fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            // Everything on the disk is written whole under another name first, so nothing is left half done.
            std::process::exit(130);
        }
        eprintln!("\nstopping at the next safe point; once more stops at once");
    })
    .context("cannot listen for Ctrl-C")
}

/// Counts the end of standard input as being asked to stop. A program that holds the other end of a pipe stops this
/// one by closing it, and has closed it even where it was killed.
pub fn watch_input() {
    std::thread::spawn(|| {
        // An input that cannot be read has ended, too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        ENDED_INPUT.store(true, Ordering::SeqCst);
    });
}

/// Whether to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst) || ENDED_INPUT.load(Ordering::SeqCst)
}

/// An engine whose sampling ends with an error once somebody asks to stop. A rollout changes no weights, so it can be
/// dropped anywhere; an update is never cut, because only `poll` looks.
pub struct Interruptible<'a>(pub &'a mut dyn Policy);

impl Sampler for Interruptible<'_> {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.0.context_len()
    }
    fn version(&self) -> PolicyVersion {
        self.0.version()
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        self.0.open(tokens)
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.0.append(path, tokens)
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        self.0.fork(path, n_tokens)
    }
    fn close(&mut self, path: PathId) {
        self.0.close(path);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        self.0.submit(request)
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        if asked() {
            return Err(PolicyError::Misuse("sampling was interrupted".to_owned()));
        }
        self.0.poll()
    }
}

impl Learner for Interruptible<'_> {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        self.0.forward(batch, temperature, keep)
    }
    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        self.0.backward(batch, dlogp, dentropy)
    }
    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        self.0.step(params)
    }
    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        self.0.save(dir, optimizer)
    }
}

/// A sampler that ends with an error once somebody asks to stop, as [`Interruptible`] does.
pub struct Halting<'a>(pub &'a mut dyn Sampler);

impl Sampler for Halting<'_> {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.0.context_len()
    }
    fn version(&self) -> PolicyVersion {
        self.0.version()
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        self.0.open(tokens)
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.0.append(path, tokens)
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        self.0.fork(path, n_tokens)
    }
    fn close(&mut self, path: PathId) {
        self.0.close(path);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        self.0.submit(request)
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        if asked() {
            return Err(PolicyError::Misuse("sampling was interrupted".to_owned()));
        }
        self.0.poll()
    }
}
