//! Where does each weight live? In one contiguous buffer, with Hugging Face names on its ranges.
//!
//! Parameters, gradients and both Adam moments share this layout, so an optimiser step is one pass over four arrays
//! and the projections that read the same input (q, k, v; gate, up) are one matrix product each.

use std::ops::Range;

use crate::config::{Family, ModelConfig};

/// One tensor of the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Hugging Face name.
    pub name: String,
    /// Row-major shape; `[out, in]` for projections.
    pub shape: Vec<usize>,
    /// Where it lies in the buffer.
    pub range: Range<usize>,
}

impl Tensor {
    /// Whether weight decay applies: to matrices, not to norms and biases.
    #[must_use]
    pub fn decays(&self) -> bool {
        self.shape.len() == 2
    }
}

/// Ranges of one block.
#[derive(Clone, Debug)]
pub struct LayerRanges {
    /// `[hidden]`
    pub input_norm: Range<usize>,
    /// `[q_dim + 2·kv_dim, hidden]`, the three projections below each other.
    pub qkv: Range<usize>,
    /// `[q_dim + 2·kv_dim]`
    pub qkv_bias: Option<Range<usize>>,
    /// `[head_dim]` for queries and for keys.
    pub qk_norm: Option<(Range<usize>, Range<usize>)>,
    /// `[hidden, q_dim]`
    pub o: Range<usize>,
    /// `[hidden]`
    pub post_norm: Range<usize>,
    /// `[2·intermediate, hidden]`, gate above up.
    pub gate_up: Range<usize>,
    /// `[hidden, intermediate]`
    pub down: Range<usize>,
}

/// The whole buffer.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Every tensor in the order of the buffer; together they tile it.
    pub tensors: Vec<Tensor>,
    /// `[vocab, hidden]`
    pub embed: Range<usize>,
    /// One entry a block.
    pub layers: Vec<LayerRanges>,
    /// `[hidden]`
    pub final_norm: Range<usize>,
    /// `[vocab, hidden]`; the embedding itself when tied.
    pub head: Range<usize>,
}

impl Layout {
    /// Lays out the weights of a model.
    #[must_use]
    pub fn new(config: &ModelConfig) -> Layout {
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            let start = tensors.last().map_or(0, |t| t.range.end);
            let range = start..start + shape.iter().product::<usize>();
            tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone() });
            range
        };
        let (d, f, hd) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (q, kv) = (config.q_dim(), config.kv_dim());
        let embed = add("model.embed_tokens.weight".into(), &[config.vocab_size, d]);
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for i in 0..config.num_hidden_layers {
            let mut add = |suffix: &str, shape: &[usize]| add(format!("model.layers.{i}.{suffix}"), shape);
            let input_norm = add("input_layernorm.weight", &[d]);
            let q_range = add("self_attn.q_proj.weight", &[q, d]);
            add("self_attn.k_proj.weight", &[kv, d]);
            let v_range = add("self_attn.v_proj.weight", &[kv, d]);
            let qkv_bias = (config.model_type == Family::Qwen2).then(|| {
                let q_bias = add("self_attn.q_proj.bias", &[q]);
                add("self_attn.k_proj.bias", &[kv]);
                let v_bias = add("self_attn.v_proj.bias", &[kv]);
                q_bias.start..v_bias.end
            });
            let qk_norm = (config.model_type == Family::Qwen3)
                .then(|| (add("self_attn.q_norm.weight", &[hd]), add("self_attn.k_norm.weight", &[hd])));
            let o = add("self_attn.o_proj.weight", &[d, q]);
            let post_norm = add("post_attention_layernorm.weight", &[d]);
            let gate = add("mlp.gate_proj.weight", &[f, d]);
            let up = add("mlp.up_proj.weight", &[f, d]);
            let down = add("mlp.down_proj.weight", &[d, f]);
            layers.push(LayerRanges {
                input_norm,
                qkv: q_range.start..v_range.end,
                qkv_bias,
                qk_norm,
                o,
                post_norm,
                gate_up: gate.start..up.end,
                down,
            });
        }
        let final_norm = add("model.norm.weight".into(), &[d]);
        let head = match config.tie_word_embeddings {
            true => embed.clone(),
            false => add("lm_head.weight".into(), &[config.vocab_size, d]),
        };
        Layout { tensors, embed, layers, final_norm, head }
    }

    /// Number of parameters.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_tile_the_buffer() {
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
            for tied in [false, true] {
                let layout = Layout::new(&crate::testing::config(family, tied));
                let mut end = 0;
                for tensor in &layout.tensors {
                    assert_eq!(tensor.range.start, end, "{}", tensor.name);
                    assert_eq!(tensor.range.len(), tensor.shape.iter().product::<usize>());
                    end = tensor.range.end;
                }
                assert_eq!(end, layout.n_parameters());
                assert_eq!(layout.head == layout.embed, tied);
                assert_eq!(layout.layers[0].qkv_bias.is_some(), family == Family::Qwen2);
                assert_eq!(layout.layers[0].qk_norm.is_some(), family == Family::Qwen3);
            }
        }
    }
}
