//! How long does reading a page take, an ordinary one and hostile ones, and how much memory?
//!
//! `cargo run --release -p aepo-tools --example pages` serves pages on this machine, reads each, and prints milliseconds
//! and what became of it; in the end the largest memory of the process, the server included.

#[path = "../tests/pages/server.rs"]
#[expect(dead_code, reason = "the tests of pages use more of it")]
mod server;

use std::time::{Duration, Instant};

use aepo_tools::pages::{AllowedHost, PageSettings, Pages, system};

use server::{Server, html, typed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sentence =
        "Rivers carry <b>water</b> and <a href=\"/mud\">mud</a> from the hills to the sea, and have done so long. ";
    let article =
        format!("<title>Rivers</title><article>{}</article>", format!("<p>{}</p>", sentence.repeat(8)).repeat(120));
    let cells = "<tr><td>one</td><td>two</td><td>three</td></tr>".repeat(3000);
    let pages = vec![
        ("/article-100-kB", html(&article)),
        ("/table-9000-cells", html(&format!("<table>{cells}</table>"))),
        ("/links-10000", html(&"<li><a href=/x>a link</a> and words".repeat(10_000))),
        ("/deep-30000", html(&format!("{}words{}", "<div>".repeat(30_000), "</div>".repeat(30_000)))),
        ("/open-bold-3000", html(&format!("{}{}", "<b id=x><i>".repeat(3000), "<p>x".repeat(20_000)))),
        ("/tables-in-tables", html(&"<table><tr><td>".repeat(10_000))),
        ("/siblings-39000", html(&"<b>x</b><i>y</i>".repeat(19_500))),
        ("/line-3-MB", html(&"words and more words ".repeat(140_000))),
        ("/line-15-MB", html(&"words and more words ".repeat(750_000))),
        ("/plain-10-MB", typed("text/plain", "0123456789".repeat(1_000_000).as_bytes())),
    ];
    let paths: Vec<String> = pages.iter().map(|(path, _)| (*path).to_owned()).collect();
    let server = Server::start(pages);
    let settings = PageSettings {
        allow_hosts: vec![AllowedHost::parse(&server.host)?],
        max_wire_bytes: 16 << 20,
        ..PageSettings::default()
    };
    let reader = Pages::new(settings, system())?;
    for path in paths {
        let mut took = Vec::new();
        let mut what = String::new();
        for _ in 0..5 {
            let began = Instant::now();
            let page = reader.read(&server.url(&path), began + Duration::from_secs(60))?;
            let n_shown = reader.shown(&page).len();
            took.push(began.elapsed().as_secs_f64() * 1e3);
            what = format!("{:?}, {} kB of text, {n_shown} B shown", page.form, page.text.len() / 1000);
        }
        took.sort_by(f64::total_cmp);
        println!("{path:20} {:8.1} ms (most {:.1})  {what}", took[took.len() / 2], took[took.len() - 1]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("largest memory unknown"));
    Ok(())
}
