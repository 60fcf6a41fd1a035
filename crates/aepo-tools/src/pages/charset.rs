//! In which encoding is a page written? Marks in its bytes, the server, the page itself, in this order; and where they
//! are plainly wrong, the bytes.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes in which a page may name its encoding (HTML standard, prescan).
const PRESCAN: usize = 1024;

/// Text, and how it was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decoded {
    pub(super) text: String,
    /// The name of the encoding in the Encoding standard.
    pub(super) charset: &'static str,
    /// Whether some bytes meant nothing in it; they are U+FFFD now.
    pub(super) is_lossy: bool,
}

/// Decodes a page. `may_name_itself`: whether it is HTML or XML, which may hold the name of their encoding; `is_cut`:
/// whether it may end inside a character.
pub(super) fn decode(bytes: &[u8], content_type: Option<&str>, may_name_itself: bool, is_cut: bool) -> Decoded {
    let encoding = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding,
        None => {
            let from_server = content_type.and_then(charset_of).and_then(|label| Encoding::for_label(label.as_bytes()));
            let from_page = || if may_name_itself { named_inside(bytes) } else { None };
            correct(bytes, from_server.or_else(from_page), is_cut)
        }
    };
    let (text, used, is_lossy) = encoding.decode(bytes);
    Decoded { text: text.into_owned(), charset: used.name(), is_lossy }
}

/// What the bytes leave of what is said about them.
fn correct(bytes: &[u8], said: Option<&'static Encoding>, is_cut: bool) -> &'static Encoding {
    let error = std::str::from_utf8(bytes).err();
    let is_utf8 = error.is_none_or(|e| is_cut && e.error_len().is_none());
    match said {
        None if is_utf8 => UTF_8,
        // The fallback of the HTML standard for most of the world.
        None => WINDOWS_1252,
        // Text that is well-formed UTF-8 with characters beyond ASCII is so by design, never by accident.
        Some(said) if is_utf8 && said.is_single_byte() && !bytes.is_ascii() => UTF_8,
        // Nothing beyond ASCII is well-formed: somebody only believed that it was UTF-8.
        Some(said) if said == UTF_8 && !is_utf8 && !has_utf8(bytes) => WINDOWS_1252,
        Some(said) => said,
    }
}

/// Whether there is a well-formed character beyond ASCII.
fn has_utf8(bytes: &[u8]) -> bool {
    bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii())
}

/// The parameter of a `Content-Type` header.
fn charset_of(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })
}

/// `<meta charset=…>`, `<meta http-equiv content="…; charset=…">` or `<?xml encoding="…"?>`, within the first bytes.
fn named_inside(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes[..bytes.len().min(PRESCAN)].to_ascii_lowercase();
    let head = String::from_utf8_lossy(&head);
    let is_xml = head.trim_start().starts_with("<?xml");
    let (declaration, key) = match is_xml {
        true => (head.split("?>").next(), "encoding"),
        false => (head.split("<meta").skip(1).find(|tag| in_tag(tag).contains("charset")).map(in_tag), "charset"),
    };
    let declaration = declaration?;
    let value = declaration[declaration.find(key)? + key.len()..].trim_start().strip_prefix('=')?.trim_start();
    let value = value.trim_start_matches(['"', '\'']);
    let label = value.split(['"', '\'', ';', '>', '/', ' ', '\t', '\n', '\r', '?']).next()?;
    let encoding = Encoding::for_label(label.as_bytes())?;
    // Whoever can read this name in ASCII does not read UTF-16 (HTML standard).
    Some(if encoding == UTF_16LE || encoding == UTF_16BE { UTF_8 } else { encoding })
}

fn in_tag(rest: &str) -> &str {
    rest.split('>').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], content_type: Option<&str>, text: &str, charset: &str, is_lossy: bool) {
        let decoded = decode(bytes, content_type, true, false);
        assert_eq!((decoded.text.as_str(), decoded.charset, decoded.is_lossy), (text, charset, is_lossy));
    }

    #[test]
    fn marks_come_before_the_server_and_the_server_before_the_page() {
        check(b"\xef\xbb\xbfcaf\xc3\xa9", Some("text/html; charset=windows-1251"), "café", "UTF-8", false);
        check(b"\xff\xfeh\0i\0", Some("text/html"), "hi", "UTF-16LE", false);
        check(b"\xfe\xff\0h\0i", None, "hi", "UTF-16BE", false);
        check(b"h\0i\0", Some("text/html;charset=utf-16le"), "hi", "UTF-16LE", false);
        check(
            b"<meta charset=utf-8>\xcf\xf0\xe8",
            Some("text/html; CharSet=\"windows-1251\""),
            "<meta charset=utf-8>При",
            "windows-1251",
            false,
        );
    }

    #[test]
    fn a_page_may_name_its_encoding() {
        check(b"<meta charset='windows-1251'>\xcf", None, "<meta charset='windows-1251'>П", "windows-1251", false);
        check(
            b"<META http-equiv=x content='text/html; charset=Shift_JIS'>\x83\x65",
            None,
            "<META http-equiv=x content='text/html; charset=Shift_JIS'>テ",
            "Shift_JIS",
            false,
        );
        check(
            b"<?xml version='1.0' encoding=\"iso-8859-2\"?>\xb9",
            None,
            "<?xml version='1.0' encoding=\"iso-8859-2\"?>š",
            "ISO-8859-2",
            false,
        );
        check(b"<meta charset=utf-16>x", None, "<meta charset=utf-16>x", "UTF-8", false);
        check(
            b"<meta name=viewport><meta charset = gbk >\xc4\xe3",
            None,
            "<meta name=viewport><meta charset = gbk >你",
            "GBK",
            false,
        );
        let late = [vec![b' '; PRESCAN], b"<meta charset=windows-1251>\xcf".to_vec()].concat();
        assert_eq!(decode(&late, None, true, false).charset, "windows-1252");
        assert_eq!(decode(b"<meta charset=windows-1251>\xcf", None, false, false).charset, "windows-1252");
    }

    #[test]
    fn what_is_plainly_wrong_is_put_right_and_broken_bytes_are_told() {
        check("naïve 日本".as_bytes(), Some("text/html; charset=iso-8859-1"), "naïve 日本", "UTF-8", false);
        check(b"caf\xe9", Some("text/html; charset=utf-8"), "café", "windows-1252", false);
        check(b"\xc3\xa9 and \xff", Some("text/html; charset=utf-8"), "é and \u{fffd}", "UTF-8", true);
        check(b"caf\xe9", None, "café", "windows-1252", false);
        let cut = decode("cut é".as_bytes().split_last().unwrap().1, None, true, true);
        assert_eq!((cut.text.as_str(), cut.charset), ("cut \u{fffd}", "UTF-8"));
        check(b"plain", Some("text/html; charset=no-such-thing"), "plain", "UTF-8", false);
        check(b"", None, "", "UTF-8", false);
    }
}
