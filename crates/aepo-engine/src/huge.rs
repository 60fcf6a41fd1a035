//! Large buffers in large pages: half the misses when a product walks over rows that lie far apart, and one fault for
//! 2 MiB where there were 512. Advice alone: where the system does not follow it, nothing changes.

/// From this many bytes on a buffer is worth it.
const MIN_BYTES: usize = 4 << 20;

/// Asks for large pages under a vector's memory, best before it is first written.
pub(crate) fn advise<T>(buffer: &Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 1 << 21;
        let n_bytes = buffer.capacity() * size_of::<T>();
        if n_bytes < MIN_BYTES {
            return;
        }
        let start = (buffer.as_ptr() as usize).next_multiple_of(PAGE);
        let end = (buffer.as_ptr() as usize + n_bytes) / PAGE * PAGE;
        if start < end {
            let first = buffer.as_ptr().cast::<libc::c_void>().wrapping_byte_add(start - buffer.as_ptr() as usize);
            // SAFETY: the range lies within the vector's own allocation, and this advice changes no content of it. A
            // refusal is no trouble: pages stay as small as they are.
            unsafe { libc::madvise(first.cast_mut(), end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = buffer;
}
