//! Which Python runs the programs, and what must it be able to read?

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ToolsError;

/// An interpreter found at start.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// The real binary, behind shims and links.
    pub exe: PathBuf,
    /// The dynamic loader named in the binary, if it has one.
    pub loader: Option<PathBuf>,
    /// Directories a program may read: libraries and the standard library, never a whole prefix.
    pub read_dirs: Vec<PathBuf>,
    /// Directories of installed packages, put on `sys.path`.
    pub site_dirs: Vec<PathBuf>,
}

/// Prints the binary, the prefixes, then `sys.path`, one a line.
const ASK: &str = "import os, sys
for line in [os.path.realpath(sys.executable), sys.prefix, sys.base_prefix, *sys.path]: print(line)";

/// Where shared libraries lie on Linux.
const LIBRARY_DIRS: [&str; 7] =
    ["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"];

/// Asks `program` (or `python3` of the search path, which may be a shell shim) who it really is.
pub fn find(program: Option<&Path>) -> Result<Interpreter, ToolsError> {
    let program = program.unwrap_or(Path::new("python3"));
    let fail = |reason: String| ToolsError::NoPython { program: program.to_path_buf(), reason };
    let answer =
        Command::new(program).args(["-I", "-c", ASK]).stdin(Stdio::null()).output().map_err(|e| fail(e.to_string()))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(fail(format!("{}; {}", answer.status, said.trim().lines().last().unwrap_or("it said nothing"))));
    }
    let said = String::from_utf8(answer.stdout).map_err(|_| fail("its paths are not UTF-8".to_owned()))?;
    let mut lines = said.lines();
    let (Some(exe), Some(prefix), Some(base_prefix)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(fail(format!("it answered {said:?}")));
    };
    let exe = PathBuf::from(exe);
    if !exe.is_absolute() || !exe.is_file() {
        return Err(fail(format!("it says that its binary is {exe:?}")));
    }
    let paths: Vec<PathBuf> = lines.map(PathBuf::from).filter(|path| path.is_absolute() && path.is_dir()).collect();
    let is_site = |path: &PathBuf| path.ends_with("site-packages") || path.ends_with("dist-packages");
    let site_dirs: Vec<PathBuf> = paths.iter().filter(|path| is_site(path)).cloned().collect();
    // Of the remaining entries only those inside the installation count: a `.pth` file may name any directory at all.
    let std_dirs = paths.iter().filter(|path| !is_site(path) && path.starts_with(Path::new(base_prefix).join("lib")));
    let mut read_dirs: Vec<PathBuf> = LIBRARY_DIRS.iter().map(PathBuf::from).collect();
    read_dirs.extend([prefix, base_prefix].iter().flat_map(|p| [Path::new(p).join("lib"), Path::new(p).join("lib64")]));
    read_dirs.extend(std_dirs.cloned());
    read_dirs.extend(site_dirs.iter().cloned());
    read_dirs.retain(|dir| dir.is_dir());
    let mut seen = std::collections::HashSet::new();
    read_dirs.retain(|dir| seen.insert(dir.clone()));
    let loader = loader_of(&exe).map_err(|e| fail(format!("reading {}: {e}", exe.display())))?;
    Ok(Interpreter { exe, loader, read_dirs, site_dirs })
}

/// The `PT_INTERP` path of a 64-bit little-endian ELF file (System V ABI, "Program Loading"); none for a static binary.
fn loader_of(exe: &Path) -> std::io::Result<Option<PathBuf>> {
    const PT_INTERP: u64 = 3;
    let mut head = Vec::new();
    std::fs::File::open(exe)?.take(64 * 1024).read_to_end(&mut head)?;
    let number = |at: usize, width: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(width)?)?;
        Some(bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    };
    let find = || -> Option<PathBuf> {
        if head.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let (table, entry_size, n_entries) =
            (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
        for entry in (0..n_entries).map(|i| table + i * entry_size) {
            if number(entry, 4)? == PT_INTERP {
                let (start, length) = (number(entry + 8, 8)? as usize, number(entry + 32, 8)? as usize);
                let path = head.get(start..start.checked_add(length)?)?;
                return Some(PathBuf::from(std::str::from_utf8(path).ok()?.trim_end_matches('\0')));
            }
        }
        None
    };
    Ok(find())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interpreter_is_named_with_the_cure() {
        let error = find(Some(Path::new("/nonexistent/python3"))).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/python3") && error.contains("apt-get install python3"), "{error}");
    }

    #[test]
    fn a_program_that_is_no_python_is_refused() {
        let error = find(Some(Path::new("/bin/false"))).unwrap_err();
        assert!(matches!(error, ToolsError::NoPython { .. }));
        let error = find(Some(Path::new("/bin/echo"))).unwrap_err();
        assert!(matches!(error, ToolsError::NoPython { .. }));
    }

    #[test]
    fn the_loader_of_a_dynamic_binary_exists() {
        let loader = loader_of(Path::new("/bin/ls")).unwrap().unwrap();
        assert!(loader.is_file(), "{loader:?}");
    }
}
