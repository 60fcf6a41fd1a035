//! What numbers does a block of quantised weights stand for? Each type's definition, evaluated in f32.
//!
//! The layouts are those of ggml's `ggml-common.h`; products and sums are taken in the order of the `gguf` Python
//! package, whose results are reproduced to the bit (`tests/golden/gguf`). A product is always rounded before a sum.

use half::f16;

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// 32 numbers: a scale and 4-bit values around 8.
    Q4_0,
    /// 32 numbers: a scale, a minimum and 4-bit values.
    Q4_1,
    /// 32 numbers: a scale and 5-bit values around 16.
    Q5_0,
    /// 32 numbers: a scale, a minimum and 5-bit values.
    Q5_1,
    /// 32 numbers: a scale and signed bytes.
    Q8_0,
    /// 256 numbers: eight groups with 6-bit scales and minima, 4-bit values.
    Q4K,
    /// 256 numbers: eight groups with 6-bit scales and minima, 5-bit values.
    Q5K,
    /// 256 numbers: sixteen groups with 8-bit scales, 6-bit values around 32.
    Q6K,
}

/// What [`Quant::of_id`] accepts, for messages.
pub const SUPPORTED: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

impl Quant {
    /// The type with a number of ggml's `ggml_type`.
    #[must_use]
    pub fn of_id(id: u32) -> Option<Quant> {
        Some(match id {
            0 => Quant::F32,
            1 => Quant::F16,
            2 => Quant::Q4_0,
            3 => Quant::Q4_1,
            6 => Quant::Q5_0,
            7 => Quant::Q5_1,
            8 => Quant::Q8_0,
            12 => Quant::Q4K,
            13 => Quant::Q5K,
            14 => Quant::Q6K,
            30 => Quant::Bf16,
            _ => return None,
        })
    }

    /// Numbers in a block.
    #[must_use]
    pub fn block_len(self) -> usize {
        match self {
            Quant::F32 | Quant::F16 | Quant::Bf16 => 1,
            Quant::Q4_0 | Quant::Q4_1 | Quant::Q5_0 | Quant::Q5_1 | Quant::Q8_0 => 32,
            Quant::Q4K | Quant::Q5K | Quant::Q6K => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Quant::F32 => 4,
            Quant::F16 | Quant::Bf16 => 2,
            Quant::Q4_0 => 2 + 16,
            Quant::Q4_1 => 2 + 2 + 16,
            Quant::Q5_0 => 2 + 4 + 16,
            Quant::Q5_1 => 2 + 2 + 4 + 16,
            Quant::Q8_0 => 2 + 32,
            Quant::Q4K => 2 + 2 + 12 + 128,
            Quant::Q5K => 2 + 2 + 12 + 32 + 128,
            Quant::Q6K => 128 + 64 + 16 + 2,
        }
    }
}

/// Writes the numbers of whole blocks; `bytes` and `out` hold equally many.
pub fn dequantize(quant: Quant, bytes: &[u8], out: &mut [f32]) {
    debug_assert_eq!(bytes.len() / quant.block_bytes() * quant.block_len(), out.len());
    let blocks = bytes.chunks_exact(quant.block_bytes()).zip(out.chunks_exact_mut(quant.block_len()));
    match quant {
        Quant::F32 => blocks.for_each(|(b, x)| x[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Quant::F16 => blocks.for_each(|(b, x)| x[0] = half_at(b, 0)),
        Quant::Bf16 => blocks.for_each(|(b, x)| x[0] = f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]]))),
        Quant::Q4_0 => blocks.for_each(|(b, x)| q4_0(b, x)),
        Quant::Q4_1 => blocks.for_each(|(b, x)| q4_1(b, x)),
        Quant::Q5_0 => blocks.for_each(|(b, x)| q5_0(b, x)),
        Quant::Q5_1 => blocks.for_each(|(b, x)| q5_1(b, x)),
        Quant::Q8_0 => blocks.for_each(|(b, x)| q8_0(b, x)),
        Quant::Q4K => blocks.for_each(|(b, x)| q4_k(b, x)),
        Quant::Q5K => blocks.for_each(|(b, x)| q5_k(b, x)),
        Quant::Q6K => blocks.for_each(|(b, x)| q6_k(b, x)),
    }
}

fn half_at(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// x_i = d·(q_i − 8); the low halves of the bytes come first, then the high ones.
fn q4_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    let (low, high) = out.split_at_mut(16);
    for ((q, x), y) in b[2..18].iter().zip(low).zip(high) {
        *x = d * (f32::from(q & 15) - 8.0);
        *y = d * (f32::from(q >> 4) - 8.0);
    }
}

/// x_i = d·q_i + m.
fn q4_1(b: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    let (low, high) = out.split_at_mut(16);
    for ((q, x), y) in b[4..20].iter().zip(low).zip(high) {
        *x = d * f32::from(q & 15) + m;
        *y = d * f32::from(q >> 4) + m;
    }
}

/// The 5-bit values of 16 bytes whose fifth bits are collected in `fifth`, four bytes.
fn five_bits(fifth: &[u8], q: &[u8], i: usize) -> f32 {
    let bit = (fifth[i / 8] >> (i % 8)) & 1;
    let low = (q[i % 16] >> (i / 16 * 4)) & 15;
    f32::from(low | bit << 4)
}

/// x_i = d·(q_i − 16).
fn q5_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * (five_bits(&b[2..6], &b[6..22], i) - 16.0);
    }
}

/// x_i = d·q_i + m.
fn q5_1(b: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for (i, x) in out.iter_mut().enumerate() {
        *x = d * five_bits(&b[4..8], &b[8..24], i) + m;
    }
}

/// x_i = d·q_i.
fn q8_0(b: &[u8], out: &mut [f32]) {
    let d = half_at(b, 0);
    for (q, x) in b[2..34].iter().zip(out) {
        *x = f32::from(q.cast_signed()) * d;
    }
}

/// The 6-bit scale and minimum of group `j` of eight, packed in twelve bytes: four low scales, four low minima, and
/// four bytes with the low halves of the other scales and minima, whose upper two bits sit on top of the first eight.
fn scale_and_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = match j {
        0..4 => (packed[j] & 63, packed[j + 4] & 63),
        _ => (packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6) << 4),
    };
    (f32::from(scale), f32::from(min))
}

/// x_i = (d·s_j)·q_i − (d_min·m_j) for the 32 numbers of group j; two groups share 32 bytes.
fn q4_k(b: &[u8], out: &mut [f32]) {
    let (d, d_min, packed, q) = (half_at(b, 0), half_at(b, 2), &b[4..16], &b[16..144]);
    for (j, group) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(packed, j);
        let (d, min) = (d * scale, d_min * min);
        for (x, q) in group.iter_mut().zip(&q[j / 2 * 32..]) {
            *x = d * f32::from((q >> (j % 2 * 4)) & 15) - min;
        }
    }
}

/// As [`q4_k`], with bit j of 32 more bytes as the fifth bit of group j.
fn q5_k(b: &[u8], out: &mut [f32]) {
    let (d, d_min, packed, fifth, q) = (half_at(b, 0), half_at(b, 2), &b[4..16], &b[16..48], &b[48..176]);
    for (j, group) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(packed, j);
        let (d, min) = (d * scale, d_min * min);
        for ((x, q), fifth) in group.iter_mut().zip(&q[j / 2 * 32..]).zip(fifth) {
            *x = d * f32::from((q >> (j % 2 * 4)) & 15 | ((fifth >> j) & 1) << 4) - min;
        }
    }
}

/// x_i = (d·s_{i/16})·(q_i − 32). Each half of 128 numbers has 64 bytes of low bits, of which number i of group g
/// takes byte 32·(g mod 2) + i, and 32 bytes of upper bits, two per group.
fn q6_k(b: &[u8], out: &mut [f32]) {
    let (low, upper, scales, d) = (&b[..128], &b[128..192], &b[192..208], half_at(b, 208));
    for (k, group) in out.chunks_exact_mut(32).enumerate() {
        let (half, g) = (k / 4, k % 4);
        for (i, x) in group.iter_mut().enumerate() {
            let low = (low[half * 64 + g % 2 * 32 + i] >> (g / 2 * 4)) & 15;
            let upper = (upper[half * 32 + i] >> (2 * g)) & 3;
            let scale = d * f32::from(scales[2 * k + i / 16].cast_signed());
            *x = scale * (f32::from(low | upper << 4) - 32.0);
        }
    }
}
