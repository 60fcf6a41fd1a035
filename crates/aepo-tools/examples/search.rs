//! How fast are an index's building and its answers? `search CORPUS.jsonl` measures over that corpus, `search N` over N
//! generated passages of about 100 words, `search CORPUS.jsonl N` both.
//!
//! The same program begins itself anew for each build, so that a build's memory is its own.

use std::error::Error;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aepo_tools::search::disk::{BuildSettings, DiskIndex, build};
use serde_json::{Value, json};

/// How long queries are asked for each number of threads.
const ASKING: Duration = Duration::from_secs(4);
/// Words that passages are made of; word i is drawn with a probability of about 1 / (i + 10).
const N_WORDS: usize = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, corpus, out] = &args[..]
        && command == "build"
    {
        return child(Path::new(corpus), Path::new(out));
    }
    let folder = tempfile::tempdir_in(std::env::var("AEPO_TMP").unwrap_or_else(|_| ".".to_owned()))?;
    for (i, arg) in args.iter().enumerate() {
        let (corpus, queries) = match arg.parse::<usize>() {
            Ok(n) => {
                let corpus = folder.path().join("generated.jsonl");
                generate(&corpus, n)?;
                (corpus, generated_queries(500))
            }
            Err(_) => (arg.into(), title_queries(Path::new(arg))?),
        };
        measure(&corpus, &folder.path().join(format!("index-{i}")), &queries)?;
    }
    Ok(())
}

/// Builds, and says how long it took and how much memory it had at most.
fn child(corpus: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    build(&BuildSettings::new(corpus.to_owned(), out.to_owned()), |_| ControlFlow::Continue(()))?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    println!("  built in {:.1} s, at most {} of memory", began.elapsed().as_secs_f64(), line("VmHWM:"));
    Ok(())
}

fn measure(corpus: &Path, out: &Path, queries: &[String]) -> Result<(), Box<dyn Error>> {
    println!("{}: {:.1} MB", corpus.display(), corpus.metadata()?.len() as f64 / 1e6);
    let status = Command::new(std::env::current_exe()?).arg("build").arg(corpus).arg(out).status()?;
    if !status.success() {
        return Err("the build failed".into());
    }
    let began = Instant::now();
    let index = DiskIndex::open(out)?;
    let (n_rows, opened) = (index.manifest().n_rows, began.elapsed());
    let n_bytes: u64 = index.manifest().files.iter().map(|file| file.bytes).sum();
    println!("  {n_rows} passages, {:.1} MB, opened in {:.2} ms", n_bytes as f64 / 1e6, opened.as_secs_f64() * 1e3);
    for n_threads in [1, 2] {
        let began = Instant::now();
        let ask = |offset: usize| {
            let mut secs = Vec::new();
            while began.elapsed() < ASKING {
                let query = &queries[(secs.len() * 7 + offset) % queries.len()];
                let asked = Instant::now();
                if index.search(query, 5).is_err() {
                    break;
                }
                secs.push(asked.elapsed().as_secs_f64());
            }
            secs
        };
        let mut secs: Vec<f64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads).map(|i| scope.spawn(move || ask(i * 101))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        let total = began.elapsed().as_secs_f64();
        secs.sort_by(f64::total_cmp);
        let at = |share: f64| secs[((secs.len() - 1) as f64 * share) as usize] * 1e3;
        println!(
            "  {n_threads} threads: median {:.3} ms, 95 % {:.3} ms, 99 % {:.3} ms, {:.0} queries/s",
            at(0.5),
            at(0.95),
            at(0.99),
            secs.len() as f64 / total
        );
    }
    Ok(())
}

/// Questions of a corpus: words from its titles and texts, up to nine.
fn title_queries(corpus: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let text = std::fs::read_to_string(corpus)?;
    let mut queries = Vec::new();
    for (i, line) in text.lines().enumerate().step_by(45) {
        let row: Value = serde_json::from_str(line)?;
        let words = |key: &str| row[key].as_str().unwrap_or_default().split_whitespace().map(str::to_owned);
        let mut query: Vec<String> = words("title").take(4).collect();
        query.extend(words("text").skip(i % 30).take(1 + i % 5));
        queries.push(query.join(" "));
    }
    Ok(queries)
}

/// splitmix64 (Steele, Lea and Flood, 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Zipf's law, nearly: ln(i + 10) is uniform.
    fn word(&mut self) -> String {
        let x = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let low = 10f64;
        let i = (low * ((N_WORDS as f64 + low) / low).powf(x) - low) as u64;
        // Syllables make it a word of the language's shape.
        let mut word = String::new();
        let mut rest = i.wrapping_mul(2_654_435_761) % (1 << 32);
        for _ in 0..2 + i % 3 {
            word.push(char::from(b"bdfgklmnprstvz"[(rest % 14) as usize]));
            word.push(char::from(b"aeiou"[(rest / 14 % 5) as usize]));
            rest /= 70;
        }
        word
    }
}

fn generate(corpus: &Path, n: usize) -> Result<(), Box<dyn Error>> {
    let mut draws = Draws(1);
    let mut out = std::io::BufWriter::new(std::fs::File::create(corpus)?);
    for i in 0..n {
        let title = [draws.word(), draws.word(), draws.word()].join(" ");
        let n_words = 80 + draws.next() % 41;
        let text: Vec<String> = (0..n_words).map(|_| draws.word()).collect();
        writeln!(out, "{}", json!({ "id": i.to_string(), "title": title, "text": text.join(" ") }))?;
    }
    out.flush()?;
    Ok(())
}

fn generated_queries(n: usize) -> Vec<String> {
    let mut draws = Draws(2);
    (0..n).map(|i| (0..2 + i % 8).map(|_| draws.word()).collect::<Vec<_>>().join(" ")).collect()
}
