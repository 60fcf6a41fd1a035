"""How fast does llama.cpp generate? Sequences that share a prompt in one cache, a batch of one token each per step.

The weights are written as GGUF beside the model directory, once for each precision. With `--stats` the token is drawn
with numpy from the logits, with its log-probability and the distribution's entropy; without, by llama.cpp's own sampler.
"""

import ctypes
import json
import os
import time

import common

p = common.parser()
p.add_argument("--paths", type=int, default=1)
p.add_argument("--prompt", type=int, default=128)
p.add_argument("--tokens", type=int, default=64)
p.add_argument("--stats", action="store_true")
p.add_argument("--prefill", action="store_true")
args = p.parse_args()
out = common.quiet_stdout()
common.limit_threads(args.threads)

import gguf  # noqa: E402
import llama_cpp as ll  # noqa: E402
import numpy as np  # noqa: E402
from safetensors import safe_open  # noqa: E402


def convert(directory, precision):
    """`model-PRECISION.gguf` in the model directory; its queries and keys are ordered as llama.cpp rotates them."""
    path = os.path.join(directory, f"model-{precision}.gguf")
    if os.path.exists(path):
        return path
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
        c = json.load(f)
    heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
    w = gguf.GGUFWriter(path + ".part", "llama")
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(c["head_dim"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_vocab_size(c["vocab_size"])
    w.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c["num_hidden_layers"])

    def rotated(x, n):
        return x.reshape(n, 2, x.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(x.shape)

    with safe_open(os.path.join(directory, "model.safetensors"), "numpy") as tensors:
        for name in tensors.keys():
            x = tensors.get_tensor(name).astype(np.float32)
            if ".q_proj." in name:
                x = rotated(x, heads)
            if ".k_proj." in name:
                x = rotated(x, kv_heads)
            kind = gguf.GGMLQuantizationType.BF16 if precision == "bf16" and x.ndim == 2 else gguf.GGMLQuantizationType.F32
            to = names.get_name(name, try_suffixes=(".weight", ".bias"))
            w.add_tensor(to, gguf.quants.quantize(x, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.rename(path + ".part", path)
    return path


path = convert(args.weights, args.precision)
vocab = common.vocab_size(args.weights)
silent = ll.llama_log_callback(lambda level, text, data: None)
ll.llama_log_set(silent, ctypes.c_void_p(0))
ll.llama_backend_init()
model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
params = ll.llama_context_default_params()
room = args.prompt + args.paths * args.tokens + 256
params.n_ctx = (room + 255) // 256 * 256
params.n_batch = 2048
params.n_ubatch = 512
params.n_seq_max = max(1, args.paths)
params.kv_unified = True
params.n_threads = params.n_threads_batch = args.threads
context = ll.llama_init_from_model(model, params)
if not context:
    raise SystemExit("llama.cpp makes no context of these sizes")
memory = ll.llama_get_memory(context)
batch = ll.llama_batch_init(max(args.prompt, args.paths), 0, 1)
prompt = [common.token(i, vocab) for i in range(args.prompt)]
sampler = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
ll.llama_sampler_chain_add(sampler, ll.llama_sampler_init_dist(1))
rng = np.random.default_rng(1)


def put(rows):
    """Computes rows of (token, position, sequence, whether its logits are wanted)."""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
    if ll.llama_decode(context, batch) != 0:
        raise RuntimeError("llama_decode failed")


def draw(n):
    """A token for each of `n` rows whose logits were wanted."""
    if not args.stats:
        return [ll.llama_sampler_sample(sampler, context, i) for i in range(n)]
    logits = np.ctypeslib.as_array(ll.llama_get_logits(context), shape=(n, vocab))
    shifted = logits - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    sums = np.cumsum(weights, axis=1)
    total = sums[:, -1]
    entropies = np.log(total) - np.einsum("ij,ij->i", weights, shifted) / total
    drawn = [int(np.searchsorted(sums[i], u * total[i])) for i, u in enumerate(rng.random(n))]
    drawn = [min(token, vocab - 1) for token in drawn]
    logprobs = shifted[np.arange(n), drawn] - np.log(total)
    assert np.isfinite(logprobs).all() and np.isfinite(entropies).all()
    return drawn


def prefill_secs():
    ll.llama_memory_clear(memory, True)
    start = time.perf_counter()
    put([(token, i, 0, i + 1 == len(prompt)) for i, token in enumerate(prompt)])
    # Logits of the last token are the only ones: row 0 of the buffer, and index −1 for the sampler.
    draw(1) if args.stats else ll.llama_sampler_sample(sampler, context, -1)
    return time.perf_counter() - start


def decode_secs():
    ll.llama_memory_clear(memory, True)
    put([(token, i, 0, i + 2 == len(prompt)) for i, token in enumerate(prompt[:-1])])
    for sequence in range(1, args.paths):
        ll.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
    last = [prompt[-1]] * args.paths
    start = time.perf_counter()
    for step in range(args.tokens):
        put([(token, len(prompt) - 1 + step, sequence, True) for sequence, token in enumerate(last)])
        last = draw(args.paths)
    return time.perf_counter() - start


common.serve(out, args, prefill_secs if args.prefill else decode_secs, llama_cpp_python=ll.__version__)
