//! How are descriptors handed to another process? Messages with descriptors over a socket that keeps messages apart.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors in one message.
const MAX_FDS: usize = 8;
/// Room for a control message of `MAX_FDS` descriptors, in words, so that it is aligned as its header demands.
const CONTROL_WORDS: usize = 8;

/// Two connected ends. Messages are whole or not at all, and reading at the end of the connection gives an empty one.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: the address is of a live array of two.
    if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are fresh and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Sends one message. Never blocks: a receiver that does not read is an error.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    assert!(fds.len() <= MAX_FDS);
    let mut control = [0u64; CONTROL_WORDS];
    let n_bytes = size_of_val(fds) as libc::c_uint;
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero header is valid; its pointers are to locals that outlive the call, and the control message is
    // written within `control`, which has room for CMSG_SPACE(MAX_FDS * 4) = 48 bytes.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(n_bytes) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(n_bytes) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), n_bytes as usize);
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    match sent {
        n if n < 0 => Err(io::Error::last_os_error()),
        n if n as usize != bytes.len() => Err(io::Error::other("a message was cut")),
        _ => Ok(()),
    }
}

/// Receives one message that is there, of at most 4096 bytes; empty at the end of the connection.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0u8; 4096];
    let mut control = [0u64; CONTROL_WORDS];
    let mut fds = Vec::new();
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: as in `send`; descriptors that arrived are fresh and owned by nobody else.
    let n_read = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let n_read = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT);
        if n_read < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let n_fds = ((*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                fds.extend((0..n_fds).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        n_read
    };
    bytes.truncate(n_read as usize);
    Ok((bytes, fds))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_whole() {
        let (a, b) = pair().unwrap();
        let (mut read, mut write) = io::pipe().unwrap();
        send(&a, b"one", &[]).unwrap();
        send(&a, b"two", &[read.as_raw_fd(), write.as_raw_fd()]).unwrap();
        assert_eq!(receive(&b).unwrap().0, b"one");
        let (bytes, fds) = receive(&b).unwrap();
        assert_eq!((bytes.as_slice(), fds.len()), (b"two".as_slice(), 2));
        let mut copy = std::fs::File::from(fds.into_iter().next_back().unwrap());
        copy.write_all(b"x").unwrap();
        write.write_all(b"y").unwrap();
        let mut got = [0; 2];
        read.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"xy");
        assert_eq!(receive(&b).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(receive(&b).unwrap().0.is_empty());
    }
}
