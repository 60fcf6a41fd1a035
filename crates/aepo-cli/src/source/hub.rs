//! What does a name mean that is no path? A model of the hub, which is fetched before it is loaded.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use aepo_engine::checkpoint::load_adapter_config;
use aepo_engine::gguf::is_gguf;
use aepo_tools::hub::{Event, Fetched, Hub, HubError, ModelName, What};

use super::{Place, is_adapter, place};
use crate::error::Interrupted;
use crate::interrupt;
use crate::progress::Teller;

/// What a name means.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    /// A model on this machine.
    Here(Place),
    /// One of the hub.
    Hub(ModelName),
}

/// The model of the hub that a name means, written in `folder`. A path that exists is a path, and so is one whose first
/// folder exists: `runs/tpyo` is never asked for on the network. With a revision, `runs/model@main`, it is the hub's.
pub fn hub_name(name: &str, folder: &Path) -> Option<ModelName> {
    let parsed = ModelName::parse(name).ok()?;
    let (first, rest) = name.split_once('/')?;
    let is_file_here = is_gguf(Path::new(rest)) && parsed.file.is_none() && parsed.revision.is_none();
    let is_path = folder.join(name).exists() || (parsed.revision.is_none() && folder.join(first).is_dir());
    (!is_path && !is_file_here).then_some(parsed)
}

/// What a name means to somebody in the current directory.
pub fn named(name: &str) -> anyhow::Result<Named> {
    match hub_name(name, Path::new("")) {
        Some(name) => Ok(Named::Hub(name)),
        None => place(name).map(Named::Here),
    }
}

/// Brings a model onto this machine, and gives the name under which it stays the same: with the commit behind it.
pub fn bring(
    named: &Named,
    what: What,
    offline: bool,
    teller: &mut Teller,
) -> anyhow::Result<(Place, Option<ModelName>)> {
    let name = match named {
        Named::Here(place) => {
            bring_base(place, what, offline, teller)?;
            return Ok((place.clone(), None));
        }
        Named::Hub(name) => name,
    };
    let mut hub = Hub::from_environment(&|variable| std::env::var(variable).ok())?;
    hub.offline |= offline;
    let teller = RefCell::new(teller);
    let tell = |event: Event<'_>| {
        teller.borrow_mut().fetching(&event);
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let Fetched { path, commit } = hub.fetch(name, what, &tell).map_err(|error| match error {
        HubError::Stopped { .. } => {
            let hint = "what was fetched is kept; the same command goes on from there".to_owned();
            Interrupted { hint: Some(hint) }.into()
        }
        error => anyhow::Error::new(error),
    })?;
    Ok((on_disk(path), Some(name.at(&commit))))
}

/// The model that LoRA's matrices of a directory belong to, where the hub has it: brought here before both are loaded.
fn bring_base(place: &Place, what: What, offline: bool, teller: &mut Teller) -> anyhow::Result<()> {
    if let Place::Directory(dir) = place
        && is_adapter(dir)
        && let Some(name) = hub_name(&load_adapter_config(dir)?.base, Path::new(""))
    {
        bring(&Named::Hub(name), what, offline, teller)?;
    }
    Ok(())
}

/// A model of the hub as it was last fetched.
pub fn from_cache(name: &ModelName) -> anyhow::Result<Place> {
    let hub = Hub { offline: true, ..Hub::from_environment(&|variable| std::env::var(variable).ok())? };
    Ok(on_disk(hub.fetch(name, What::Everything, &|_| ControlFlow::Continue(()))?.path))
}

fn on_disk(path: PathBuf) -> Place {
    if is_gguf(&path) && path.is_file() { Place::Gguf(path) } else { Place::Directory(path) }
}

/// Whether a name of the hub is another with a commit behind it.
pub fn is_pinned(pinned: &str, name: &str) -> bool {
    match (ModelName::parse(pinned), ModelName::parse(name)) {
        (Ok(pinned), Ok(name)) => {
            let is_commit = pinned.revision.as_deref().is_some_and(aepo_tools::hub::is_commit);
            let free = !name.revision.as_deref().is_some_and(aepo_tools::hub::is_commit);
            is_commit && free && (pinned.repo, pinned.file) == (name.repo, name.file)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_exist_or_begin_in_a_folder_that_does_are_no_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("runs/cold")).unwrap();
        let is_hub = |name: &str| hub_name(name, dir.path()).is_some();
        for name in ["maker/model", "maker/model@main", "maker/model/file.gguf", "runs/cold2@main"] {
            assert!(is_hub(name), "{name}");
        }
        for name in [
            "runs/cold",
            "runs/tpyo",
            "quickstart",
            "./maker/model",
            "/maker/model",
            "../maker/model",
            "models/x.gguf",
            "a/b/c/d",
        ] {
            assert!(!is_hub(name), "{name}");
        }
    }

    #[test]
    fn a_pinned_name_is_its_name_with_a_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(is_pinned(&format!("a/b@{commit}"), "a/b"));
        assert!(is_pinned(&format!("a/b@{commit}"), "a/b@main"));
        assert!(!is_pinned(&format!("a/b@{commit}"), "a/c"));
        assert!(!is_pinned("a/b@main", "a/b"));
        assert!(!is_pinned(&format!("a/b@{commit}"), &format!("a/b@{}", commit.replace('0', "1"))));
    }
}
