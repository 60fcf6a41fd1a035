//! Which numbers are assumed? Speeds of a replica and of networks, and what an agent does; none of them was measured
//! here. `docs/scale.md` says where each comes from.

use super::server::Speed;

/// A replica: one GPU of 141 GB and 4.8 TB/s (the H200's data sheet) with Qwen2.5-7B in bf16.
///
/// 7.6·10⁹ weights of 2 bytes are read in each step at 70 % of 4.8 TB/s (4.5 ms), behind 2 ms of everything else. A token
/// of context is 28 layers · 2 · 4 heads · 128 numbers of 2 bytes, 57,344 bytes, read at the same speed (17 ns). A token
/// of a prompt, or of a live sequence, is 2 · 7.6·10⁹ operations at 50 % of 989·10¹² per second (31 µs and 15 µs: a
/// decoding step computes while it reads, so half of that is taken to be hidden). 105 GB of 141 are left for the cache.
pub const GPU: Speed = Speed {
    step_secs: 6.5e-3,
    secs_per_sequence: 15e-6,
    secs_per_context_token: 17e-9,
    secs_per_prompt_token: 31e-6,
    chunk_tokens: 2048,
    max_batch: 256,
    cache_tokens: 1_830_000,
};

/// Whole weights in bf16, bytes: 7,615,616,512 numbers.
pub const FULL_BYTES: f64 = 15_231_233_024.0;
/// Numbers in the seven matrices of a block of Qwen2.5-7B, inputs and outputs added: q, k, v, o, gate, up, down.
const LORA_WIDTHS: f64 = 7168.0 + 4096.0 + 4096.0 + 7168.0 + 3.0 * 22_528.0;
/// Its blocks.
const BLOCKS: f64 = 28.0;

/// LoRA's matrices of that rank beside all seven, f32 as PEFT's file has them, bytes.
pub fn lora_bytes(rank: u32) -> f64 {
    4.0 * f64::from(rank) * BLOCKS * LORA_WIDTHS
}

/// Between a client and a server and back, seconds.
pub const ROUND_TRIP_SECS: f64 = 1e-3;
/// Whether a replica is well, seconds.
pub const LOOK_SECS: f64 = 10e-3;
/// What one replica reads per second from elsewhere, bytes: 25 Gbit/s.
pub const NIC_BYTES_PER_SEC: f64 = 3.1e9;
/// What a store that all share gives per second, bytes: 100 Gbit/s.
pub const STORE_BYTES_PER_SEC: f64 = 12.5e9;
/// From memory of the host to the GPU, and into place, bytes per second.
pub const APPLY_BYTES_PER_SEC: f64 = 20e9;

/// What an agent does. Lengths are tokens, each drawn log-normally: median, spread (σ of the logarithm), most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// What all first prompts begin with.
    pub n_system: u32,
    /// What each adds.
    pub n_question: u32,
    /// A turn.
    pub turn: (f64, f64, f64),
    /// A tool's result.
    pub result: (f64, f64, f64),
    /// Seconds of a call.
    pub call_secs: (f64, f64, f64),
    /// Share of the turns that call a tool.
    pub calls: f64,
}

/// An agent that thinks a few hundred tokens, calls a tool twice or so, and sometimes waits long for it.
pub const AGENT: Work = Work {
    n_system: 512,
    n_question: 128,
    turn: (320.0, 0.8, 4096.0),
    result: (256.0, 0.8, 2048.0),
    call_secs: (1.0, 1.2, 60.0),
    calls: 0.65,
};
