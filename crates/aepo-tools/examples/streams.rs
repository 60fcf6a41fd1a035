//! Does a served model hold many streams for a long time, without an error and in the same memory?
//!
//! `cargo run --release -p aepo-tools --example streams -- URL PID [STREAMS] [SECONDS]` keeps so many streams of chat
//! completions open at once on the server at URL (64 for 300 seconds unless told), each with other words and a seed of
//! its own, one in eight of them a second turn of the conversation before it and one in eight left half way. Each minute
//! it prints what the streams gave and the resident memory of the process PID.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What all streams gave together.
#[derive(Default)]
struct Counts {
    ended: AtomicU64,
    left: AtomicU64,
    tokens: AtomicU64,
    errors: AtomicU64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, pid, ..] = &args[..] else {
        eprintln!("streams URL PID [STREAMS] [SECONDS]");
        std::process::exit(2);
    };
    let number = |i: usize, usual: u64| args.get(i).and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (n, secs) = (number(2, 64), number(3, 300));
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let (counts, start) = (Arc::new(Counts::default()), Instant::now());
    let end = start + Duration::from_secs(secs);
    let workers: Vec<_> = (0..n)
        .map(|worker| {
            let (address, counts) = (address.clone(), Arc::clone(&counts));
            std::thread::spawn(move || work(worker, &address, end, &counts))
        })
        .collect();
    println!("secs streams_ended streams_left tokens errors rss_mb");
    let tell = || {
        let n = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let secs = start.elapsed().as_secs();
        let Counts { ended, left, tokens, errors } = &*counts;
        println!("{secs} {} {} {} {} {:.1}", n(ended), n(left), n(tokens), n(errors), rss_mb(pid));
    };
    let mut next = start + Duration::from_secs(60);
    while next <= end {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        tell();
        next += Duration::from_secs(60);
    }
    for worker in workers {
        if worker.join().is_err() {
            counts.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
    tell();
    std::process::exit(i32::from(counts.errors.load(Ordering::Relaxed) > 0));
}

/// One stream after another.
fn work(worker: u64, address: &str, end: Instant, counts: &Counts) {
    let mut before: Option<(String, String)> = None;
    for round in 0.. {
        if Instant::now() >= end {
            return;
        }
        let number = worker * 1_000_003 + round;
        let question = format!("Find the area of the country number {number}.");
        let mut messages = Vec::new();
        if let Some((asked, answered)) = before.take().filter(|_| round % 8 == 7) {
            messages.push(json!({ "role": "user", "content": asked }));
            messages.push(json!({ "role": "assistant", "content": answered }));
        }
        messages.push(json!({ "role": "user", "content": question }));
        let leaves = round % 8 == 3;
        // A high temperature makes answers long: most go on to the limit.
        let body =
            json!({ "messages": messages, "stream": true, "seed": number, "temperature": 3.0, "max_tokens": 200 });
        match stream(address, &body, leaves, counts) {
            Ok(text) => {
                let count = if leaves { &counts.left } else { &counts.ended };
                count.fetch_add(1, Ordering::Relaxed);
                before = Some((question, text));
            }
            Err(why) => {
                counts.errors.fetch_add(1, Ordering::Relaxed);
                eprintln!("{why}");
            }
        }
    }
}

/// The text of a stream, which must end as streams do; half of it where it is to be left.
fn stream(address: &str, body: &Value, leaves: bool, counts: &Counts) -> Result<String, String> {
    let told = |e: std::io::Error| e.to_string();
    let body = body.to_string();
    let mut connection = TcpStream::connect(address).map_err(told)?;
    connection.set_read_timeout(Some(Duration::from_secs(120))).map_err(told)?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).map_err(told)?;
    let (mut text, mut lines) = (String::new(), BufReader::new(connection));
    let mut line = String::new();
    lines.read_line(&mut line).map_err(told)?;
    if !line.contains(" 200 ") {
        lines.read_to_string(&mut line).map_err(told)?;
        return Err(line);
    }
    loop {
        line.clear();
        if lines.read_line(&mut line).map_err(told)? == 0 {
            return Err("a stream ended without its end".to_owned());
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data.trim() == "[DONE]" {
            return Ok(text);
        }
        let event: Value = serde_json::from_str(data).map_err(|e| format!("{e}: {data}"))?;
        if !event["error"].is_null() {
            return Err(data.to_owned());
        }
        text += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        if counts.tokens.fetch_add(1, Ordering::Relaxed).is_multiple_of(16) && leaves {
            return Ok(text);
        }
    }
}

/// Resident memory of a process, MiB.
fn rss_mb(pid: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}
