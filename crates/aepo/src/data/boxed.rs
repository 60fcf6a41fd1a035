//! What stands in the box? The content of a `\boxed{…}` whose braces match.

/// The trimmed content of the last `\boxed{…}` whose braces match; nothing when there is none or it is empty. Braces
/// escaped with a backslash do not count.
#[must_use]
pub fn last_boxed(text: &str) -> Option<String> {
    last_of("\\boxed", text)
}

/// The same with the older ways to draw a box that solutions of MATH hold: `\fbox{…}` and `\boxed 5`, which ends at the
/// next `$`.
#[must_use]
pub fn last_boxed_anyhow(text: &str) -> Option<String> {
    last_boxed(text).or_else(|| last_of("\\fbox", text)).or_else(|| {
        let (_, rest) = text.rsplit_once("\\boxed ")?;
        let content = rest.split('$').next().unwrap_or_default().trim();
        (!content.is_empty()).then(|| content.to_owned())
    })
}

/// In one pass, whatever the text: a brace that opens is kept on a stack until the one that closes it comes.
fn last_of(command: &str, text: &str) -> Option<String> {
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut found: Option<(usize, usize)> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => open.push(text[..at].ends_with(command).then_some(at + 1)),
            '}' => {
                let Some(Some(start)) = open.pop() else { continue };
                if found.is_none_or(|(last, _)| start > last) && !text[start..at].trim().is_empty() {
                    found = Some((start, at));
                }
            }
            _ => {}
        }
    }
    found.map(|(start, end)| text[start..end].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_match_their_braces() {
        let table = [
            ("\\boxed{a}", Some("a")),
            ("x \\boxed{ {a}{b} } y", Some("{a}{b}")),
            ("\\boxed{a\\}b}", Some("a\\}b")),
            ("\\boxed{\\{a\\}}", Some("\\{a\\}")),
            ("\\boxed{\\boxed{3}}", Some("3")),
            ("\\boxed{1} \\boxed{2", Some("1")),
            ("\\boxed{1} \\boxed{ }", Some("1")),
            ("} { \\\\boxed{1}", Some("1")),
            ("boxed{1}", None),
            ("\\boxed{1", None),
            ("\\boxed{\\}", None),
            ("\\boxed 1", None),
        ];
        for (text, expected) in table {
            assert_eq!(last_boxed(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn older_boxes_count_where_there_is_no_other() {
        let table = [
            ("is \\fbox{B}", Some("B")),
            ("$x = \\boxed 5$ and $y$", Some("5")),
            ("\\fbox{1} \\boxed{2}", Some("2")),
            ("\\boxed $", None),
            ("5", None),
        ];
        for (text, expected) in table {
            assert_eq!(last_boxed_anyhow(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_long_text_of_open_boxes_takes_one_pass() {
        assert_eq!(last_boxed(&"\\boxed{".repeat(200_000)), None);
    }
}
