//! What does a program see of the machine? The directories that its interpreter needs, each at the path it has outside.

use std::path::{Path, PathBuf};

use crate::python::interpreter::Interpreter;

/// Where a call's own directory will be: what lies below is shown elsewhere.
const OWN: &str = "/tmp";
/// There.
const MOVED: &str = "/opt/moved";

/// What the new root is made of.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Root {
    /// What is shown, and where.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Symbolic links: where, and what they say.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Directories that are found elsewhere: path outside, path inside.
    pub moved: Vec<(PathBuf, PathBuf)>,
}

/// The root for an interpreter.
pub(crate) fn root(interpreter: &Interpreter) -> Root {
    let mut root = Root::default();
    let mut wanted: Vec<&Path> = interpreter.read_dirs.iter().map(PathBuf::as_path).collect();
    wanted.push(&interpreter.exe);
    wanted.extend(interpreter.loader.as_deref());
    wanted.extend(["/dev/null", "/dev/zero", "/dev/urandom", "/etc/ld.so.cache"].map(Path::new));
    // What contains others comes before them.
    let mut real: Vec<PathBuf> = wanted.iter().filter_map(|path| path.canonicalize().ok()).collect();
    real.sort();
    for path in real {
        if root.binds.iter().any(|(source, _)| path.starts_with(source)) {
            continue;
        }
        let target = if path.starts_with(OWN) {
            let target = Path::new(MOVED).join(root.moved.len().to_string());
            root.moved.push((path.clone(), target.clone()));
            target
        } else {
            path.clone()
        };
        root.binds.push((path, target));
    }
    for path in wanted {
        link(&mut root, path);
    }
    // Shared memory and named semaphores of the C library: in the call's own directory, with its bounds.
    root.links.push((PathBuf::from("/dev/shm"), PathBuf::from(OWN)));
    root
}

/// A path that leads to its target through a link, as `/lib64` does, leads there inside, too.
fn link(root: &mut Root, path: &Path) {
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    for part in parts {
        if part.starts_with(OWN) || root.binds.iter().any(|(_, target)| part.starts_with(target)) {
            return;
        }
        let is_link = std::fs::symlink_metadata(part).is_ok_and(|meta| meta.file_type().is_symlink());
        if is_link && let (Ok(real), Ok(rest)) = (part.canonicalize(), path.strip_prefix(part)) {
            if !root.links.iter().any(|(link, _)| link == part) {
                root.links.push((part.to_path_buf(), real.clone()));
            }
            // What was found has no links before its rest, so this ends.
            return link(root, &real.join(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_under_the_own_directory_is_moved_and_links_lead_on() {
        let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        std::fs::create_dir_all(dir.path().join("lib/python3/site-packages")).unwrap();
        let lib = dir.path().canonicalize().unwrap().join("lib");
        let interpreter = Interpreter {
            exe: PathBuf::from("/bin/sh").canonicalize().unwrap(),
            version: String::new(),
            packages: Vec::new(),
            loader: None,
            read_dirs: vec![PathBuf::from("/usr/lib"), lib.join("python3/site-packages"), lib.clone()],
            site_dirs: vec![lib.join("python3/site-packages")],
        };
        let root = root(&interpreter);
        assert!(root.binds.contains(&(PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib"))));
        assert_eq!(root.moved, [(lib.clone(), PathBuf::from("/opt/moved/0"))]);
        assert_eq!(root.binds.iter().filter(|(source, _)| source.starts_with(&lib)).count(), 1);
        let mut links = Root::default();
        link(&mut links, Path::new("/proc/self/exe"));
        assert_eq!(links.links[0].0, Path::new("/proc/self"), "{links:?}");
    }
}
