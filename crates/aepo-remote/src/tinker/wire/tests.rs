//! Are these bytes those of Google's own library?
//!
//! The bytes are what Python's protobuf 6 writes with `tinker_public_pb2` of `tinker` 0.38.0, maps sorted
//! (`SerializeToString(deterministic=True)`):
//!
//! ```python
//! m = pb.ForwardBackwardRequest(model_id="m1", seq_id=7, loss_fn="importance_sampling", forward_only=True)
//! m.loss_fn_config["clip_low_threshold"] = 0.5
//! d = m.data.add(); d.model_input.add().encoded_text.tokens = np.array([5, 300, 2], np.int32).tobytes()
//! # target_tokens [300, 2, 9] int64; advantages [0, -1.5, 0.25], logprobs [-1, -2, -0.5] float32, each with its shape
//! o = pb.ForwardBackwardOutput(loss_fn_output_type="scalar"); o.metrics["loss:sum"] = -1.25
//! r = o.loss_fn_outputs.add(); r.num_datums = 2; r.type_tag = "x"; f = r.fields["logprobs"]; f.dtype = 1
//! f.data = np.array([-1, -2, -3], np.float32).tobytes(); f.offsets = np.array([0, 8, 12], np.int64).tobytes()
//! ```

use super::*;

const REQUEST: &str = "0a026d3110071a88010a100a0e0a0c050000002c0100000200000012210a0a616476616e746167657312130a0c00000000\
    0000c0bf0000803e1801220103121f0a086c6f6770726f627312130a0c000080bf000000c0000000bf180122010312300a0d7461726765745f\
    746f6b656e73121f0a182c010000000000000200000000000000090000000000000018022201032213696d706f7274616e63655f73616d706c\
    696e672a1d0a12636c69705f6c6f775f7468726573686f6c6411000000000000e03f3001";
const OUTPUT: &str = "0a067363616c6172123d0a017812360a086c6f6770726f6273122a0a0c000080bf000000c0000040c01218000000000000\
    000008000000000000000c00000000000000180118021a130a086c6f73733a73756d11000000000000f4bf";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn request() -> ForwardBackwardRequest {
    let inputs = [
        ("target_tokens", Tensor::integers(&[300, 2, 9])),
        ("advantages", Tensor::floats(&[0.0, -1.5, 0.25])),
        ("logprobs", Tensor::floats(&[-1.0, -2.0, -0.5])),
    ];
    let loss_fn_inputs = inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    ForwardBackwardRequest {
        model_id: "m1".to_owned(),
        seq_id: 7,
        data: vec![Datum { model_input: vec![Chunk::text(&[5, 300, 2])], loss_fn_inputs }],
        loss_fn: "importance_sampling".to_owned(),
        loss_fn_config: BTreeMap::from([("clip_low_threshold".to_owned(), 0.5)]),
        forward_only: true,
    }
}

#[test]
fn a_request_is_written_byte_by_byte_as_python_writes_it() {
    assert_eq!(request().encode_to_vec(), bytes(REQUEST));
    assert_eq!(ForwardBackwardRequest::decode(&bytes(REQUEST)[..]).unwrap(), request());
}

#[test]
fn a_result_of_python_is_read() {
    let output = ForwardBackwardOutput::decode(&bytes(OUTPUT)[..]).unwrap();
    assert_eq!(output.field("logprobs"), Some(vec![vec![-1.0, -2.0], vec![-3.0]]));
    assert_eq!((output.loss_fn_output_type.as_str(), output.metrics["loss:sum"]), ("scalar", -1.25));
    assert_eq!(output.field("elementwise_loss"), None);
    let ours = ForwardBackwardOutput::of(&[("logprobs", &[vec![-1.0, -2.0], vec![-3.0]])], 2);
    assert_eq!(ours.loss_fn_outputs[0].fields, output.loss_fn_outputs[0].fields);
}

/// Whatever a server sends: lengths that lie, offsets outside, numbers cut in two.
#[test]
fn a_damaged_result_is_none_and_never_a_panic() {
    let whole = ForwardBackwardOutput::decode(&bytes(OUTPUT)[..]).unwrap();
    let damaged = |harm: &dyn Fn(&mut ArrayRecord)| {
        let mut output = whole.clone();
        harm(&mut output.loss_fn_outputs[0]);
        output.field("logprobs")
    };
    let offsets = |numbers: &[i64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    for numbers in [&[0, 8, 13][..], &[0, 8, 16], &[8, 0, 12], &[-4, 8, 12], &[0, i64::MAX, i64::MIN], &[0, 12]] {
        let bytes = offsets(numbers);
        let harm = |r: &mut ArrayRecord| r.fields.get_mut("logprobs").unwrap().offsets.clone_from(&bytes);
        assert_eq!(damaged(&harm), None, "{numbers:?}");
    }
    assert_eq!(damaged(&|r| r.num_datums = -1), None);
    assert_eq!(damaged(&|r| r.num_datums = i64::MAX), None);
    assert_eq!(damaged(&|r| r.fields.get_mut("logprobs").unwrap().dtype = INT64), None);
    assert_eq!(damaged(&|r| r.fields.get_mut("logprobs").unwrap().data.truncate(11)), None);
    for end in 0..bytes(OUTPUT).len() {
        let _ = ForwardBackwardOutput::decode(&bytes(OUTPUT)[..end]).map(|output| output.field("logprobs"));
    }
}
