//! How are files larger than memory read? Mapped, so that the system brings in pages as they are met and drops them.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a whole file for reading.
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    // SAFETY: the mapping is read-only and nothing in this program writes into a weights file: new ones are written
    // under another name and renamed, which leaves the mapped one as it is. What cannot be ruled out is another program
    // that changes the file in place. Bytes are copied out once and every pattern of them is a number, so a change
    // gives other numbers; a file that is cut short meanwhile ends this program by SIGBUS, as for everyone who maps.
    unsafe { Mmap::map(&file) }
}
