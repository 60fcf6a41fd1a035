//! Do all forms of a file give the same rows?

use std::fs::File;
use std::sync::Arc;

use aepo::data::files::Shape;
use aepo_tools::rows::read_tasks;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::{file, rows};

#[test]
fn lines_are_rows_and_blank_ones_are_none() {
    let (_dir, path) = file("a.jsonl", b"\xef\xbb\xbf{\"a\": 1}\r\n\r\n  {\"a\": [2]}\n[]\n{\"a\"\n{\"a\": 3}");
    let said = [
        "line 1: {\"a\":1}",
        "line 3: {\"a\":[2]}",
        "line 4: ! not a JSON object",
        "line 5: ! not JSON (EOF while parsing an object at line 1 column 4)",
        "line 6: {\"a\":3}",
    ];
    assert_eq!(rows(&path), said);
}

#[test]
fn a_list_has_items_wherever_brackets_stand_in_texts() {
    let text = b"\xef\xbb\xbf\n [ {\"a\": \"},]\\\"[\"},\n {\"b\": [1, {\"c\": []}]} , 3 ]\n";
    let (_dir, path) = file("a.json", text);
    let said = ["row 1: {\"a\":\"},]\\\"[\"}", "row 2: {\"b\":[1,{\"c\":[]}]}", "row 3: ! not a JSON object"];
    assert_eq!(rows(&path), said);
    for empty in ["[]", " [ \n ] "] {
        let (_dir, path) = file("a.jsonl", empty.as_bytes());
        assert_eq!(rows(&path), Vec::<String>::new(), "{empty}");
    }
    let (_dir, path) = file("a.json", b"{\"a\": 1}\n{\"a\": 2}\n");
    assert_eq!(rows(&path), ["line 1: {\"a\":1}", "line 2: {\"a\":2}"]);
    let (_dir, path) = file("a.json", b"[{\"a\": 1}, {\"a\": ");
    assert_eq!(rows(&path), ["row 1: {\"a\":1}", "row 2: ! the list does not end"]);
}

#[test]
fn separated_values_are_texts_under_their_names() {
    let text = "\u{feff}id,problem,answer\r\n1,\"two\nlines, \"\"quoted\"\"\",x\r\n2,,\n3,short\n4,ä,b\n";
    let (_dir, path) = file("a.csv", text.as_bytes());
    let said = [
        "row 1: {\"id\":\"1\",\"problem\":\"two\\nlines, \\\"quoted\\\"\",\"answer\":\"x\"}",
        "row 2: {\"id\":\"2\",\"problem\":null,\"answer\":null}",
        "row 3: ! 2 fields, where the first line names 3",
        "row 4: {\"id\":\"4\",\"problem\":\"ä\",\"answer\":\"b\"}",
    ];
    assert_eq!(rows(&path), said);
    let (_dir, path) = file("a.tsv", b"\tPrompt\tAnswer\n0\tWho, me?\tyes\n");
    assert_eq!(rows(&path), ["row 1: {\"\":\"0\",\"Prompt\":\"Who, me?\",\"Answer\":\"yes\"}"]);
}

/// A table with nested columns as verl writes them.
pub fn verl_parquet(path: &std::path::Path) {
    let schema = "message schema { optional binary data_source (UTF8); optional binary ability (UTF8);
        optional group prompt (LIST) { repeated group list { optional group element {
            optional binary content (UTF8); optional binary role (UTF8); } } }
        optional group reward_model { optional binary ground_truth (UTF8); }
        optional group extra_info { optional int64 index; } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts: [(&[&str], i16, &[i16]); 5] = [
        (&["mix", "mix"], 1, &[0, 0]),
        (&["math", "qa"], 1, &[0, 0]),
        (&["Use \u{8}oxed{}.", "1 + 1?", "Who?"], 4, &[0, 1, 0]),
        (&["system", "user", "user"], 4, &[0, 1, 0]),
        (&["2", "I<|answer_split|>me"], 2, &[0, 0]),
    ];
    for (values, level, repetitions) in texts {
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
        let definitions = vec![level; values.len()];
        column.typed::<ByteArrayType>().write_batch(&values, Some(&definitions), Some(repetitions)).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[0], Some(&[2, 1]), Some(&[0, 0])).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn nested_columns_are_objects_and_lists() {
    let (_dir, path) = file("a.parquet", b"");
    verl_parquet(&path);
    let said = [
        "row 1: {\"data_source\":\"mix\",\"ability\":\"math\",\"prompt\":[{\"content\":\"Use \\boxed{}.\",\"role\":\"system\"},\
         {\"content\":\"1 + 1?\",\"role\":\"user\"}],\"reward_model\":{\"ground_truth\":\"2\"},\"extra_info\":{\"index\":0}}",
        "row 2: {\"data_source\":\"mix\",\"ability\":\"qa\",\"prompt\":[{\"content\":\"Who?\",\"role\":\"user\"}],\
         \"reward_model\":{\"ground_truth\":\"I<|answer_split|>me\"},\"extra_info\":{\"index\":null}}",
    ];
    assert_eq!(rows(&path), said);
    let found = read_tasks(&path, None).unwrap();
    assert_eq!((found.shape.clone(), found.n_rows), (Shape::Verl { grader: None }, 2));
    assert_eq!(found.tasks[1].answers, ["I", "me"]);
    let note = "rows repaired: 1 of 2 (commands that got their backslash back, where a control character stood as in \
                \\x08oxed: 1)";
    assert_eq!(found.notes(), [note]);
}
