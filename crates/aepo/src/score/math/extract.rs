//! Which part of a worked solution is its final answer?

/// The length of the text before the brace that closes the group whose opening brace stands before `text`; escaped
/// braces do not count. Nothing where it is never closed.
pub fn balanced(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The final answer of a solution: the content of the last complete `\boxed{…}`; else what stands behind the last
/// `####` on its line, as in GSM8K; else what stands behind the last "answer is" or "answer:" up to the end of its
/// sentence. Nothing where there is none of them.
///
/// The work is linear in the length of the text.
#[must_use]
pub fn final_answer(text: &str) -> Option<&str> {
    boxed(text).or_else(|| hashes(text)).or_else(|| sentence(text)).map(str::trim).filter(|answer| !answer.is_empty())
}

/// The content of the complete box that begins last; of nested boxes that is the innermost.
fn boxed(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                let name = ["\\boxed", "\\fbox"].into_iter().find(|name| bytes[at..].starts_with(name.as_bytes()));
                let Some(name) = name else {
                    at += 2;
                    continue;
                };
                at += name.len();
                let n_spaces = bytes[at..].iter().take_while(|b| **b == b' ').count();
                if bytes.get(at + n_spaces) == Some(&b'{') {
                    at += n_spaces + 1;
                    open.push(Some(at));
                } else if n_spaces > 0 {
                    // `\boxed 5`: TeX takes what comes next; a number is meant.
                    let start = at + n_spaces;
                    let n = bytes[start..].iter().take_while(|b| b.is_ascii_digit() || **b == b'-').count();
                    if n > 0 && last.is_none_or(|(before, _)| before < start) {
                        last = Some((start, start + n));
                    }
                }
                continue;
            }
            b'{' => open.push(None),
            b'}' => {
                if let Some(Some(start)) = open.pop()
                    && last.is_none_or(|(before, _)| before < start)
                {
                    last = Some((start, at));
                }
            }
            _ => {}
        }
        at += 1;
    }
    // A box that is never closed takes none of its braces from the boxes inside it, and both ends are ASCII.
    last.map(|(start, end)| &text[start..end])
}

fn hashes(text: &str) -> Option<&str> {
    let at = text.rfind("####")?;
    text[at + 4..].lines().next()
}

fn sentence(text: &str) -> Option<&str> {
    // ASCII letters keep their length in lower case, so that positions hold for the text itself.
    let lower = text.to_ascii_lowercase();
    let ends = ["answer is", "answer:", "answer :", "answer**:", "answer:**"];
    let (at, n) = ends.iter().filter_map(|end| Some((lower.rfind(end)?, end.len()))).max()?;
    let rest = text[at + n..].trim_start_matches([':', '*', ' ']);
    let line = rest.lines().next()?;
    // A full stop ends the sentence where white space or nothing follows it; `3.5` goes on.
    let stop = line
        .match_indices('.')
        .map(|(at, _)| at)
        .find(|at| line[at + 1..].chars().next().is_none_or(|c| c.is_whitespace() || c == '*'));
    Some(line[..stop.unwrap_or(line.len())].trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts() {
        let table = [
            (r"so \boxed{3} or rather \boxed{\frac{1}{2}}.", Some(r"\frac{1}{2}")),
            (r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}")),
            (r"\boxed{ 5 } and then \boxed{6", Some("5")),
            (r"\boxed{3 or rather \boxed{5}", Some("5")),
            (r"\boxed{\boxed{7}}", Some("7")),
            (r"\fbox{8}", Some("8")),
            (r"\boxed 9.", Some("9")),
            ("9 * 2 = 18\n#### 1,018\n", Some("1,018")),
            ("#### 4 because \\boxed{5}", Some("5")),
            ("Thus the answer is 3.5. Done.", Some("3.5")),
            ("**Answer:** 12", Some("12")),
            ("The final answer is $x = 2$.\nI hope so.", Some("$x = 2$")),
            ("I do not know", None),
            (r"\boxed{}", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(final_answer(text), expected, "{text}");
        }
    }

    #[test]
    fn long_texts_are_read_once() {
        assert_eq!(final_answer(&"\\boxed{".repeat(100_000)), None);
        assert_eq!(final_answer(&"\\boxed{1}".repeat(100_000)), Some("1"));
        assert_eq!(
            final_answer(&format!("\\boxed{{{}5{}}}", "{".repeat(10_000), "}".repeat(10_000))).map(str::len),
            Some(20_001)
        );
    }
}
