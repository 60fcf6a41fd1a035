//! Which Python runs the programs, and what must it be able to read?

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ring::digest::{Context, SHA256};

use crate::error::ToolsError;

/// An interpreter found at start.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// The real binary, behind shims and links.
    pub exe: PathBuf,
    /// Its version and how it was built, in its own words (`sys.version`), on one line.
    pub version: String,
    /// Installed packages with their versions, such as `numpy-2.1.0`, sorted.
    pub packages: Vec<String>,
    /// The dynamic loader named in the binary, if it has one.
    pub loader: Option<PathBuf>,
    /// Directories a program may read: libraries and the standard library, never a whole prefix.
    pub read_dirs: Vec<PathBuf>,
    /// Directories of installed packages, put on `sys.path`.
    pub site_dirs: Vec<PathBuf>,
}

impl Interpreter {
    /// Which interpreter it is with all that is installed there: the same program may answer another way elsewhere.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut packages = Context::new(&SHA256);
        self.packages.iter().for_each(|package| packages.update(format!("{package}\n").as_bytes()));
        let packages: String = packages.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:?} {:?} packages {packages}", self.exe, self.version)
    }
}

/// Prints the binary, the prefixes, the version, then `sys.path`, one a line.
const ASK: &str = "import os, sys
version = ' '.join(sys.version.split())
for line in [os.path.realpath(sys.executable), sys.prefix, sys.base_prefix, version, *sys.path]: print(line)";

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
    heard(&said).map_err(fail)
}

/// What the interpreter said of itself, and what its directories add to it.
fn heard(said: &str) -> Result<Interpreter, String> {
    let mut lines = said.lines();
    let mut next = || lines.next().ok_or_else(|| format!("it answered {said:?}"));
    let (exe, prefix, base_prefix, version) = (PathBuf::from(next()?), next()?, next()?, next()?.to_owned());
    if !exe.is_absolute() || !exe.is_file() {
        return Err(format!("it says that its binary is {exe:?}"));
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
    let loader = loader_of(&exe).map_err(|e| format!("reading {}: {e}", exe.display()))?;
    let packages = packages(&site_dirs);
    Ok(Interpreter { exe, version, packages, loader, read_dirs, site_dirs })
}

/// What is installed, by the names of the directories that installers leave (PyPA, "Recording installed projects").
fn packages(site_dirs: &[PathBuf]) -> Vec<String> {
    let entries = site_dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let package =
        |name: String| [".dist-info", ".egg-info"].iter().find_map(|end| Some(name.strip_suffix(end)?.to_owned()));
    let mut packages: Vec<String> = names.filter_map(package).collect();
    packages.sort();
    packages
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
    fn another_version_place_or_package_is_another_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site-packages");
        let said = |exe: &str, version: &str| {
            let heard = heard(&format!("{exe}\n/usr\n/usr\n{version}\n{}\n", site.display())).unwrap();
            (heard.identity(), heard.packages)
        };
        std::fs::create_dir_all(site.join("numpy-2.1.0.dist-info")).unwrap();
        std::fs::create_dir_all(site.join("numpy")).unwrap();
        let first = said("/bin/ls", "3.12.3 (main) [GCC]");
        assert_eq!(first.1, ["numpy-2.1.0"]);
        assert!(first.0.starts_with("\"/bin/ls\" \"3.12.3 (main) [GCC]\" packages "), "{}", first.0);
        assert_eq!(first, said("/bin/ls", "3.12.3 (main) [GCC]"));
        assert_ne!(first.0, said("/bin/ls", "3.12.4 (main) [GCC]").0);
        assert_ne!(first.0, said("/bin/cat", "3.12.3 (main) [GCC]").0);
        std::fs::create_dir_all(site.join("sympy-1.13.dist-info")).unwrap();
        assert_ne!(first.0, said("/bin/ls", "3.12.3 (main) [GCC]").0);
    }

    #[test]
    fn the_real_one_says_its_version() {
        let interpreter = find(None).unwrap();
        assert!(interpreter.version.starts_with("3."), "{}", interpreter.version);
    }

    #[test]
    fn the_loader_of_a_dynamic_binary_exists() {
        let loader = loader_of(Path::new("/bin/ls")).unwrap().unwrap();
        assert!(loader.is_file(), "{loader:?}");
    }
}
