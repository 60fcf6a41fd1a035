//! How is a report written in Markdown? As GitHub reads it, with the plots beside it.

use std::fmt::Write as _;

use crate::document::{Block, Document, Table};

/// Writes `report.md`.
pub fn markdown(document: &Document) -> String {
    let mut out = format!("# {}\n", escape(&document.title));
    for block in &document.blocks {
        out.push('\n');
        match block {
            Block::Heading(text) => out.push_str(&format!("## {}\n", escape(text))),
            Block::Paragraph(text) => out.push_str(&format!("{}\n", escape(text))),
            Block::List(items) => items.iter().for_each(|item| out.push_str(&format!("- {}\n", escape(item)))),
            Block::Code(text) => out.push_str(&code(text)),
            Block::Table(table) => out.push_str(&rows(table)),
            Block::Figure(figure) => {
                let _ = writeln!(out, "![{}]({})\n\n{}", escape(&figure.name), figure.path(), escape(&figure.caption));
            }
        }
    }
    out
}

fn rows(table: &Table) -> String {
    let mut out = format!("{}\n\n", escape(&table.caption));
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(table.head.iter().map(|cell| escape(cell)).collect()));
    let rule: Vec<&str> = (0..table.head.len()).map(|i| if i == 0 { "---" } else { "---:" }).collect();
    out.push_str(&format!("|{}|\n", rule.join("|")));
    for row in &table.rows {
        let cell = |text: String, is_strong: bool| if is_strong { format!("**{text}**") } else { text };
        out.push_str(&line(row.iter().map(|c| cell(escape(&c.text), c.is_strong)).collect()));
    }
    out
}

/// A block that no run of backticks inside can end.
fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let text: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    format!("{fence}sh\n{}\n{fence}\n", text.trim_end())
}

/// Plain text in Markdown: what would begin markup is written so that it does not, and a line stays a line.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        assert_eq!(escape("a|b\n<img> [x](y) **z** `c`"), "a\\|b &lt;img&gt; \\[x\\](y) \\*\\*z\\*\\* \\`c\\`");
        assert_eq!(code("echo ```x"), "````sh\necho ```x\n````\n");
    }
}
