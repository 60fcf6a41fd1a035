"""Which numbers must the engine reproduce? Golden values from an independent implementation, in PyTorch f64.

The decoders are written out below from their published definitions: Llama (arXiv 2302.13971: pre-norm RMSNorm, RoPE,
SwiGLU; grouped keys and values from arXiv 2305.13245), Qwen2 (arXiv 2407.10671: a bias on q, k and v) and Qwen3
(arXiv 2505.09388: an RMSNorm over each head of q and k before RoPE, head_dim independent of the hidden size). RoPE is
the half-split kind that the Hugging Face checkpoints are stored for: dimension j is paired with j + head_dim / 2.

Nothing here knows about trees: every root-to-leaf path is run as an ordinary causal sequence, and gradients come
from autograd. A target that lies on several paths must come out the same on each (asserted) and counts once.

    pip install torch numpy safetensors
    python make_golden.py                       # rewrites the folders beside this file
    pip install transformers
    python make_golden.py --check-transformers  # writes nothing; compares the forward with Llama/Qwen2/Qwen3ForCausalLM

README.md beside this file says what the written files hold.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
TEMPERATURES = (1.0, 0.7)
ADAMW = {
    "n_steps": 3,
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
    "max_grad_norm": 0.5,
}


def config(model_type, architecture, **over):
    """The keys of a Hugging Face config.json, sized so that a whole model is some tens of kilobytes."""
    base = {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 50,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
        "use_cache": True,
    }
    base.update(over)
    return {key: value for key, value in base.items() if value != "absent"}


def configs():
    """name -> (config, seed, tree, temperatures whose gradient is stored, whether AdamW steps are stored)."""
    llama = config("llama", "LlamaForCausalLM", tie_word_embeddings=False, rms_norm_eps=1e-5, mlp_bias=False)
    # Qwen2's published files name neither head_dim nor attention_bias: the reader derives the one and knows the other.
    qwen2 = config("qwen2", "Qwen2ForCausalLM", head_dim="absent", attention_bias="absent", use_sliding_window=False)
    qwen3 = config("qwen3", "Qwen3ForCausalLM", head_dim=16, rope_theta=1e6)
    mha = config(
        "qwen3",
        "Qwen3ForCausalLM",
        num_key_value_heads=4,
        rope_theta=1e6,
        tie_word_embeddings=False,
    )
    return {
        "llama": (llama, 11, TREE_BRANCHES, (1.0, 0.7), False),
        "qwen2": (qwen2, 12, TREE_LEVELS, (1.0,), True),
        "qwen3": (qwen3, 13, TREE_BRANCHES, (1.0,), False),
        "qwen3_mha": (mha, 14, TREE_LEVELS, (1.0,), False),
    }


# Trees: (parent, number of tokens, first sampled token of the segment or None for pure context). Parents come first, a
# tree ends before the next begins. The first list goes down branch by branch, the second level by level, with longer
# chains of segments.
TREE_BRANCHES = [
    (None, 6, None),
    (0, 4, 0),
    (0, 3, 0),
    (1, 2, None),  # a tool result between two sampled segments
    (3, 3, 0),
    (3, 1, 0),
    (None, 5, 3),  # a root that ends in sampled tokens
    (6, 5, 0),
    (6, 2, 0),
]
TREE_LEVELS = [
    (None, 1, None),  # a root of a single token
    (0, 6, 2),  # context, then sampled tokens within one segment
    (0, 3, 0),
    (None, 4, None),
    (3, 3, 0),
    (3, 2, 0),
    (4, 2, None),
    (5, 1, 0),  # the only child of its parent
    (6, 3, 0),
    (6, 5, 0),
    (7, 2, 0),
    (9, 1, 0),
]


def make_weights(cfg, rng):
    """Seeded normal weights under their Hugging Face names, rounded to f32."""
    hidden, inter, vocab = cfg["hidden_size"], cfg["intermediate_size"], cfg["vocab_size"]
    n_heads, n_kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    head_dim = cfg.get("head_dim", hidden // n_heads)
    weights = {}

    def matrix(name, rows, cols, std):
        weights[name] = rng.standard_normal((rows, cols)) * std

    def norm(name, size):
        weights[name] = 1.0 + 0.2 * rng.standard_normal(size)

    matrix("model.embed_tokens.weight", vocab, hidden, 0.5)
    for i in range(cfg["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        norm(layer + "input_layernorm.weight", hidden)
        for which, rows in (("q", n_heads * head_dim), ("k", n_kv * head_dim), ("v", n_kv * head_dim)):
            matrix(f"{layer}self_attn.{which}_proj.weight", rows, hidden, hidden**-0.5)
            if cfg["model_type"] == "qwen2":
                weights[f"{layer}self_attn.{which}_proj.bias"] = 0.3 * rng.standard_normal(rows)
        if cfg["model_type"] == "qwen3":
            norm(layer + "self_attn.q_norm.weight", head_dim)
            norm(layer + "self_attn.k_norm.weight", head_dim)
        matrix(layer + "self_attn.o_proj.weight", hidden, n_heads * head_dim, (n_heads * head_dim) ** -0.5)
        norm(layer + "post_attention_layernorm.weight", hidden)
        matrix(layer + "mlp.gate_proj.weight", inter, hidden, hidden**-0.5)
        matrix(layer + "mlp.up_proj.weight", inter, hidden, hidden**-0.5)
        matrix(layer + "mlp.down_proj.weight", hidden, inter, inter**-0.5)
    norm("model.norm.weight", hidden)
    if not cfg["tie_word_embeddings"]:
        matrix("lm_head.weight", vocab, hidden, 0.3)
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()}


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x, theta):
    """RoPE on [n_tokens, n_heads, head_dim], the token's index being its position."""
    n_tokens, _, head_dim = x.shape
    half = head_dim // 2
    frequency = theta ** (-torch.arange(half, dtype=x.dtype) * 2.0 / head_dim)
    angle = torch.arange(n_tokens, dtype=x.dtype)[:, None, None] * frequency
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), -1)


def forward(cfg, weights, tokens):
    """Logits [n_tokens, vocab] of one causal sequence."""
    n_tokens = len(tokens)
    n_heads, n_kv, eps = cfg["num_attention_heads"], cfg["num_key_value_heads"], cfg["rms_norm_eps"]
    head_dim = cfg.get("head_dim", cfg["hidden_size"] // n_heads)
    embedding = weights["model.embed_tokens.weight"]
    x = embedding[torch.tensor(tokens)]
    future = torch.triu(torch.ones(n_tokens, n_tokens, dtype=torch.bool), diagonal=1)

    for i in range(cfg["num_hidden_layers"]):
        layer = f"model.layers.{i}."

        def project(which, y, heads):
            name = f"{layer}self_attn.{which}_proj."
            return F.linear(y, weights[name + "weight"], weights.get(name + "bias")).view(n_tokens, heads, head_dim)

        y = rms_norm(x, weights[layer + "input_layernorm.weight"], eps)
        q, k, v = project("q", y, n_heads), project("k", y, n_kv), project("v", y, n_kv)
        if cfg["model_type"] == "qwen3":
            q = rms_norm(q, weights[layer + "self_attn.q_norm.weight"], eps)
            k = rms_norm(k, weights[layer + "self_attn.k_norm.weight"], eps)
        q, k = rotate(q, cfg["rope_theta"]), rotate(k, cfg["rope_theta"])
        heads = []
        for h in range(n_heads):
            group = h // (n_heads // n_kv)
            score = q[:, h] @ k[:, group].T / head_dim**0.5
            heads.append(score.masked_fill(future, float("-inf")).softmax(-1) @ v[:, group])
        x = x + F.linear(torch.cat(heads, -1), weights[layer + "self_attn.o_proj.weight"])

        y = rms_norm(x, weights[layer + "post_attention_layernorm.weight"], eps)
        gate = F.linear(y, weights[layer + "mlp.gate_proj.weight"])
        up = F.linear(y, weights[layer + "mlp.up_proj.weight"])
        x = x + F.linear(gate * gate.sigmoid() * up, weights[layer + "mlp.down_proj.weight"])

    x = rms_norm(x, weights["model.norm.weight"], eps)
    return F.linear(x, embedding if cfg["tie_word_embeddings"] else weights["lm_head.weight"])


def make_batch(shape, vocab, rng):
    """Random tokens, targets and coefficients on a tree of the given shape."""
    tokens, segments, targets = [], [], []
    for parent, n_tokens, first_sampled in shape:
        above = None if parent is None else segments[parent]
        start_idx = len(tokens)
        depth = 0 if above is None else above["depth"] + above["n_tokens"]
        segments.append({"parent": parent, "start_idx": start_idx, "n_tokens": n_tokens, "depth": depth})
        tokens += [int(t) for t in rng.integers(3, vocab, n_tokens)]
        for offset in range(n_tokens if first_sampled is None else first_sampled, n_tokens):
            inside = offset > 0
            from_idx = start_idx + offset - 1 if inside else above["start_idx"] + above["n_tokens"] - 1
            targets.append({"from_idx": from_idx, "token": tokens[start_idx + offset]})
    # Two cases that sampling produces and a tree alone does not show: siblings that drew the same token, and a last
    # token (a stop token) that was drawn but never read back.
    targets.append(dict(targets[0]))
    targets.append({"from_idx": len(tokens) - 1, "token": 2})
    order = rng.permutation(len(targets))
    targets = [targets[i] for i in order]
    rounded = lambda n: [round(float(value), 4) for value in rng.standard_normal(n)]  # noqa: E731
    return {
        "tokens": tokens,
        "segments": segments,
        "targets": targets,
        "logp_coefs": rounded(len(targets)),
        "entropy_coefs": rounded(len(targets)),
        "sequence": [int(t) for t in rng.integers(0, vocab, 12)],
        "adamw": ADAMW,
    }


def paths(batch):
    """For every leaf the indices, in `tokens`, of its root-to-leaf path."""
    segments = batch["segments"]
    parents = {segment["parent"] for segment in segments}
    for leaf in range(len(segments)):
        if leaf in parents:
            continue
        chain, at = [], leaf
        while at is not None:
            chain.append(segments[at])
            at = segments[at]["parent"]
        yield [s["start_idx"] + j for s in reversed(chain) for j in range(s["n_tokens"])]


def target_stats(cfg, weights, batch, temperature):
    """Log-probability and full-vocabulary entropy, nats, of each target: two lists of scalars."""
    logits = {}
    for path in paths(batch):
        rows = forward(cfg, weights, [batch["tokens"][i] for i in path])
        for row, idx in zip(rows, path):
            if idx in logits:
                tolerance = 1e-12 if row.dtype == torch.float64 else 1e-4
                assert torch.allclose(row, logits[idx], rtol=0, atol=tolerance), "paths disagree on a shared token"
            else:
                logits[idx] = row
    logps, entropies = [], []
    for target in batch["targets"]:
        log_probs = (logits[target["from_idx"]] / temperature).log_softmax(-1)
        logps.append(log_probs[target["token"]])
        entropies.append(-(log_probs.exp() * log_probs).sum())
    return torch.stack(logps), torch.stack(entropies)


def scalar(cfg, weights, batch, temperature):
    """S = sum_t c_t logp_t + sum_t d_t H_t."""
    logps, entropies = target_stats(cfg, weights, batch, temperature)
    c = torch.tensor(batch["logp_coefs"], dtype=logps.dtype)
    d = torch.tensor(batch["entropy_coefs"], dtype=logps.dtype)
    return (c * logps).sum() + (d * entropies).sum()


def gradient(cfg, weights, batch, temperature):
    leaves = {name: value.detach().clone().requires_grad_(True) for name, value in weights.items()}
    scalar(cfg, leaves, batch, temperature).backward()
    return {name: value.grad for name, value in leaves.items()}


def adamw_steps(cfg, weights, batch):
    """AdamW (arXiv 1711.05101, decay scaled by the learning rate) on -S at temperature 1, the gradient taken anew
    before each step and clipped to a global norm. Only matrices decay. Returns weights and norms before clipping."""
    o = ADAMW
    weights = {name: value.clone() for name, value in weights.items()}
    first = {name: torch.zeros_like(value) for name, value in weights.items()}
    second = {name: torch.zeros_like(value) for name, value in weights.items()}
    norms = []
    for step in range(1, o["n_steps"] + 1):
        grad = {name: -g for name, g in gradient(cfg, weights, batch, 1.0).items()}
        norm = torch.sqrt(sum(g.square().sum() for g in grad.values()))
        norms.append(norm)
        scale = min(1.0, o["max_grad_norm"] / norm.item())
        for name, w in weights.items():
            g = grad[name] * scale
            first[name] = o["beta1"] * first[name] + (1 - o["beta1"]) * g
            second[name] = o["beta2"] * second[name] + (1 - o["beta2"]) * g * g
            mean = first[name] / (1 - o["beta1"] ** step)
            variance = second[name] / (1 - o["beta2"] ** step)
            decay = o["weight_decay"] if w.dim() == 2 else 0.0
            weights[name] = w * (1 - o["learning_rate"] * decay)
            weights[name] -= o["learning_rate"] * mean / (variance.sqrt() + o["eps"])
    return weights, torch.stack(norms)


def check_adamw(cfg, weights, batch, result):
    """The optimiser above against PyTorch's."""
    leaves = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
    groups = [
        {"params": [w for w in leaves.values() if w.dim() == 2], "weight_decay": ADAMW["weight_decay"]},
        {"params": [w for w in leaves.values() if w.dim() != 2], "weight_decay": 0.0},
    ]
    betas = (ADAMW["beta1"], ADAMW["beta2"])
    optimiser = torch.optim.AdamW(groups, lr=ADAMW["learning_rate"], betas=betas, eps=ADAMW["eps"])
    for _ in range(ADAMW["n_steps"]):
        optimiser.zero_grad()
        (-scalar(cfg, leaves, batch, 1.0)).backward()
        torch.nn.utils.clip_grad_norm_(leaves.values(), ADAMW["max_grad_norm"])
        optimiser.step()
    # Theirs adds 1e-6 to the norm that it divides by.
    for name, w in leaves.items():
        assert torch.allclose(w, result[name], rtol=0, atol=1e-6), f"AdamW disagrees on {name}"


def compute(cfg, weights, batch, temperatures, with_adamw):
    """All results, under the names of golden.safetensors, in the weights' precision."""
    out = {"logits": forward(cfg, weights, batch["sequence"])}
    for t in TEMPERATURES:
        out[f"logp.t{t}"], out[f"entropy.t{t}"] = target_stats(cfg, weights, batch, t)
    for t in temperatures:
        out[f"scalar.t{t}"] = scalar(cfg, weights, batch, t)[None]
        out |= {f"grad.t{t}.{name}": g for name, g in gradient(cfg, weights, batch, t).items()}
    if with_adamw:
        result, norms = adamw_steps(cfg, weights, batch)
        out |= {f"adamw.{name}": w for name, w in result.items()}
        out["adamw.grad_norms"] = norms
    return out


def check_gradient(cfg, weights, batch, grad):
    """Autograd against a central difference along one random direction of all weights."""
    generator = torch.Generator().manual_seed(1)
    direction = {n: torch.randn(w.shape, generator=generator, dtype=w.dtype) for n, w in weights.items()}
    step = 1e-7

    def at(sign):
        return scalar(cfg, {n: w + sign * step * direction[n] for n, w in weights.items()}, batch, 1.0)

    numeric = (at(1.0) - at(-1.0)) / (2 * step)
    exact = sum((grad[n] * direction[n]).sum() for n in weights)
    assert abs(numeric - exact) < 1e-6 * max(1.0, abs(exact)), (numeric.item(), exact.item())


def check_transformers(name, cfg, weights, sequence):
    import transformers

    by_type = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }
    make_config, make_model = by_type[cfg["model_type"]]
    hf_config = make_config(**{k: v for k, v in cfg.items() if k not in ("architectures", "torch_dtype")})
    hf_config._attn_implementation = "eager"
    model = make_model(hf_config).double().eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    if cfg["tie_word_embeddings"]:
        model.tie_weights()
    with torch.no_grad():
        theirs = model(torch.tensor([sequence])).logits[0]
        ours = forward(cfg, weights, sequence)
    # Their rotary tables are f32 even in an f64 model, so agreement ends near 1e-6.
    difference = (theirs - ours).abs().max().item()
    print(f"{name}: largest |logit difference| to transformers {transformers.__version__}: {difference:.2e}")
    assert difference < 1e-5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check-transformers", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, (cfg, seed, shape, temperatures, with_adamw) in configs().items():
        rng = np.random.default_rng(seed)
        stored = make_weights(cfg, rng)
        batch = make_batch(shape, cfg["vocab_size"], rng)
        weights = {n: w.double() for n, w in stored.items()}
        if args.check_transformers:
            weights = {n: w.double() for n, w in load_file(HERE / name / "model.safetensors").items()}
            batch = json.loads((HERE / name / "batch.json").read_text())
            check_transformers(name, cfg, weights, batch["sequence"])
            continue

        exact = compute(cfg, weights, batch, temperatures, with_adamw)
        check_gradient(cfg, weights, batch, {n: exact[f"grad.t1.0.{n}"] for n in weights})
        if with_adamw:
            result = {n: exact[f"adamw.{n}"] for n in weights}
            check_adamw(cfg, weights, batch, result)

        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(cfg, indent=2) + "\n")
        one_line = lambda value: json.dumps(value, separators=(", ", ": "))  # noqa: E731
        lines = ",\n".join(f"  {one_line(k)}: {one_line(v)}" for k, v in batch.items())
        (folder / "batch.json").write_text("{\n" + lines + "\n}\n")
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        save_file({n: v.detach().float().contiguous() for n, v in exact.items()}, folder / "golden.safetensors")

        # What f32 costs: the same program in f32, so that a reader can choose a tolerance.
        rough = compute(cfg, stored, batch, temperatures, with_adamw)
        groups = {}
        for key, value in exact.items():
            group = key.split(".")[0] if key != "adamw.grad_norms" else "adamw.grad_norms"
            worst = (rough[key].double() - value).abs().max().item()
            size = value.abs().max().item()
            old = groups.get(group, (0.0, 0.0))
            groups[group] = (max(old[0], worst), max(old[1], size))
        print(name + ": " + ", ".join(f"{g} max|x| {s:.3g} f32 error {e:.1e}" for g, (e, s) in groups.items()))


if __name__ == "__main__":
    main()
