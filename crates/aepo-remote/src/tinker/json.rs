//! How does a batch look as JSON, for servers from before protobuf (SkyRL 0.3.0)?

use serde_json::{Map, Value, json};

use super::model::Sequence;

/// `forward_backward_input` or `forward_input`.
#[must_use]
pub fn input(rows: &[Sequence<'_>], loss: &str) -> Value {
    let data: Vec<Value> = rows.iter().map(datum).collect();
    json!({ "data": data, "loss_fn": loss })
}

fn datum(row: &Sequence<'_>) -> Value {
    let n = row.next.len();
    let tensor = |data: Value, dtype: &str| json!({ "data": data, "dtype": dtype, "shape": [n] });
    let mut inputs = Map::new();
    inputs.insert("target_tokens".to_owned(), tensor(json!(row.next), "int64"));
    for (name, numbers) in [("logprobs", row.logprobs), ("advantages", row.advantages)] {
        inputs.insert(name.to_owned(), tensor(json!(numbers), "float32"));
    }
    let chunk = json!({ "type": "encoded_text", "tokens": row.read });
    json!({ "model_input": { "chunks": [chunk] }, "loss_fn_inputs": inputs })
}

/// The floats of a field of `loss_fn_outputs`, sequence by sequence; `None` where it is not there as its form says.
#[must_use]
pub fn field(output: &Value, name: &str) -> Option<Vec<Vec<f32>>> {
    let numbers = |datum: &Value| {
        let data = datum.get(name)?.get("data")?.as_array()?;
        data.iter().map(|x| x.as_f64().map(|x| x as f32)).collect::<Option<Vec<f32>>>()
    };
    output.get("loss_fn_outputs")?.as_array()?.iter().map(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_written_as_documented_and_a_result_is_read() {
        let row = Sequence { read: &[5, 300], next: &[300, 2], logprobs: &[-1.0, -2.0], advantages: &[0.0, 0.5] };
        let expected = json!({
            "data": [{
                "model_input": { "chunks": [{ "type": "encoded_text", "tokens": [5, 300] }] },
                "loss_fn_inputs": {
                    "target_tokens": { "data": [300, 2], "dtype": "int64", "shape": [2] },
                    "logprobs": { "data": [-1.0, -2.0], "dtype": "float32", "shape": [2] },
                    "advantages": { "data": [0.0, 0.5], "dtype": "float32", "shape": [2] },
                },
            }],
            "loss_fn": "importance_sampling",
        });
        assert_eq!(input(&[row], "importance_sampling"), expected);
        let output =
            json!({ "loss_fn_outputs": [{ "logprobs": { "data": [-1, -0.5] } }, { "logprobs": { "data": [] } }] });
        assert_eq!(field(&output, "logprobs"), Some(vec![vec![-1.0, -0.5], vec![]]));
        for bad in [
            json!({}),
            json!({ "loss_fn_outputs": [{}] }),
            json!({ "loss_fn_outputs": [{ "logprobs": { "data": ["a"] } }] }),
        ] {
            assert_eq!(field(&bad, "logprobs"), None, "{bad}");
        }
    }
}
