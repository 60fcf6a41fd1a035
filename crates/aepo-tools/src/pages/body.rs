//! How much of a page is read? No more than the caps, on the wire and unpacked; where one ends the page, it is said.

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Where a page was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// More came than the cap on bytes on the wire.
    Wire,
    /// It unpacked to more than the cap on bytes.
    Unpacked,
}

/// How a page may be packed (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Deflate,
}

impl Packing {
    /// What is offered to servers.
    pub(super) const OFFERED: &'static str = "gzip, deflate";

    /// Reads a `Content-Encoding` header; `Err` holds what is not understood.
    pub(super) fn parse(header: Option<&str>) -> Result<Packing, String> {
        let name = header.unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(Packing::None),
            "gzip" | "x-gzip" => Ok(Packing::Gzip),
            "deflate" => Ok(Packing::Deflate),
            _ => Err(name),
        }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) bytes: Vec<u8>,
    /// Bytes that came over the wire.
    pub(super) n_wire: u64,
    pub(super) cut: Option<Cut>,
}

/// Reads and unpacks until the end or a cap. Memory: `max_unpacked` and a window of the packing.
pub(super) fn unpack(
    wire: impl Read,
    packing: Packing,
    max_wire: u64,
    max_unpacked: usize,
) -> Result<Unpacked, io::Error> {
    let mut wire = Capped { inner: wire, left: max_wire, n: 0, is_cut: false };
    let mut bytes = Vec::new();
    let outcome = match packing {
        Packing::None => fill(&mut bytes, &mut wire, max_unpacked),
        Packing::Gzip => fill(&mut bytes, MultiGzDecoder::new(&mut wire), max_unpacked),
        Packing::Deflate => {
            // The standard means zlib (RFC 1950); some servers send the bare stream (RFC 1951).
            let mut head = [0; 2];
            let n = read_up_to(&mut wire, &mut head)?;
            let is_zlib = n == 2 && head[0] & 0x0f == 8 && u16::from_be_bytes(head).is_multiple_of(31);
            let whole = io::Cursor::new(head).take(n as u64).chain(&mut wire);
            match is_zlib {
                true => fill(&mut bytes, ZlibDecoder::new(whole), max_unpacked),
                false => fill(&mut bytes, DeflateDecoder::new(whole), max_unpacked),
            }
        }
    };
    let cut = match outcome {
        Ok(true) => Some(Cut::Unpacked),
        Ok(false) => wire.is_cut.then_some(Cut::Wire),
        // A packed page that was cut ends in the middle of its stream: what came before is good.
        Err(_) if wire.is_cut => Some(Cut::Wire),
        Err(e) => return Err(e),
    };
    Ok(Unpacked { bytes, n_wire: wire.n, cut })
}

/// Reads to the end or until `max` bytes are there; whether there was more.
fn fill(bytes: &mut Vec<u8>, mut from: impl Read, max: usize) -> io::Result<bool> {
    let mut chunk = [0; 16 << 10];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                let take = n.min(max - bytes.len());
                bytes.extend_from_slice(&chunk[..take]);
                if take < n {
                    return Ok(true);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match from.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// A reader that ends after so many bytes and knows whether there would have been more.
struct Capped<R> {
    inner: R,
    left: u64,
    n: u64,
    is_cut: bool,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.is_cut {
            return Ok(0);
        }
        if self.left == 0 {
            let mut one = [0];
            self.is_cut = self.inner.read(&mut one)? > 0;
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..most])?;
        self.left -= n as u64;
        self.n += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = GzEncoder::new(Vec::new(), Compression::best());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn every_packing_gives_the_bytes_back() {
        let text = b"some text, some text, some text".repeat(1000);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(&text).unwrap();
        let two = [gzip(&text[..100]), gzip(&text[100..])].concat();
        for (packed, packing) in [
            (text.clone(), Packing::None),
            (gzip(&text), Packing::Gzip),
            (two, Packing::Gzip),
            (zlib.finish().unwrap(), Packing::Deflate),
            (raw.finish().unwrap(), Packing::Deflate),
        ] {
            let unpacked = unpack(packed.as_slice(), packing, 1 << 20, 1 << 20).unwrap();
            assert_eq!((unpacked.n_wire, unpacked.cut), (packed.len() as u64, None), "{packing:?}");
            assert_eq!(unpacked.bytes, text, "{packing:?}");
        }
        assert_eq!(unpack(&b""[..], Packing::Deflate, 9, 9).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn caps_cut_where_they_are_and_not_before() {
        let text = vec![b'x'; 5000];
        let cut = |max_wire, max| {
            let unpacked = unpack(text.as_slice(), Packing::None, max_wire, max).unwrap();
            (unpacked.bytes.len(), unpacked.cut)
        };
        assert_eq!(cut(5000, 5000), (5000, None));
        assert_eq!(cut(4999, 5000), (4999, Some(Cut::Wire)));
        assert_eq!(cut(5000, 4999), (4999, Some(Cut::Unpacked)));
        assert_eq!(cut(0, 0), (0, Some(Cut::Wire)));
    }

    #[test]
    fn a_bomb_unpacks_to_the_cap_and_a_cut_or_damaged_stream_is_told_apart() {
        let bomb = gzip(&vec![0; 50 << 20]);
        assert!(bomb.len() < 100 << 10);
        let unpacked = unpack(bomb.as_slice(), Packing::Gzip, 1 << 20, 1 << 20).unwrap();
        assert_eq!((unpacked.bytes.len(), unpacked.cut), (1 << 20, Some(Cut::Unpacked)));

        let noise: Vec<u8> = (0..40_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
        let packed = gzip(&noise);
        let unpacked = unpack(packed.as_slice(), Packing::Gzip, 50_000, 1 << 20).unwrap();
        assert!(unpacked.cut == Some(Cut::Wire) && noise.starts_with(&unpacked.bytes) && unpacked.bytes.len() > 20_000);
        assert!(unpack(&packed[..50_000], Packing::Gzip, 1 << 20, 1 << 20).is_err());
        let mut damaged = packed.clone();
        damaged[20_000] ^= 0xff;
        assert!(unpack(damaged.as_slice(), Packing::Gzip, 1 << 20, 1 << 20).is_err());
    }
}
