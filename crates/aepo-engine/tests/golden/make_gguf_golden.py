"""Which numbers must a GGUF file give? Blocks and small whole models, by the `gguf` Python package.

    pip install gguf numpy safetensors
    python make_gguf_golden.py                      # rewrites gguf/ beside this file
    python make_gguf_golden.py --check FILE DUMP    # writes nothing; compares a dump of the example `gguf` with FILE

gguf/quants.safetensors holds, for each type T, `T.blocks` [n, bytes of a block] and `T.values` [n, numbers of a block]:
random bytes with scales set to zero, subnormal, largest, infinite and other numbers, and what `gguf.dequantize` makes
of them.

gguf/<family> holds the same weights twice, as model.gguf in many types and as a Hugging Face directory (config.json,
model.safetensors in f32, holding what dequantising gives). The query and key rows of a llama-architecture file are
permuted the way llama.cpp's converter does it: dimension pairs (j, j + head_dim / 2) become neighbours. There are more
rows in the embedding than tokens in the vocabulary, as in the published Qwen models.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from safetensors.numpy import save_file

HERE = Path(__file__).parent / "gguf"

# type -> where its half-precision scales lie in a block
SCALES = {
    Q.F32: [],
    Q.F16: [],
    Q.BF16: [],
    Q.Q4_0: [0],
    Q.Q4_1: [0, 2],
    Q.Q5_0: [0],
    Q.Q5_1: [0, 2],
    Q.Q8_0: [0],
    Q.Q4_K: [0, 2],
    Q.Q5_K: [0, 2],
    Q.Q6_K: [208],
}
# +-0, subnormals and their neighbour, one, the largest, infinities, not a number
HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]


def blocks(rng):
    tensors = {}
    for kind, places in SCALES.items():
        length, size = gguf.GGML_QUANT_SIZES[kind]
        n = 12 if length == 256 else 16 if length == 32 else 64
        data = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for k, place in enumerate(places):
            for i, half in enumerate(HALVES):
                # The second scale meets the first one in another order.
                row = (i * (k + 1) + k) % len(HALVES)
                data[row, place : place + 2] = [half & 255, half >> 8]
        with np.errstate(all="ignore"):
            values = gguf.dequantize(data, kind)
        tensors[f"{kind.name}.blocks"] = data
        tensors[f"{kind.name}.values"] = np.ascontiguousarray(values.reshape(n, length), dtype=np.float32)
    return tensors


def permute(weight, n_head):
    """llama.cpp's converter: halves of a head become neighbours."""
    rows = weight.shape[0] // n_head // 2
    return weight.reshape(n_head, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


TOKENS = list("abcdefghijklmnopqrstuvwxyz0123") + ["\u0120", "\u0120t", "he", "\u0120the"]
MERGES = ["\u0120 t", "h e", "\u0120t he"]
SPECIAL = ["<|begin|>", "<|end|>"]
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def family(name, pre, layers, head_dim, theta, eps, tied, rng):
    d, f, heads, kv, vocab = 32, 32, 4, 2, 40
    q, k = heads * head_dim, kv * head_dim
    shapes = {"input_layernorm.weight": (d,), "self_attn.q_proj.weight": (q, d), "self_attn.k_proj.weight": (k, d)}
    shapes |= {"self_attn.v_proj.weight": (k, d), "self_attn.o_proj.weight": (d, q)}
    if name == "qwen2":
        shapes |= {f"self_attn.{x}_proj.bias": (n,) for x, n in (("q", q), ("k", k), ("v", k))}
    if name == "qwen3":
        shapes |= {f"self_attn.{x}_norm.weight": (head_dim,) for x in "qk"}
    shapes |= {"post_attention_layernorm.weight": (d,), "mlp.gate_proj.weight": (f, d), "mlp.up_proj.weight": (f, d)}
    shapes |= {"mlp.down_proj.weight": (d, f)}
    every = {"model.embed_tokens.weight": ("token_embd.weight", (vocab, d))}
    for i in range(layers):
        for part, shape in shapes.items():
            module, kind = part.rsplit(".", 1)
            every[f"model.layers.{i}.{part}"] = (f"blk.{i}.{NAMES[module]}.{kind}", shape)
    every["model.norm.weight"] = ("output_norm.weight", (d,))
    if not tied:
        every["lm_head.weight"] = ("output.weight", (vocab, d))

    out = HERE / name
    out.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(out / "model.gguf", name)
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(d)
    writer.add_feed_forward_length(f)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(eps)
    writer.add_rope_freq_base(theta)
    if head_dim * heads != d:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    # llama has its special tokens in front, the others behind, and there is one that only fills up.
    tokens = SPECIAL + TOKENS if name == "llama" else TOKENS + SPECIAL
    types = [gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens + ["[PAD36]"])
    writer.add_token_types(types + [gguf.TokenType.UNUSED])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(tokens.index("<|begin|>"))
    writer.add_eos_token_id(tokens.index("<|end|>"))
    writer.add_add_bos_token(name == "llama")
    writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")

    kinds = [Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.F16, Q.BF16, Q.F32, Q.Q5_0, Q.Q5_1]
    weights = {}
    for i, (ours, (theirs, shape)) in enumerate(every.items()):
        x = rng.normal(0, 1, shape).astype(np.float32)
        x = 0.3 * x if len(shape) == 2 or ours.endswith("bias") else 1 + 0.1 * x
        kind = kinds[i % len(kinds)] if len(shape) == 2 else Q.F32
        data = gguf.quantize(x.astype(np.float32), kind)
        weights[ours] = np.ascontiguousarray(gguf.dequantize(data, kind).reshape(shape), dtype=np.float32)
        if name == "llama" and ".q_proj." in ours:
            data = permute(data, heads)
        if name == "llama" and ".k_proj." in ours:
            data = permute(data, kv)
        writer.add_tensor(theirs, np.ascontiguousarray(data), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": name,
        "hidden_act": "silu",
        "hidden_size": d,
        "intermediate_size": f,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head_dim,
        "vocab_size": vocab,
        "max_position_embeddings": 64,
        "rms_norm_eps": eps,
        "rope_theta": theta,
        "tie_word_embeddings": tied,
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def check(path, dump):
    """The dump: weights in f32, named and ordered as in the file, query and key rows still as the file has them."""
    mine = np.memmap(dump, dtype=np.uint32, mode="r")
    at = 0
    reader = gguf.GGUFReader(path)
    for tensor in sorted(reader.tensors, key=lambda t: t.name):
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).ravel().view(np.uint32)
        got = mine[at : at + values.size]
        assert got.size == values.size and (got == values).all(), f"{tensor.name} differs"
        at += values.size
    assert at == mine.size, "the dump holds more numbers"
    print(f"{len(reader.tensors)} tensors, {at} numbers: equal to the bit")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", nargs=2, metavar=("FILE", "DUMP"))
    arguments = parser.parse_args()
    if arguments.check:
        check(*arguments.check)
        return
    HERE.mkdir(exist_ok=True)
    save_file(blocks(np.random.default_rng(1)), HERE / "quants.safetensors")
    family("llama", "llama-bpe", 2, 8, 10000.0, 1e-5, False, np.random.default_rng(2))
    family("qwen2", "qwen2", 1, 8, 1e6, 1e-6, True, np.random.default_rng(3))
    family("qwen3", "qwen2", 1, 16, 1e6, 1e-6, True, np.random.default_rng(4))


if __name__ == "__main__":
    main()
