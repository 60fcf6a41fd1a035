//! Does an ordinary page arrive as it was meant?

use aepo::tool::ToolOutcome;
use aepo_tools::pages::{Form, Media, PageError, Pages, system};
use expect_test::expect;

use crate::server::{Play, Server, html, redirect, response, typed};
use crate::{late, read, settings};

const ARTICLE: &str = r#"<!DOCTYPE html><html><head><title>Rivers &amp; lakes – Atlas</title>
<script>var menu = "<p>never seen</p>";</script><style>p { color: red }</style></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/maps">Maps</a></li></ul></nav>
<article><h1>Rivers &amp; lakes</h1>
<p>The <b>Amazon</b> carries more water than the next seven rivers together, as <a href="/measured">was measured</a> at its
mouth over many years. It rises in the Andes, crosses the plains of the north and reaches the Atlantic, where its water can
be found far from the shore.</p>
<h2>Lengths</h2><p>What counts as the source of a river decides on its length, and so lists differ from each other.</p>
<table><tr><th>River</th><th>km</th></tr><tr><td>Nile</td><td>6650</td></tr><tr><td>Amazon</td><td>6400</td></tr></table>
<ul><li>first</li><li>second with <code>a &lt; b</code></li></ul>
<pre><code>flow = width * depth
</code></pre>
<p style="display: none">Nobody sees this sentence, which was put here for machines.</p>
</article><footer>Imprint</footer></body></html>"#;

#[test]
fn an_article_becomes_markdown_with_title_and_address() {
    let server = Server::start(vec![("/a", html(ARTICLE))]);
    let page = read(&server, "/a").unwrap();
    assert_eq!((page.form, page.media, page.cut, page.is_lossy), (Form::Article, Media::Html, None, false));
    let pages = Pages::new(settings(&server), system()).unwrap();
    expect![[r#"
        Title: Rivers & lakes – Atlas
        Address: http://HOST/a

        The **Amazon** carries more water than the next seven rivers together, as [was measured](http://HOST/measured) at its mouth over many years. It rises in the Andes, crosses the plains of the north and reaches the Atlantic, where its water can be found far from the shore.

        ## Lengths

        What counts as the source of a river decides on its length, and so lists differ from each other.

        | River  | km   |
        | ------ | ---- |
        | Nile   | 6650 |
        | Amazon | 6400 |

        *   first
        *   second with `a < b`

        ```
        flow = width * depth
        ```"#]].assert_eq(&pages.shown(&page).replace(&server.host, "HOST"));
}

#[test]
fn a_list_of_links_is_shown_whole() {
    let links: String = (0..40).map(|i| format!("<li><a href=\"/item/{i}\">Item {i}</a></li>")).collect();
    let server = Server::start(vec![("/l", html(&format!("<title>List</title><ul>{links}</ul>")))]);
    let page = read(&server, "/l").unwrap();
    assert_eq!(page.title, "List");
    assert!(page.text.contains(&format!("[Item 39]({})", server.url("/item/39"))), "{}", page.text);
}

#[test]
fn requests_say_who_asks_and_nothing_else() {
    let server = Server::start(vec![("/from", redirect("to?x=1#part")), ("/to?x=1", html("<p>here"))]);
    let page = read(&server, "/from").unwrap();
    assert_eq!((page.led_by, page.address), (vec![server.url("/from")], server.url("/to?x=1")));
    let log = server.log();
    assert_eq!(log.len(), 2);
    for head in log {
        let head = head.to_ascii_lowercase();
        let names: Vec<&str> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
        let mut names: Vec<&str> = names.into_iter().filter(|name| *name != "connection").collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"], "{head}");
        assert!(head.contains("accept-encoding: gzip, deflate\r\n") && head.contains("user-agent: aepo/"), "{head}");
    }
}

#[test]
fn text_is_shown_as_it_is() {
    let server = Server::start(vec![
        ("/t", typed("text/plain", b"one\r\n<b>two</b>\n\tthree\x1b[2J\0")),
        ("/j", typed("application/json", b"{\"a\": [1, 2]}")),
        ("/x", typed("application/rss+xml", b"<rss><t>x</t></rss>")),
        ("/m", typed("text/markdown", b"# head\n\n*text*")),
        ("/n", Play::Bytes(response("200 OK", "", b"no type, plain words"))),
        ("/h", Play::Bytes(response("200 OK", "", b"<!doctype html><title>t</title><p>no type, a page"))),
        ("/e", Play::Bytes(response("204 No Content", "", b""))),
    ]);
    for (path, media, text) in [
        ("/t", Media::Plain, "one\n<b>two</b>\n\tthree[2J"),
        ("/j", Media::Json, "{\"a\": [1, 2]}"),
        ("/x", Media::Xml, "<rss><t>x</t></rss>"),
        ("/m", Media::Markdown, "# head\n\n*text*"),
        ("/n", Media::Plain, "no type, plain words"),
        ("/h", Media::Html, "no type, a page"),
        ("/e", Media::Plain, ""),
    ] {
        let page = read(&server, path).unwrap();
        assert_eq!((page.media, page.text.as_str()), (media, text), "{path}");
    }
}

#[test]
fn encodings_are_those_of_the_mark_the_server_the_page_or_the_bytes() {
    let utf16: Vec<u8> = "<p>Größe 日本".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe][..], &utf16].concat();
    let named = [&b"<meta charset=koi8-r><p>"[..], &[0xf0, 0xd2, 0xc9]].concat();
    let server = Server::start(vec![
        ("/utf16", typed("text/html; charset=utf-16le", &utf16)),
        ("/mark", typed("text/html; charset=utf-8", &marked)),
        ("/meta", typed("text/html", &named)),
        ("/latin", typed("text/html; charset=iso-8859-1", b"<p>caf\xe9")),
        ("/not-latin", typed("text/html; charset=iso-8859-1", "<p>café 日本".as_bytes())),
        ("/not-utf8", typed("text/html; charset=utf-8", b"<p>caf\xe9 noir")),
        ("/none", typed("text/html", "<p>café".as_bytes())),
        ("/nonsense", typed("text/html; charset=klingon", "<p>café".as_bytes())),
    ]);
    for (path, charset, text) in [
        ("/utf16", "UTF-16LE", "Größe 日本"),
        ("/mark", "UTF-16LE", "Größe 日本"),
        ("/meta", "KOI8-R", "При"),
        ("/latin", "windows-1252", "café"),
        ("/not-latin", "UTF-8", "café 日本"),
        ("/not-utf8", "windows-1252", "café noir"),
        ("/none", "UTF-8", "café"),
        ("/nonsense", "UTF-8", "café"),
    ] {
        let page = read(&server, path).unwrap();
        assert_eq!((page.charset, page.text.as_str()), (charset, text), "{path}");
    }
}

#[test]
fn what_a_server_refuses_is_said_and_what_passes_is_asked_again() {
    let busy = || Play::Bytes(response("503 Service Unavailable", "", b"later"));
    let server = Server::start(vec![
        ("/busy", busy()),
        ("/once", Play::Turns(vec![busy(), html("<p>now it works")])),
        ("/cut-once", Play::Turns(vec![Play::Bytes(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), html("<p>whole")])),
        ("/login", Play::Bytes(response("401 Unauthorized", "WWW-Authenticate: Basic\r\n", b""))),
        ("/nowhere", Play::Bytes(response("302 Found", "", b""))),
        ("/pdf", typed("application/pdf", b"%PDF-1.4")),
        ("/hidden-pdf", typed("text/html", b"%PDF-1.4")),
        ("/image", typed("image/png", b"\x89PNG")),
        ("/brotli", Play::Bytes(response("200 OK", "Content-Type: text/html\r\nContent-Encoding: br\r\n", b"x"))),
    ]);
    let asked = |path: &str| server.log().iter().filter(|head| head.contains(&format!(" {path} "))).count();
    for (path, n, words) in [
        ("/absent", 1, "HTTP status 404 (there is no such page)"),
        ("/busy", 2, "HTTP status 503 (the server is not available)"),
        ("/login", 1, "HTTP status 401 (it wants a login)"),
        ("/nowhere", 1, "HTTP status 302"),
        ("/pdf", 1, "no page of text but a PDF document, which is not supported"),
        ("/hidden-pdf", 1, "no page of text but a PDF document, which is not supported"),
        ("/image", 1, "no page of text but `image/png`"),
        ("/brotli", 1, "encoded as `br`"),
    ] {
        let error = read(&server, path).unwrap_err();
        assert!(error.to_string().contains(words), "{path}: {error}");
        assert_eq!((error.outcome(), asked(path)), (ToolOutcome::Raised, n), "{path}");
    }
    assert_eq!(read(&server, "/once").unwrap().text, "now it works");
    assert_eq!(read(&server, "/cut-once").unwrap().text, "whole");
}

#[test]
fn a_host_that_is_not_there_is_the_worlds_answer() {
    let server = Server::start(vec![]);
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut settings = settings(&server);
    settings.allow_hosts = vec![aepo_tools::pages::AllowedHost::parse(&free.to_string()).unwrap()];
    let error = Pages::new(settings, system()).unwrap().read(&format!("http://{free}/"), late()).unwrap_err();
    assert!(matches!(error, PageError::NoAnswer { .. }), "{error}");
    assert_eq!(error.outcome(), ToolOutcome::Raised);
}

#[test]
fn what_is_shown_is_bounded_and_says_what_is_missing() {
    let server = Server::start(vec![("/t", typed("text/plain", "äöü".repeat(1000).as_bytes()))]);
    let mut settings = settings(&server);
    let shown = |settings| {
        let pages = Pages::new(settings, system()).unwrap();
        pages.shown(&pages.read(&server.url("/t"), late()).unwrap())
    };
    settings.max_chars = 3000;
    assert_eq!(shown(settings.clone()), format!("Address: {}\n\n{}", server.url("/t"), "äöü".repeat(1000)));
    settings.max_chars = 4;
    let end = "\n\näöüä\n\n(These are the first 4 of 3000 characters.)";
    assert!(shown(settings.clone()).ends_with(end));
    settings.max_page_bytes = 2001;
    assert!(shown(settings.clone()).ends_with("\n\näöüä\n\n(These are the first 4 characters.)"));
    settings.max_chars = 3000;
    assert!(shown(settings).ends_with("\n\n(The page goes on; the rest of it was too large to be read.)"));
}
