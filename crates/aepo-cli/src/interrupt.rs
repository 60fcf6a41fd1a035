//! Has somebody asked us to stop? The first Ctrl-C stops at a safe point, the second at once.

use std::sync::atomic::{AtomicBool, Ordering};

use aepo::policy::polled::Polled;
use aepo::policy::{Completion, PolicyError, Sampler};
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

/// A policy whose sampling ends with an error once somebody asks to stop. A rollout changes no weights, so it can be
/// dropped anywhere; an update is never cut, because only polls look.
pub fn interruptible<P: Sampler + ?Sized>(policy: &mut P) -> Polled<'_, P, Poll<P>> {
    Polled { policy, poll: poll_unless_asked }
}

type Poll<P> = fn(&mut P) -> Result<Vec<Completion>, PolicyError>;

fn poll_unless_asked<P: Sampler + ?Sized>(policy: &mut P) -> Result<Vec<Completion>, PolicyError> {
    match asked() {
        true => Err(PolicyError::Misuse("sampling was interrupted".to_owned())),
        false => policy.poll(),
    }
}
