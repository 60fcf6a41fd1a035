//! Is every row a document or a complaint that names it?

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aepo_tools::search::disk::{BuildSettings, DiskIndex, Fields, IndexError};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::corpora::{answers, articles, built, jsonl, settings};

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> BuildSettings {
    let corpus = folder.join(name);
    std::fs::write(&corpus, text).unwrap();
    BuildSettings::new(corpus, folder.join("index"))
}

/// The first hit for a query in the index of `settings`, which is then removed.
fn first(settings: &BuildSettings, query: &str) -> (String, String, String) {
    built(settings).unwrap();
    let index = DiskIndex::open(&settings.out).unwrap();
    let d = index.search(query, 1).unwrap().remove(0).document;
    std::fs::remove_dir_all(&settings.out).unwrap();
    (d.id, d.title, d.text)
}

fn of(id: &str, title: &str, text: &str) -> (String, String, String) {
    (id.to_owned(), title.to_owned(), text.to_owned())
}

#[test]
fn rows_of_every_layout_are_documents() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}{\"id\": \"a\", \"title\": \"T\", \"text\": \"alpha\"}\r\n\n   \n\
                {\"id\": 12, \"contents\": \"\\\"A \\\"title\\\"\\\"\\nbeta\\ngamma\"}\n\
                {\"id\": \"c\", \"text\": \"delta\", \"title\": null, \"more\": [1]}\n\
                {\"id\": \"d\", \"contents\": \"epsilon alone\"}";
    let mut settings = write(folder.path(), "corpus.jsonl", text);
    assert_eq!(first(&settings, "alpha"), of("a", "T", "alpha"));
    assert_eq!(first(&settings, "gamma"), of("12", "A \"title\"", "beta\ngamma"));
    assert_eq!(first(&settings, "delta"), of("c", "", "delta"));
    assert_eq!(first(&settings, "epsilon"), of("d", "", "epsilon alone"));
    settings = write(folder.path(), "corpus.jsonl", "{\"name\": \"N\", \"body\": \"zeta\"}\n{\"body\": \"eta\"}\n");
    settings.fields = Fields { id: String::new(), title: "name".to_owned(), text: Some("body".to_owned()) };
    assert_eq!(first(&settings, "zeta"), of("0", "N", "zeta"));
    assert_eq!(first(&settings, "eta"), of("1", "", "eta"));
}

#[test]
fn a_bad_row_is_named_or_left_out_and_counted() {
    let good = "{\"id\": \"a\", \"text\": \"alpha\"}\n";
    let long = format!("{{\"id\": \"x\", \"text\": \"{}\"}}", "y".repeat(17 << 20));
    for (bad, why) in [
        (&b"nonsense"[..], "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"{\"text\": \"x\"}", "no field `id`"),
        (b"{\"id\": [], \"text\": \"x\"}", "`id` is neither text nor a number"),
        (b"{\"id\": \"x\"}", "no field `text` or `contents`"),
        (b"{\"id\": \"x\", \"text\": 5}", "`text` is no text"),
        (b"{\"id\": \"x\", \"text\": \"x\", \"title\": {}}", "`title` is no text"),
        (b"{\"id\": \"x\", \"text\": \" \"}", "neither title nor text"),
        (b"{\"id\": \"x\", \"text\": \"\xff\"}", "not JSON"),
        (b"{\"id\": \"x\", \"text\": \"cut", "not JSON"),
        (long.as_bytes(), "a row of more than"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut text = [good.as_bytes(), good.as_bytes(), bad, b"\n"].concat();
        text.extend_from_slice(b"{\"id\": \"z\", \"text\": \"omega\"}");
        let mut settings = write(folder.path(), "corpus.jsonl", text);
        let error = built(&settings).unwrap_err();
        assert!(matches!(error, IndexError::BadRow { row: 3, .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("corpus.jsonl:3: ") && said.contains(why), "{said}");
        assert!(!settings.out.exists() && !settings.beside().exists());
        settings.skip_bad_rows = true;
        let made = built(&settings).unwrap();
        assert_eq!((made.manifest.n_rows, made.manifest.n_skipped, made.skipped[0].0), (3, 1, 3));
        assert!(made.skipped[0].1.contains(why));
        let index = DiskIndex::open(&settings.out).unwrap();
        assert_eq!(index.search("omega", 3).unwrap()[0].document.id, "z");
    }
}

#[test]
fn what_is_no_corpus_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("empty.jsonl", ""), ("blank.jsonl", "\n \n")] {
        let settings = write(folder.path(), name, text);
        assert!(matches!(built(&settings), Err(IndexError::Empty { .. })));
        assert!(!settings.beside().exists());
    }
    for name in ["corpus.txt", "corpus", "corpus.jsonl.gz"] {
        let error = built(&write(folder.path(), name, "x")).unwrap_err();
        assert!(matches!(error, IndexError::UnknownFormat { .. }), "{error}");
        assert!(!folder.path().join("index.building").exists());
    }
    for bytes in [&b""[..], b"PAR1", b"PAR1xxxxxxxxPAR1", &[0xff; 4096]] {
        let error = built(&write(folder.path(), "corpus.parquet", bytes)).unwrap_err();
        assert!(matches!(error, IndexError::Parquet { .. }), "{error}");
        assert!(!folder.path().join("index.building").exists());
    }
    let absent = BuildSettings::new(folder.path().join("absent.jsonl"), folder.path().join("index"));
    assert!(matches!(built(&absent), Err(IndexError::Io { .. })));
}

/// Articles in Parquet, `group` rows in each group.
fn parquet(path: &Path, rows: &[[String; 3]], group: usize) {
    let schema = "message rows {
        REQUIRED BYTE_ARRAY id (UTF8); OPTIONAL BYTE_ARRAY title (UTF8); REQUIRED INT32 other;
        REQUIRED BYTE_ARRAY text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    for rows in rows.chunks(group) {
        let mut out = writer.next_row_group().unwrap();
        let column = |i: usize| rows.iter().map(|row| ByteArray::from(row[i].as_str())).collect::<Vec<_>>();
        let mut i = 0;
        while let Some(mut columns) = out.next_column().unwrap() {
            match i {
                2 => {
                    let numbers = vec![5; rows.len()];
                    columns.typed::<parquet::data_type::Int32Type>().write_batch(&numbers, None, None).unwrap();
                }
                _ => {
                    let values = column(if i == 3 { 2 } else { i });
                    let given = vec![1; rows.len()];
                    let levels = (i == 1).then_some(&given[..]);
                    columns.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
                }
            }
            columns.close().unwrap();
            i += 1;
        }
        out.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_answers_as_json_lines_do_and_resumes_within_a_group() {
    let folder = tempfile::tempdir().unwrap();
    let documents = articles(700);
    let lines = folder.path().join("corpus.jsonl");
    jsonl(&lines, &documents);
    built(&settings(lines, folder.path().join("lines"), 1000)).unwrap();
    let expected = answers(&DiskIndex::open(&folder.path().join("lines")).unwrap());

    let corpus = folder.path().join("corpus.parquet");
    let rows: Vec<[String; 3]> = documents.into_iter().map(|d| [d.id, d.title, d.text]).collect();
    parquet(&corpus, &rows, 150);
    let plan = settings(corpus.clone(), folder.path().join("index"), 70);
    for stop in [210, 630] {
        let stopped = aepo_tools::search::disk::build(&plan, |phase| match phase {
            aepo_tools::search::disk::Phase::Indexing { n_committed, .. } if n_committed >= stop => {
                std::ops::ControlFlow::Break(())
            }
            _ => std::ops::ControlFlow::Continue(()),
        });
        assert!(matches!(stopped, Err(IndexError::Stopped { n_rows }) if n_rows == stop));
    }
    assert_eq!(built(&plan).unwrap().n_resumed, 630);
    assert_eq!(answers(&DiskIndex::open(&plan.out).unwrap()), expected);

    let mut bytes = std::fs::read(&corpus).unwrap();
    let n = bytes.len();
    for at in [n / 7, n / 2, n - 40] {
        bytes[at..at + 8].fill(0xff);
    }
    let damaged = write(folder.path(), "damaged.parquet", &bytes);
    std::fs::remove_dir_all(&damaged.out).unwrap();
    assert!(built(&damaged).is_err(), "an error and no panic");
}

#[test]
fn parquet_rows_are_named_too() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.parquet");
    let row = |text: &str| ["a".to_owned(), String::new(), text.to_owned()];
    parquet(&corpus, &[row("x"), row("y"), row(""), row("z")], 2);
    let mut settings = BuildSettings::new(corpus, folder.path().join("index"));
    let error = built(&settings).unwrap_err().to_string();
    assert!(error.contains("corpus.parquet:3: neither title nor text"), "{error}");
    settings.out = folder.path().join("other");
    settings.fields.text = Some("other".to_owned());
    let error = built(&settings).unwrap_err().to_string();
    assert!(error.contains(":1: `other` is no text"), "{error}");
    settings.out = folder.path().join("third");
    settings.fields.text = Some("absent".to_owned());
    let error = built(&settings).unwrap_err().to_string();
    assert!(error.contains(":1: no field `absent`; --text-field"), "{error}");
}
