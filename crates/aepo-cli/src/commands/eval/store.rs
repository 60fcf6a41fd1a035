//! Which answers are there already? `answers.jsonl`: a line per finished answer, on the disk before anything else happens.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aepo::eval::answer::AnswerRecord;
use anyhow::Context as _;

/// Its name in the directory of an evaluation.
pub const ANSWERS: &str = "answers.jsonl";

/// What tells an answer from all others: set, question, sample.
pub type Name = (String, String, usize);

/// The answers of an evaluation, open to add to.
pub struct Store {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    /// Without their texts, which would fill the memory.
    answers: BTreeMap<Name, AnswerRecord>,
}

impl Store {
    /// Reads what is there. A torn last line, which a power cut leaves, is cut off; any other line that is no answer is an
    /// error. Of several lines about one answer the last counts: one that was unavailable has been asked for again.
    pub fn open(dir: &Path) -> anyhow::Result<Store> {
        let path = dir.join(ANSWERS);
        let (answers, n_good, n_bytes) = match File::open(&path) {
            Ok(file) => read(file).with_context(|| path.display().to_string())?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (BTreeMap::new(), 0, 0),
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        };
        let open = || -> std::io::Result<File> {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            if n_good < n_bytes {
                file.set_len(n_good)?;
            }
            file.sync_all()?;
            Ok(file)
        };
        let file = open().with_context(|| path.display().to_string())?;
        Ok(Store { path, inner: Mutex::new(Inner { file, answers }) })
    }

    /// Writes an answer, whole or not at all, and waits for the disk.
    pub fn add(&self, record: &AnswerRecord) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let append = |file: &mut File| -> std::io::Result<()> {
            let n_before = file.metadata()?.len();
            file.write_all(&line).and_then(|()| file.sync_data()).inspect_err(|_| {
                // A full disk takes part of a line; the part is taken back. Where even that fails, --resume does it.
                let _ = file.set_len(n_before);
            })
        };
        append(&mut inner.file).with_context(|| self.path.display().to_string())?;
        inner.answers.insert(name(record), AnswerRecord { text: String::new(), ..record.clone() });
        Ok(())
    }

    /// Whether there is an answer that counts.
    pub fn has(&self, name: &Name) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answers.get(name).is_some_and(AnswerRecord::counts)
    }

    /// All answers, without their texts.
    pub fn into_answers(self) -> BTreeMap<Name, AnswerRecord> {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner).answers
    }
}

fn name(record: &AnswerRecord) -> Name {
    (record.benchmark.clone(), record.id.clone(), record.sample)
}

/// Answers, the bytes that hold them, and the bytes that there are.
fn read(file: File) -> anyhow::Result<(BTreeMap<Name, AnswerRecord>, u64, u64)> {
    let n_bytes = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let (mut answers, mut n_good, mut n_lines) = (BTreeMap::new(), 0, 0);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        n_lines += 1;
        let is_last = n_good + line.len() as u64 == n_bytes;
        match serde_json::from_slice::<AnswerRecord>(&line) {
            Ok(mut record) if line.ends_with(b"\n") => {
                record.text = String::new();
                answers.insert(name(&record), record);
                n_good += line.len() as u64;
            }
            _ if is_last => break,
            Ok(_) => anyhow::bail!("line {n_lines} has no end"),
            Err(e) => return Err(e).with_context(|| format!("line {n_lines} is no answer")),
        }
        line.clear();
    }
    Ok((answers, n_good, n_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, stop: &str) -> AnswerRecord {
        AnswerRecord {
            benchmark: "b".to_owned(),
            id: id.to_owned(),
            sample: 0,
            seed: 1,
            stop: stop.to_owned(),
            answer: None,
            format_ok: false,
            calls: BTreeMap::new(),
            n_prompt_tokens: None,
            n_sampled_tokens: None,
            secs: 0.0,
            error: None,
            text: "long\ntext".to_owned(),
        }
    }

    fn named(id: &str) -> Name {
        ("b".to_owned(), id.to_owned(), 0)
    }

    #[test]
    fn what_was_written_is_there_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ANSWERS);
        let store = Store::open(dir.path()).unwrap();
        store.add(&record("1", "answered")).unwrap();
        store.add(&record("2", "server-unavailable")).unwrap();
        assert!(store.has(&named("1")) && !store.has(&named("2")) && !store.has(&named("3")));
        let whole = std::fs::read(&path).unwrap();
        drop(store);
        // Cut anywhere inside the second line: the first is kept, and the file is whole again.
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in first + 1..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert!(store.has(&named("1")), "{cut}");
            drop(store);
            assert_eq!(std::fs::read(&path).unwrap(), &whole[..first], "{cut}");
        }
        let store = Store::open(dir.path()).unwrap();
        store.add(&record("2", "server-unavailable")).unwrap();
        store.add(&record("2", "no-action")).unwrap();
        assert!(store.has(&named("2")));
        let answers = Store::open(dir.path()).unwrap().into_answers();
        assert_eq!((answers.len(), answers[&named("2")].stop.as_str()), (2, "no-action"));
        assert_eq!(answers[&named("1")].text, "");
    }

    #[test]
    fn a_line_that_is_no_answer_is_named_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ANSWERS);
        Store::open(dir.path()).unwrap().add(&record("1", "answered")).unwrap();
        let text = format!("nonsense\n{}", std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, &text).unwrap();
        let error = format!("{:#}", Store::open(dir.path()).err().unwrap());
        assert!(error.contains("line 1 is no answer"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
