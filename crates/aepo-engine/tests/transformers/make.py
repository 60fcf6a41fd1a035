"""Does `transformers` compute the same? Tiny models that it saved, the logits it gives for them, and one step of AdamW.

    pip install torch transformers safetensors
    python make.py                  # rewrites the folders beside this file
    python make.py --check DIR...   # writes nothing: loads directories that the engine saved, named as the folders here,
                                    # and compares their logits with the stored ones

Directories for the second form come from `cargo run -p aepo-engine --example resave -- FROM TO f32 20000`. README.md
beside this file says what the folders hold and what was measured.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
N_TOKENS = 72
ORIGINAL = 32
ADAMW = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def rope(kind, **more):
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=ORIGINAL)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=ORIGINAL)
BENT_YARN = rope(
    "yarn",
    factor=4.0,
    original_max_position_embeddings=ORIGINAL,
    beta_fast=8.0,
    beta_slow=0.5,
    mscale=0.7,
    mscale_all_dim=0.3,
    truncate=False,
)

# name -> (model_type, keys over SIZES, precision on the disk, max_shard_size, whether config.json is in the old layout)
MODELS = {
    "llama": ("llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}, "float32", "5GB", False),
    "llama_llama3": ("llama", {"head_dim": 16, "rope_parameters": LLAMA3}, "bfloat16", "16KB", False),
    "llama_linear": ("llama", {"head_dim": 16, "rope_parameters": rope("linear", factor=2.5)}, "float16", "5GB", True),
    # Tokens from 57 on are padding: no sequence has them, and yet they are rows of the embedding and the head.
    "qwen2_padded": ("qwen2", {"tie_word_embeddings": True}, "float32", "20KB", False),
    "qwen2_yarn": ("qwen2", {"rope_parameters": YARN}, "bfloat16", "5GB", True),
    "qwen2_window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
        "bfloat16",
        "5GB",
        False,
    ),
    "qwen3": ("qwen3", {"head_dim": 16, "num_key_value_heads": 4}, "bfloat16", "5GB", False),
    "qwen3_bent": (
        "qwen3",
        {
            "head_dim": 16,
            "tie_word_embeddings": True,
            "rope_parameters": BENT_YARN,
            "use_sliding_window": True,
            "sliding_window": 40,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "bfloat16",
        "16KB",
        False,
    ),
}


def fill(model, seed):
    """Weights large enough for uneven distributions."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, w in model.named_parameters():
            noise = torch.randn(w.shape, generator=generator, dtype=torch.float64)
            if "norm" in name:
                w.copy_(1.0 + 0.2 * noise)
            elif name.endswith("bias"):
                w.copy_(0.3 * noise)
            elif "embed" in name or "lm_head" in name:
                w.copy_(0.4 * noise)
            else:
                w.copy_(noise * w.shape[1] ** -0.5)


def logits_of(folder, tokens):
    """In f32, whatever the precision on the disk."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].contiguous()


def to_old_layout(path):
    """Files of older versions have `rope_theta` and `rope_scaling` with a `type`, and `torch_dtype`."""
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    scaling["type"] = scaling.pop("rope_type")
    config["rope_scaling"] = scaling
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


def adamw_step(folder, tokens):
    """Weights after one step on the mean cross-entropy of the next token, in f64; only matrices decay."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    weights = dict(model.named_parameters())
    groups = [
        {"params": [w for w in weights.values() if w.dim() == 2]},
        {"params": [w for w in weights.values() if w.dim() != 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, **ADAMW)
    logits = model(torch.tensor([tokens])).logits[0]
    torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:])).backward()
    optimiser.step()
    return {name: w.detach().float().contiguous() for name, w in weights.items()}


def make():
    for i, (name, (model_type, keys, precision, max_shard_size, old_layout)) in enumerate(MODELS.items()):
        config = transformers.AutoConfig.for_model(model_type, **(SIZES | keys))
        model = AutoModelForCausalLM.from_config(config)
        fill(model, 100 + i)
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        model.to(getattr(torch, precision)).save_pretrained(folder, max_shard_size=max_shard_size)
        rng = np.random.default_rng(i)
        tokens = [int(t) for t in rng.integers(3, 57, N_TOKENS)]
        logits = logits_of(folder, tokens)
        if old_layout:
            to_old_layout(folder / "config.json")
            assert torch.equal(logits_of(folder, tokens), logits), "the old layout means something else"
        expected = {"tokens": torch.tensor(tokens, dtype=torch.int32), "logits": logits}
        save_file(expected, folder / "expected.safetensors")
        if name == "qwen2_padded":
            save_file(adamw_step(folder, tokens), folder / "adamw.safetensors")
        files = sorted(p.name for p in folder.glob("model*.safetensors"))
        print(f"{name}: {len(files)} file(s), largest |logit| {logits.abs().max():.2f}")


def check(folders):
    for folder in map(Path, folders):
        expected = load_file(HERE / folder.name / "expected.safetensors")
        logits = logits_of(folder, expected["tokens"].tolist())
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        difference = (logits - expected["logits"]).abs().max().item()
        n_files = len(list(folder.glob("model*.safetensors")))
        print(f"{folder.name}: {n_files} file(s), {loaded.dtype}, largest |logit difference| {difference:.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2:])
    else:
        make()
