//! What kind of text is it? The server's word counts; where it says nothing, the first bytes are looked at.

use super::error::{PageError, clean};

/// The kinds of text that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// HTML and XHTML.
    Html,
    /// Plain text, CSV and the like: shown as it is.
    Plain,
    /// Markdown: shown as it is.
    Markdown,
    /// JSON: shown as it is.
    Json,
    /// XML that is no XHTML, feeds among it: shown as it is.
    Xml,
}

/// Reads a `Content-Type` header (RFC 9110, section 8.3), or the beginning of the page where there is none.
pub(super) fn media(content_type: Option<&str>, body: &[u8]) -> Result<Media, PageError> {
    let start = body.trim_ascii_start();
    if start.starts_with(b"%PDF-") {
        return Err(PageError::NoText { found: "a PDF document, which is not supported".to_owned() });
    }
    let Some(content_type) = content_type else { return sniff(start) };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(match essence.as_str() {
        "text/html" | "application/xhtml+xml" => Media::Html,
        "text/plain" | "text/csv" | "text/tab-separated-values" => Media::Plain,
        "text/markdown" | "text/x-markdown" => Media::Markdown,
        "application/json" | "application/x-ndjson" | "application/jsonl" => Media::Json,
        "text/xml" | "application/xml" => Media::Xml,
        // Structured suffixes (RFC 6839); a picture in XML is still a picture.
        other if other.starts_with("application/") && other.ends_with("+json") => Media::Json,
        other if other.starts_with("application/") && other.ends_with("+xml") => Media::Xml,
        "application/pdf" | "application/x-pdf" => {
            return Err(PageError::NoText { found: "a PDF document, which is not supported".to_owned() });
        }
        "" => return sniff(start),
        _ => return Err(PageError::NoText { found: format!("`{}`", clean(&essence)) }),
    })
}

/// Looks at the first bytes, as the MIME Sniffing standard does for pages without a type.
fn sniff(start: &[u8]) -> Result<Media, PageError> {
    let head = &start[..start.len().min(512)];
    let is_utf16 = head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]);
    let binary = |b: &u8| matches!(b, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if !is_utf16 && head.iter().any(binary) {
        return Err(PageError::NoText { found: "data without a content type".to_owned() });
    }
    let lower = head.to_ascii_lowercase();
    let tags: [&[u8]; 7] = [b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<div", b"<p>"];
    Ok(match () {
        () if tags.iter().any(|tag| lower.starts_with(tag)) => Media::Html,
        () if lower.starts_with(b"<?xml") => Media::Xml,
        () => Media::Plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_counts_and_without_one_the_first_bytes() {
        for (header, body, kind) in [
            (Some("text/html; charset=utf-8"), "x", Media::Html),
            (Some("Application/XHTML+XML"), "x", Media::Html),
            (Some("text/plain"), "<html>", Media::Plain),
            (Some("text/markdown"), "# x", Media::Markdown),
            (Some("application/ld+json"), "{}", Media::Json),
            (Some("application/rss+xml;x"), "<rss/>", Media::Xml),
            (None, "\n <!DOCTYPE HTML><p>", Media::Html),
            (None, "<?xml version='1.0'?>", Media::Xml),
            (None, "just words", Media::Plain),
            (Some(" ;charset=x"), "<html>", Media::Html),
        ] {
            assert_eq!(media(header, body.as_bytes()), Ok(kind), "{header:?} {body}");
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        for (header, body, found) in [
            (Some("application/pdf"), "x", "a PDF document, which is not supported"),
            (Some("text/html"), "%PDF-1.7", "a PDF document, which is not supported"),
            (Some("image/svg+xml"), "<svg/>", "`image/svg+xml`"),
            (Some("application/octet-stream"), "x", "`application/octet-stream`"),
            (Some("\u{1b}[2Jx"), "x", "`[2jx`"),
            (None, "\u{0}\u{1}", "data without a content type"),
        ] {
            let error = media(header, body.as_bytes()).unwrap_err();
            assert_eq!(error, PageError::NoText { found: found.to_owned() }, "{header:?}");
        }
    }
}
