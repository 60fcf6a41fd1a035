//! What does the model read of a result? Its text; anything else by its type and size.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

/// Pieces of a result that are looked at.
const MAX_PIECES: usize = 1000;
/// What stands for a piece that this version of the protocol does not have.
const UNKNOWN: &str = "[content of an unknown kind]";

/// The text of a result, at most `max_chars` characters of it.
pub(super) fn text(result: &CallToolResult, max_chars: usize) -> String {
    let mut pieces: Vec<String> = result.content.iter().take(MAX_PIECES).map(piece).collect();
    let n_left = result.content.len().saturating_sub(MAX_PIECES);
    if n_left > 0 {
        pieces.push(format!("[{n_left} more pieces]"));
    }
    let has_text = result.content.iter().any(|block| block.as_text().is_some_and(|text| !text.text.is_empty()));
    if let (false, Some(value)) = (has_text, &result.structured_content) {
        pieces.push(value.to_string());
    }
    cut(&pieces.join("\n"), max_chars)
}

fn piece(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => format!("[{}, {} bytes]", or_unknown(&image.mime_type), decoded(&image.data)),
        ContentBlock::Audio(audio) => format!("[{}, {} bytes]", or_unknown(&audio.mime_type), decoded(&audio.data)),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[{uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let mime_type = or_unknown(mime_type.as_deref().unwrap_or_default());
                format!("[{uri}, {mime_type}, {} bytes]", decoded(blob))
            }
            _ => UNKNOWN.to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("[{}: {}]", link.uri, link.name),
        // The protocol may come to know more kinds.
        _ => UNKNOWN.to_owned(),
    }
}

fn or_unknown(mime_type: &str) -> &str {
    if mime_type.is_empty() { "unknown type" } else { mime_type }
}

/// Bytes that a text in base64 (RFC 4648) stands for.
fn decoded(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

/// The first `max_chars` characters, and a word about the rest.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => {
            format!("{}\n[cut: the first {max_chars} of {} characters]", &text[..end], text.chars().count())
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let result: CallToolResult = serde_json::from_str(json).unwrap();
        assert_eq!(text(&result, 100), expected);
    }

    #[test]
    fn text_is_joined_and_the_rest_is_named() {
        check(r#"{"content": []}"#, "");
        check(r#"{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}"#, "a\nb");
        // 17 bytes in base64.
        check(
            r#"{"content": [{"type": "image", "data": "MTIzNDU2Nzg5MDEyMzQ1Njc=", "mimeType": "image/png"}]}"#,
            "[image/png, 17 bytes]",
        );
        check(r#"{"content": [{"type": "audio", "data": "", "mimeType": ""}]}"#, "[unknown type, 0 bytes]");
        check(
            r#"{"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}},
                {"type": "resource", "resource": {"uri": "file:///b", "mimeType": "a/b", "blob": "MTIz"}},
                {"type": "resource_link", "uri": "file:///c", "name": "see"}]}"#,
            "[file:///a]\ninside\n[file:///b, a/b, 3 bytes]\n[file:///c: see]",
        );
    }

    #[test]
    fn structured_content_stands_in_for_missing_text() {
        check(r#"{"content": [], "structuredContent": {"a": [1, 2]}}"#, r#"{"a":[1,2]}"#);
        check(r#"{"content": [{"type": "text", "text": "one"}], "structuredContent": {"a": 1}}"#, "one");
    }

    #[test]
    fn long_results_are_cut_between_characters() {
        let result: CallToolResult =
            serde_json::from_value(serde_json::json!({"content": [{"type": "text", "text": "ä".repeat(101)}]}))
                .unwrap();
        assert_eq!(text(&result, 100), format!("{}\n[cut: the first 100 of 101 characters]", "ä".repeat(100)));
        assert_eq!(cut("abc", 3), "abc");
    }
}
