//! What does a GGUF file say it holds? Its keys and the places of its tensors, every number checked before it is used.
//!
//! The format (ggml, `docs/gguf.md`), little-endian: magic, version, number of tensors, number of keys; the keys, each
//! name, type, value; the tensors, each name, dimensions (innermost first), type, offset; padding; data. The file is
//! read through a bounded buffer rather than mapped, so that one that shrinks while it is read is an error and no crash.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::error::GgufError;
use super::quants::{self, Quant};

/// More entries than any vocabulary, list of merges or model has.
const MAX_COUNT: u64 = 1 << 22;
/// Longer than any chat template, bytes.
const MAX_TEXT: u64 = 1 << 24;
/// The longest name of a key that the format allows, bytes.
const MAX_NAME: u64 = (1 << 16) - 1;
/// Bytes of a tensor that are held at once.
const CHUNK_BYTES: usize = 1 << 20;
/// The format's default alignment of tensor data, bytes.
const ALIGNMENT: u64 = 32;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any integer type.
    Integer(i128),
    /// `f32`: kept as such, because its shortest decimal is what the model's author wrote.
    F32(f32),
    /// `f64`
    F64(f64),
    /// `bool`
    Bool(bool),
    /// `string`
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of 32-bit integers.
    Integers(Vec<i64>),
    /// An array of another type, which no supported model needs; its values are passed over.
    PassedOver,
}

impl std::fmt::Display for Value {
    /// Short, whatever the file holds: for messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Integer(x) => write!(f, "{x}"),
            Value::F32(x) => write!(f, "{x}"),
            Value::F64(x) => write!(f, "{x}"),
            Value::Bool(x) => write!(f, "{x}"),
            Value::Text(x) => write!(f, "{:?}", x.chars().take(60).collect::<String>()),
            Value::Texts(x) => write!(f, "an array of {} strings", x.len()),
            Value::Integers(x) => write!(f, "an array of {} integers", x.len()),
            Value::PassedOver => write!(f, "an array"),
        }
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Type of its numbers.
    pub quant: Quant,
    /// Row-major shape, outermost dimension first; no entry is 0.
    pub shape: Vec<usize>,
    /// Offset in the file, bytes.
    pub start: u64,
    /// Length in the file, bytes.
    pub n_bytes: u64,
}

/// A file whose header was read and found consistent.
pub struct GgufFile<R> {
    /// By name.
    pub keys: BTreeMap<String, Value>,
    /// By name; they overlap neither each other nor the header, and end within the file.
    pub tensors: BTreeMap<String, TensorInfo>,
    source: BufReader<R>,
}

impl<R: Read + Seek> GgufFile<R> {
    /// Reads the header.
    pub fn open(mut source: R) -> Result<GgufFile<R>, GgufError> {
        let len = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        let mut header = Header { source: BufReader::new(source), position: 0, len };
        let (n_tensors, n_keys) = header.counts()?;
        let mut keys = BTreeMap::new();
        for i in 0..n_keys {
            let key = header.text(&format!("name of key {i}"), MAX_NAME)?;
            let value = header.value(&key)?;
            if keys.insert(key.clone(), value).is_some() {
                return Err(GgufError::key(&key, "stands twice: the file is damaged"));
            }
        }
        let mut tensors = BTreeMap::new();
        for i in 0..n_tensors {
            let name = header.text(&format!("name of tensor {i}"), MAX_NAME)?;
            let info = header.tensor(&name)?;
            if tensors.insert(name.clone(), info).is_some() {
                return Err(GgufError::tensor(&name, "stands twice: the file is damaged"));
            }
        }
        place(&mut tensors, alignment(&keys)?, header.position, len)?;
        Ok(GgufFile { keys, tensors, source: header.source })
    }

    /// Writes a tensor's numbers; `out` has as many as its shape says.
    pub fn read_tensor(&mut self, info: &TensorInfo, out: &mut [f32]) -> Result<(), GgufError> {
        let (block_len, block_bytes) = (info.quant.block_len(), info.quant.block_bytes());
        let n_blocks = CHUNK_BYTES / block_bytes;
        let mut bytes = vec![0; (info.n_bytes as usize).min(n_blocks * block_bytes)];
        self.source.seek(SeekFrom::Start(info.start))?;
        for out in out.chunks_mut(n_blocks * block_len) {
            let bytes = &mut bytes[..out.len() / block_len * block_bytes];
            self.source.read_exact(bytes)?;
            quants::dequantize(info.quant, bytes, out);
        }
        Ok(())
    }
}

/// The part of the file before the tensors' data, read from front to back.
struct Header<R> {
    source: BufReader<R>,
    position: u64,
    len: u64,
}

impl<R: Read> Header<R> {
    /// That `n` things of at least `bytes` each can follow.
    fn expect(&self, what: &str, n: u64, bytes: u64) -> Result<(), GgufError> {
        let (needed, left) = (u128::from(n) * u128::from(bytes), self.len - self.position);
        if needed > u128::from(left) {
            return Err(GgufError::Truncated { what: what.to_owned(), needed, left });
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.expect(what, N as u64, 1)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    /// A number of things of at least `bytes` each, all of which the file must still be able to hold.
    fn count(&mut self, what: &str, bytes: u64, limit: u64) -> Result<u64, GgufError> {
        let found = self.bytes(what).map(u64::from_le_bytes)?;
        self.expect(what, found, bytes)?;
        match found > limit {
            true => Err(GgufError::TooMany { what: what.to_owned(), found, limit }),
            false => Ok(found),
        }
    }

    fn text(&mut self, what: &str, limit: u64) -> Result<String, GgufError> {
        let n = self.count(&format!("length of the {what}"), 1, limit)?;
        let mut bytes = vec![0; n as usize];
        self.source.read_exact(&mut bytes)?;
        self.position += n;
        String::from_utf8(bytes).map_err(|_| GgufError::NotText { what: what.to_owned() })
    }

    /// Magic, version, number of tensors and number of keys.
    fn counts(&mut self) -> Result<(u64, u64), GgufError> {
        let found = self.bytes("the magic number")?;
        if &found != b"GGUF" {
            return Err(GgufError::Magic { found });
        }
        match self.u32("the version")? {
            2 | 3 => {}
            found if matches!(found.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
            found => return Err(GgufError::Version { found }),
        }
        // A tensor takes at least a name's length, a number of dimensions, one dimension, a type and an offset; a key
        // at least a name's length, a type and a byte.
        let n_tensors = self.count("the number of tensors", 32, MAX_COUNT)?;
        let n_keys = self.count("the number of keys", 13, MAX_COUNT)?;
        Ok((n_tensors, n_keys))
    }

    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let what = format!("value of key `{key}`");
        let kind = self.u32(&what)?;
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.bytes(&what)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.bytes(&what)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.bytes(&what)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.bytes(&what)?).into()),
            4 => Value::Integer(self.u32(&what)?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.bytes(&what)?).into()),
            6 => Value::F32(f32::from_le_bytes(self.bytes(&what)?)),
            7 => match self.bytes(&what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => {
                    return Err(GgufError::key(key, format!("must be true (1) or false (0), found byte {other}")));
                }
            },
            8 => Value::Text(self.text(&what, MAX_TEXT)?),
            9 => self.array(key, &what)?,
            10 => Value::Integer(u64::from_le_bytes(self.bytes(&what)?).into()),
            11 => Value::Integer(i64::from_le_bytes(self.bytes(&what)?).into()),
            12 => Value::F64(f64::from_le_bytes(self.bytes(&what)?)),
            other => return Err(GgufError::key(key, format!("has the unknown type {other}: the file is damaged"))),
        })
    }

    fn array(&mut self, key: &str, what: &str) -> Result<Value, GgufError> {
        let kind = self.u32(what)?;
        let item_bytes: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(GgufError::key(key, "is an array of arrays, which no supported model has")),
            other => {
                return Err(GgufError::key(
                    key,
                    format!("is an array of the unknown type {other}: the file is damaged"),
                ));
            }
        };
        let n = self.count(&format!("length of the {what}"), item_bytes, MAX_COUNT)?;
        // No capacity is reserved by the count alone: an empty string takes more memory than its eight bytes here.
        match kind {
            4 => Ok(Value::Integers((0..n).map(|_| self.u32(what).map(i64::from)).collect::<Result<_, _>>()?)),
            5 => {
                let item = |_| self.bytes(what).map(|b| i64::from(i32::from_le_bytes(b)));
                Ok(Value::Integers((0..n).map(item).collect::<Result<_, _>>()?))
            }
            8 => Ok(Value::Texts(
                (0..n).map(|i| self.text(&format!("entry {i} of the {what}"), MAX_TEXT)).collect::<Result<_, _>>()?,
            )),
            _ => {
                let n_bytes = n * item_bytes;
                let passed = std::io::copy(&mut self.source.by_ref().take(n_bytes), &mut std::io::sink())?;
                self.position += passed;
                match passed == n_bytes {
                    true => Ok(Value::PassedOver),
                    false => Err(GgufError::Read(std::io::ErrorKind::UnexpectedEof.into())),
                }
            }
        }
    }

    /// A tensor's description; `start` is still relative to the data.
    fn tensor(&mut self, name: &str) -> Result<TensorInfo, GgufError> {
        let what = format!("description of tensor `{name}`");
        let n_dims = self.u32(&what)?;
        if !(1..=4).contains(&n_dims) {
            return Err(GgufError::tensor(name, format!("has {n_dims} dimensions, 1 to 4 are possible")));
        }
        let mut shape = Vec::new();
        let mut n_numbers = 1u64;
        for _ in 0..n_dims {
            let dim = self.bytes(&what).map(u64::from_le_bytes)?;
            n_numbers = n_numbers.checked_mul(dim).filter(|&n| n > 0 && n <= i64::MAX as u64).ok_or_else(|| {
                GgufError::tensor(name, format!("has an impossible dimension, {dim}: the file is damaged"))
            })?;
            shape.insert(0, dim as usize);
        }
        let id = self.u32(&what)?;
        let Some(quant) = Quant::of_id(id) else {
            let problem = match type_name(id) {
                Some(kind) => format!("is of type {kind}, which is not supported ({} are)", quants::SUPPORTED),
                None => format!("is of the unknown type {id} ({} are supported)", quants::SUPPORTED),
            };
            return Err(GgufError::tensor(name, problem));
        };
        let start = self.bytes(&what).map(u64::from_le_bytes)?;
        let (row, block_len) = (shape[shape.len() - 1], quant.block_len());
        if !row.is_multiple_of(block_len) {
            let problem = format!("has rows of {row} numbers, but blocks of {block_len}: the file is damaged");
            return Err(GgufError::tensor(name, problem));
        }
        // At most four bytes a number: the product may pass 2^64.
        let n_bytes = u128::from(n_numbers / block_len as u64) * quant.block_bytes() as u128;
        let n_bytes = u64::try_from(n_bytes).ok().filter(|&n| n <= self.len).ok_or_else(|| GgufError::Truncated {
            what: format!("tensor `{name}`"),
            needed: n_bytes,
            left: self.len,
        })?;
        Ok(TensorInfo { quant, shape, start, n_bytes })
    }
}

/// Types that ggml knows and this reader does not, for the message.
fn type_name(id: u32) -> Option<&'static str> {
    Some(match id {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24..=27 => "integer",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return None,
    })
}

fn alignment(keys: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    match keys.get(KEY) {
        None => Ok(ALIGNMENT),
        Some(&Value::Integer(n)) => u32::try_from(n)
            .ok()
            .filter(|n| n.is_power_of_two())
            .map(u64::from)
            .ok_or_else(|| GgufError::key(KEY, format!("must be a power of two, found {n}"))),
        Some(other) => Err(GgufError::key(KEY, format!("must be a power of two, found {other}"))),
    }
}

/// Turns offsets within the data into offsets within the file, and checks that no two tensors share a byte.
fn place(
    tensors: &mut BTreeMap<String, TensorInfo>,
    alignment: u64,
    header_end: u64,
    len: u64,
) -> Result<(), GgufError> {
    let data = header_end.next_multiple_of(alignment);
    let mut order: Vec<(&String, &mut TensorInfo)> = tensors.iter_mut().collect();
    order.sort_by_key(|(_, t)| t.start);
    let mut end_before = data;
    for (name, tensor) in order {
        let offset = tensor.start;
        if !offset.is_multiple_of(alignment) {
            let problem = format!("begins at {offset}, which is no multiple of the alignment {alignment}");
            return Err(GgufError::tensor(name, problem));
        }
        let end = u128::from(data) + u128::from(offset) + u128::from(tensor.n_bytes);
        if end > u128::from(len) {
            let left = len.saturating_sub(data.saturating_add(offset));
            let what = format!("tensor `{name}` at {offset}");
            return Err(GgufError::Truncated { what, needed: tensor.n_bytes.into(), left });
        }
        tensor.start = data + offset;
        if tensor.start < end_before {
            return Err(GgufError::tensor(
                name,
                format!("at {offset} overlaps the tensor before it: the file is damaged"),
            ));
        }
        end_before = tensor.start + tensor.n_bytes;
    }
    Ok(())
}
