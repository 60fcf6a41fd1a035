//! How is a report written as one page? Everything inside it: style, pictures, no script, nothing to fetch.

use std::fmt::Write as _;

use crate::document::{Block, Document, Table};
use crate::svg::{dark_rules, escape};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c1e21;--muted:#5f6670;--line:#e3e6ea;--paper:#fff;--soft:#f5f6f8;--strong:#0b57a4}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--muted:#a3abb6;--line:#33383f;--paper:#16191d;--soft:#1e2227;--strong:#8cc4f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.6rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--line)}
p,li,figcaption{overflow-wrap:anywhere;max-width:72ch}
nav{font-size:.92rem;color:var(--muted)}
nav a{color:inherit;margin-right:1em;white-space:nowrap}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
pre{background:var(--soft);padding:12px 14px;border-radius:6px;font-size:.85rem}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
.caption{color:var(--muted);font-size:.88rem;margin:1.4rem 0 .4rem}
th,td{padding:5px 10px;text-align:right;vertical-align:top;border-bottom:1px solid var(--line);white-space:nowrap}
thead th{vertical-align:bottom;font-weight:600;white-space:normal;min-width:5.2em}
th:first-child{white-space:normal;min-width:min(10em,34vw);text-align:left;position:sticky;left:0;background:var(--paper);font-weight:600}
td strong{color:var(--strong)}
figure{margin:2rem 0}
figure svg{display:block;width:100%;min-width:600px;max-width:900px;height:auto}
figcaption{color:var(--muted);font-size:.88rem;margin-top:.6rem}
";

/// Writes `report.html`.
pub fn html(document: &Document) -> String {
    let title = escape(&document.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>{title}</title>\n<style>{STYLE}{}</style>\n\
         </head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        dark_rules()
    );
    let headings = document.blocks.iter().filter_map(|block| match block {
        Block::Heading(text) => Some(text),
        _ => None,
    });
    out.push_str("<nav>");
    for (i, heading) in headings.enumerate() {
        let _ = write!(out, "<a href=\"#s{i}\">{}</a> ", escape(heading));
    }
    out.push_str("</nav>\n");
    let mut n_headings = 0;
    for block in &document.blocks {
        match block {
            Block::Heading(text) => {
                let _ = writeln!(out, "<h2 id=\"s{n_headings}\">{}</h2>", escape(text));
                n_headings += 1;
            }
            Block::Paragraph(text) => out.push_str(&format!("<p>{}</p>\n", escape(text))),
            Block::List(items) => {
                out.push_str("<ul>\n");
                items.iter().for_each(|item| out.push_str(&format!("<li>{}</li>\n", escape(item))));
                out.push_str("</ul>\n");
            }
            Block::Code(text) => {
                out.push_str(&format!("<pre class=\"scroll\"><code>{}</code></pre>\n", escape(text)));
            }
            Block::Table(table) => out.push_str(&rows(table)),
            Block::Figure(figure) => {
                let (svg, caption) = (figure.svg.inline(), escape(&figure.caption));
                let _ = writeln!(
                    out,
                    "<figure id=\"{}\"><div class=\"scroll\">{svg}</div><figcaption>{caption}</figcaption></figure>",
                    escape(&figure.name)
                );
            }
        }
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn rows(table: &Table) -> String {
    let mut out =
        format!("<p class=\"caption\">{}</p>\n<div class=\"scroll\"><table>\n<thead><tr>", escape(&table.caption));
    table.head.iter().for_each(|cell| out.push_str(&format!("<th scope=\"col\">{}</th>", escape(cell))));
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let text = escape(&cell.text);
            let text = if cell.is_strong { format!("<strong>{text}</strong>") } else { text };
            out.push_str(&if i == 0 { format!("<th scope=\"row\">{text}</th>") } else { format!("<td>{text}</td>") });
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}
