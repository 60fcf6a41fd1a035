//! Which numbers are the bytes of a tensor? f32, f16 and bf16 to what they are kept in, and f32 to f32 or
//! bf16, little end first.

use std::io::{self, Write};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::error::WeightsError;
use crate::weights::Kept;

/// How numbers are stored in a weights file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Exact: what training goes on from.
    F32,
    /// Half the size, 8 bits of mantissa: what is shipped.
    Bf16,
}

impl Precision {
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    /// The value of `torch_dtype`.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Precision::F32 => "float32",
            Precision::Bf16 => "bfloat16",
        }
    }

    pub(super) fn n_bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

/// Whether [`append`] can read it.
pub(super) fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Appends a tensor's numbers.
pub(super) fn append<N: Kept>(name: &str, view: &TensorView<'_>, to: &mut Vec<N>) -> Result<(), WeightsError> {
    let (data, start) = (view.data(), to.len());
    match view.dtype() {
        Dtype::F32 => to.extend(data.as_chunks::<4>().0.iter().map(|b| N::rounded(f32::from_le_bytes(*b)))),
        Dtype::F16 => to.extend(data.as_chunks::<2>().0.iter().map(|b| N::rounded(f16::from_le_bytes(*b).to_f32()))),
        Dtype::BF16 => to.extend(data.as_chunks::<2>().0.iter().map(|b| N::rounded(bf16::from_le_bytes(*b).to_f32()))),
        other => return Err(WeightsError::Type { tensor: name.into(), found: format!("{other:?}") }),
    }
    match to[start..].iter().all(|x| x.is_a_number()) {
        true => Ok(()),
        false => Err(WeightsError::NotFinite { tensor: name.into() }),
    }
}

/// Writes numbers, through a small buffer.
pub(super) fn write(numbers: &[f32], precision: Precision, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4 << 12);
    for chunk in numbers.chunks(1 << 12) {
        buffer.clear();
        match precision {
            Precision::F32 => buffer.extend(chunk.iter().flat_map(|x| x.to_le_bytes())),
            Precision::Bf16 => buffer.extend(chunk.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
        }
        to.write_all(&buffer)?;
    }
    Ok(())
}
