//! Where do new weights lie until nobody samples from them any more?

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aepo::policy::{PolicyError, PolicyVersion};
use tempfile::TempDir;

use crate::publish::{Published, Publisher, Weights};

/// A directory of published weights, which is gone with this.
pub struct Room {
    dir: TempDir,
    /// What lies there, by version. A server that starts anew asks again for the weights that it should have.
    held: Vec<Published>,
}

impl Room {
    /// Makes it in `parent`, which servers see under the same path; else where temporary files are.
    ///
    /// # Errors
    /// When no directory can be made there.
    pub fn new(parent: Option<&Path>) -> Result<Room, PolicyError> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let mut builder = tempfile::Builder::new();
        // Servers may be another user's.
        let made = builder.prefix("aepo-weights-").permissions(Permissions::from_mode(0o755)).tempdir_in(&parent);
        let failed = |e| PolicyError::Checkpoint(format!("{}: no directory for weights: {e}", parent.display()));
        Ok(Room { dir: made.map_err(failed)?, held: Vec::new() })
    }

    /// The learner's weights as they are now, which it writes once.
    ///
    /// # Errors
    /// When they cannot be had or written, or are of another version than the learner says.
    pub fn publish(&mut self, learner: &mut dyn Publisher) -> Result<Published, PolicyError> {
        let version = learner.trained();
        if let Some(published) = self.held.iter().find(|published| published.version == version) {
            return Ok(published.clone());
        }
        // A name is used once: whoever keeps something under a directory's name must not find other weights there.
        let dir = self.dir.path().join(format!("v{}", version.0));
        std::fs::create_dir(&dir).map_err(|e| failed(&dir, &e))?;
        let published = learner.publish(&dir)?;
        if published.version != version {
            return Err(out_of_step(published.version, version));
        }
        self.held.push(published.clone());
        Ok(published)
    }

    /// Removes what is older than the version that is sampled from.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn forget_before(&mut self, version: PolicyVersion) -> Result<(), PolicyError> {
        let (old, held) = std::mem::take(&mut self.held).into_iter().partition(|published| published.version < version);
        self.held = held;
        let old: Vec<Published> = old;
        for Published { weights: Weights::Adapter(dir) | Weights::Full(dir), .. } in old {
            std::fs::remove_dir_all(&dir).map_err(|e| failed(&dir, &e))?;
        }
        Ok(())
    }
}

fn failed(dir: &Path, error: &std::io::Error) -> PolicyError {
    PolicyError::Checkpoint(format!("{}: {error}", dir.display()))
}

/// The two halves of a policy have different weights where they must not.
pub(crate) fn out_of_step(sampled: PolicyVersion, trained: PolicyVersion) -> PolicyError {
    PolicyError::Remote(format!(
        "the sampler has the weights of step {} and the learner those of step {}; go on from the last checkpoint with \
         --resume",
        sampled.0, trained.0
    ))
}
