//! Does every bad file give one error with file and row, within bounds and without a panic?

use std::io::{Seek as _, SeekFrom, Write as _};

use aepo_tools::rows::{MAX_ROW_BYTES, Rows};

use crate::{file, refused, rows};

const GOOD: &str = r#"{"id":"a","kind":"k","question":"q?","answers":["1"],"grader":"math"}"#;

#[test]
fn bad_lines_are_named() {
    let deep = format!("{GOOD}\n{{\"a\":{}\n", "[".repeat(100_000));
    let table: [(&str, Vec<u8>, &str); 8] = [
        ("t.jsonl", b"".to_vec(), "t.jsonl holds no task"),
        (
            "t.jsonl",
            [GOOD.as_bytes(), b"\n\x00\x00\x00\n"].concat(),
            "t.jsonl, line 2: not JSON (expected value at line 1 column 1)",
        ),
        (
            "t.jsonl",
            [GOOD.as_bytes(), b"\n{\"id\":\"\xff\"}"].concat(),
            "t.jsonl, line 2: not JSON (invalid unicode code point at line 1 column 8)",
        ),
        ("t.jsonl", deep.into_bytes(), "t.jsonl, line 2: not JSON (recursion limit exceeded at line 1 column 132)"),
        (
            "t.jsonl",
            format!("{GOOD}\n\n{GOOD}").into_bytes(),
            "t.jsonl, line 3, key id: \"a\" is already the id of line 1",
        ),
        ("t.jsonl", b"\"text\"".to_vec(), "t.jsonl, line 1: not a JSON object"),
        ("t.json", format!("[{GOOD},{GOOD}]").into_bytes(), "t.json, row 2, key id: \"a\" is already the id of row 1"),
        (
            "gsm8k.csv",
            b"question,answer\nq,#### 1\nq,one\n".to_vec(),
            "gsm8k.csv, row 2, key answer: does not end with #### and a number",
        ),
    ];
    for (name, bytes, expected) in table {
        assert_eq!(refused(name, &bytes), expected);
    }
    let said = refused("notes.jsonl", b"{\"frage\": \"?\", \"antwort\": \"!\"}\n");
    let expected = "notes.jsonl: no known layout has the fields \"frage\", \"antwort\"; name a benchmark whose layout it has, \
                    or the fields of question and answer";
    assert_eq!(said, expected);
}

#[test]
fn bad_tables_are_named() {
    let table: [(&[u8], &[&str]); 5] = [
        (b"a,a\n1,2\n", &["FILE, line 1: two fields are called \"a\""]),
        (b"a,\xff\n1,2\n", &["FILE, line 1: name 2 is no UTF-8"]),
        (b"a,b\n\xff,2\n3,4\n", &["row 1: ! field \"a\" is no UTF-8", "row 2: {\"a\":\"3\",\"b\":\"4\"}"]),
        (b"a,b\n\"1,2\n3,4\n", &["row 1: ! 1 fields, where the first line names 2"]),
        (b"", &[]),
    ];
    for (bytes, expected) in table {
        let (_dir, path) = file("a.csv", bytes);
        assert_eq!(rows(&path), expected, "{}", String::from_utf8_lossy(bytes));
    }
}

/// Files of more bytes than a row may have, which are mostly holes on the disk.
#[test]
fn a_row_without_an_end_is_not_taken_into_memory() {
    let sparse = |name: &str, begin: &[u8], end: &[u8]| {
        let (dir, path) = file(name, begin);
        let mut open = std::fs::File::options().write(true).open(&path).unwrap();
        open.seek(SeekFrom::Start(3 * MAX_ROW_BYTES as u64)).unwrap();
        open.write_all(end).unwrap();
        (dir, path)
    };
    let over = format!("a row of more than {MAX_ROW_BYTES} bytes");
    let (_dir, path) = sparse("a.jsonl", b"{\"a\": \"", b"\"}\n{\"a\": 1}\n");
    assert_eq!(rows(&path), [format!("line 1: ! {over}"), "line 2: {\"a\":1}".to_owned()]);
    let (_dir, path) = sparse("a.json", b"[{\"a\": \"", b"\"}, {\"a\": 1}]\n");
    assert_eq!(rows(&path), [format!("row 1: ! {over}"), "row 2: {\"a\":1}".to_owned()]);
    let (_dir, path) = sparse("a.csv", b"a,b\n1,\"", b"\"\n2,3\n");
    assert_eq!(rows(&path), [format!("FILE, row 1: {over}")]);
    let (_dir, path) = sparse("a.csv", b"\"a", b"\"\n2\n");
    assert_eq!(rows(&path), [format!("FILE, line 1: {over}")]);
}

#[test]
fn damaged_parquet_is_an_error_of_the_file() {
    let (_dir, whole) = file("a.parquet", b"PAR1 and no more");
    let said = rows(&whole);
    assert!(said.len() == 1 && said[0].starts_with("FILE, row 1: cannot be read as Parquet: "), "{said:?}");
    // A real table, cut off anywhere and with any byte changed: rows, or one error.
    let (_dir, path) = file("b.parquet", b"");
    crate::forms::verl_parquet(&path);
    let bytes = std::fs::read(&path).unwrap();
    for n in (0..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..n]).unwrap();
        let said = rows(&path);
        assert!(said.len() == 1 && said[0].starts_with("FILE, row 1: cannot be read as Parquet"), "{n}: {said:?}");
    }
    for at in (0..bytes.len()).step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        std::fs::write(&path, &changed).unwrap();
        if let Ok(mut rows) = Rows::open(&path) {
            // Bounded: a damaged count must not make it go on for ever.
            let n = std::iter::from_fn(|| rows.next_row().ok().flatten()).take(1000).count();
            assert!(n <= 2, "{at}: {n} rows");
        }
    }
}
