//! How does a call leave nothing behind? The private directory of one worker: measured while a call runs, emptied after.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Deeper nesting than this counts as too much.
const MAX_DEPTH: usize = 32;

/// Whether the files under `dir`, with those that `pid` holds open though unlinked, take more than `max_bytes` on disk,
/// or whether there are more than `max_entries` of them.
pub(crate) fn is_over(dir: &Path, pid: i32, max_bytes: u64, max_entries: u64) -> bool {
    let mut n_entries = 0;
    let mut n_bytes = unlinked_bytes(pid);
    let mut todo = vec![(dir.to_path_buf(), 0)];
    while let Some((dir, depth)) = todo.pop() {
        // A directory that vanishes or cannot be read meanwhile is the program's doing; its entry has been counted.
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            n_entries += 1;
            let Ok(meta) = entry.metadata() else { continue };
            n_bytes += meta.blocks() * 512;
            if n_entries > max_entries || n_bytes > max_bytes || depth > MAX_DEPTH {
                return true;
            }
            if meta.is_dir() {
                todo.push((entry.path(), depth + 1));
            }
        }
    }
    n_bytes > max_bytes
}

/// Disk space of files that `pid` holds open but that have no name any more.
fn unlinked_bytes(pid: i32) -> u64 {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    let metas = entries.flatten().filter_map(|entry| fs::metadata(entry.path()).ok());
    metas.filter(|meta| meta.is_file() && meta.nlink() == 0).map(|meta| meta.blocks() * 512).sum()
}

/// Removes everything under `dir`. A nest of any depth is flattened by moving inner directories up, so neither the
/// stack, nor open files, nor the longest allowed path bound what can be removed.
pub(crate) fn clear(dir: &Path) -> io::Result<()> {
    let mut next_name = 0u64;
    loop {
        let entries: Vec<_> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            let inner = entry.path();
            fs::set_permissions(&inner, fs::Permissions::from_mode(0o700))?;
            for child in fs::read_dir(&inner)? {
                let child = child?;
                if child.file_type()?.is_dir() {
                    fs::set_permissions(child.path(), fs::Permissions::from_mode(0o700))?;
                    fs::rename(child.path(), free_name(dir, &mut next_name))?;
                } else {
                    fs::remove_file(child.path())?;
                }
            }
            fs::remove_dir(&inner)?;
        }
    }
}

fn free_name(dir: &Path, next_name: &mut u64) -> PathBuf {
    loop {
        let path = dir.join(format!("moved-up-{next_name}"));
        *next_name += 1;
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_nest_is_over_and_is_cleared() {
        let root = tempfile::tempdir().unwrap();
        // Built inside out: each round wraps what is there into one more directory, so no long path is ever used.
        for round in 0..3000 {
            let (old, new) = (root.path().join("nest"), root.path().join("outer"));
            fs::create_dir(&new).unwrap();
            if round > 0 {
                fs::rename(&old, new.join("nest")).unwrap();
            }
            fs::write(new.join("file"), "x").unwrap();
            fs::rename(&new, &old).unwrap();
        }
        assert!(is_over(root.path(), 0, u64::MAX, 4096));
        clear(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn locked_directories_and_taken_names_do_not_stop_the_clearing() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c")).unwrap();
        fs::create_dir(root.path().join("moved-up-0")).unwrap();
        fs::set_permissions(root.path().join("a/b"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o0)).unwrap();
        clear(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn size_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("big"), vec![1u8; 1 << 20]).unwrap();
        assert!(is_over(root.path(), 0, 1 << 19, 4096));
        assert!(!is_over(root.path(), 0, 1 << 21, 4096));
    }
}
