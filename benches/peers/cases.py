"""Which rows does the table have? Each comparison: a case of ours and the peers that do the same work."""

import os
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.abspath(os.path.join(HERE, "..", ".."))
TREES = {
    "15m": os.path.join(REPO, "results", "speed", "trees-quickstart-k16.jsonl"),
    "135m": os.path.join(REPO, "results", "speed", "trees-smollm2-k16.jsonl"),
}


@dataclass
class Ours:
    """One of our programs: its label in the table, and the arguments of aepo-bench."""

    label: str
    args: list


@dataclass
class Peer:
    """One peer: its label, its environment, its script and the script's arguments."""

    label: str
    env: str
    script: str
    args: list


@dataclass
class Comparison:
    """The same work by all of them."""

    case: str
    model: str
    ours: list
    peers: list = field(default_factory=list)

    @property
    def key(self):
        return f"{self.case} {self.model}"


def both(args):
    return [Ours(f"aepo {p}", [*args, "--precision", p]) for p in ("f32", "bf16")]


def train(model):
    args = ["train", "--model", model]
    in_four = ["--passes", "4"]
    ours = both(args) + [Ours(f"aepo {p}, 4 passes", [*args, *in_four, "--precision", p]) for p in ("f32", "bf16")]
    peers = []
    for compiled in (False, True):
        for precision in ("f32", "bf16"):
            kind = "torch.compile" if compiled else "PyTorch eager"
            kind += " f32" if precision == "f32" else " bf16 autocast"
            flags = ["--precision", precision] + (["--compile", "--warm-up", "2"] if compiled else [])
            peers.append(Peer(kind, "torch", "torch_train.py", flags))
    for precision, kind in (("f32", "f32"), ("bf16", "bf16 autocast")):
        flags = ["--precision", precision, *in_four]
        peers.append(Peer(f"PyTorch eager {kind}, 4 passes", "torch", "torch_train.py", flags))
    return Comparison("train 8x256", model, ours, peers)


def trees(model):
    n = 4
    args = ["trees", "--model", model, "--trees", TREES[model], "--n-trees", str(n)]
    ours = both(args) + [Ours(f"aepo {p}, unrolled", [*args, "--unrolled", "--precision", p]) for p in ("f32", "bf16")]
    flags = ["--trees", TREES[model], "--n-trees", str(n)]
    peers = [
        Peer("PyTorch eager f32, unrolled", "torch", "torch_train.py", flags),
        Peer("PyTorch eager bf16 autocast, unrolled", "torch", "torch_train.py", [*flags, "--precision", "bf16"]),
        Peer("torch.compile bf16 autocast, unrolled", "torch", "torch_train.py", [*flags, "--precision", "bf16", "--compile", "--warm-up", "2"]),
    ]
    return Comparison("trees k=16", model, ours, peers)


def decode(model, paths):
    args = ["decode", "--model", model, "--paths", str(paths)]
    common = ["--paths", str(paths)]
    peers = []

    def hf(label, *flags):
        peers.append(Peer(label, "transformers", "hf_generate.py", [*common, *flags]))

    def llama(label, *flags):
        peers.append(Peer(label, "llama", "llama_peer.py", [*common, *flags]))

    for p in ("f32", "bf16"):
        hf(f"transformers generate {p}", "--precision", p, "--stats")
        hf(f"transformers, own loop {p}", "--precision", p, "--stats", "--loop")
        hf(f"transformers generate, static cache {p}", "--precision", p, "--stats", "--static")
        hf(f"transformers generate, static cache, compiled {p}", "--precision", p, "--stats", "--compile", "--warm-up", "2")
        hf(f"transformers generate {p}, no log-probs", "--precision", p)
        hf(f"transformers generate, static cache {p}, no log-probs", "--precision", p, "--static")
        llama(f"llama.cpp {p}", "--precision", p, "--stats")
        llama(f"llama.cpp {p}, no log-probs", "--precision", p)
        peers.append(Peer(f"vLLM {p}, log-probs only", "vllm", "vllm_peer.py", [*common, "--precision", p]))
    return Comparison(f"decode {paths}", model, both(args), peers)


def prefill(model):
    args, flags = ["prefill", "--model", model, "--tokens", "512"], ["--prefill", "--prompt", "512"]
    peers = []
    for p in ("f32", "bf16"):
        peers.append(Peer(f"transformers {p}", "transformers", "hf_generate.py", [*flags, "--precision", p]))
        peers.append(Peer(f"llama.cpp {p}", "llama", "llama_peer.py", [*flags, "--precision", p, "--stats"]))
        peers.append(Peer(f"vLLM {p}", "vllm", "vllm_peer.py", [*flags, "--precision", p]))
    return Comparison("prefill 512", model, both(args), peers)


def scale(model, tokens, precision, linear=False):
    """Ours alone: peers have no trees, and run out of memory long before the last of these."""
    args = ["scale", "--model", model, "--tokens", str(tokens), "--precision", precision, "--warm-up", "0"]
    args += ["--linear", "--recompute"] if linear else []
    return Comparison(f"scale {'trajectory' if linear else 'tree'} {tokens}", model, [Ours(f"aepo {precision}", args)])


# Steps of recipes: by model, the recipe, its questions and minibatches (fewer where a peer would take minutes), and of
# our trajectories the mean tokens that were not sampled and that were, which are the peer's prompt and completion.
STEPS = {
    "quickstart": ("quickstart", 16, 8, 101, 85),
    "135m": ("smollm2", 4, 2, 198, 79),
}
GROUP = 8


def step(model):
    recipe, tasks, minibatches, prompt, completion = STEPS[model]
    args = ["step", "--recipe", recipe, "--tasks", str(tasks), "--minibatches", str(minibatches)]
    sizes = {"tasks": tasks, "group": GROUP, "minibatches": minibatches, "prompt": prompt, "completion": completion}
    flags = [word for name, n in sizes.items() for word in (f"--{name}", str(n))]
    peers = [
        Peer(f"TRL GRPO {label}", "trl", "trl_grpo.py", [*flags, "--precision", p])
        for p, label in (("f32", "f32"), ("bf16", "bf16 autocast"))
    ]
    return Comparison("step", model, both(args), peers)


def all_comparisons():
    out = [step(model) for model in STEPS]
    for model in ("15m", "135m"):
        out += [train(model), trees(model)]
        out += [decode(model, paths) for paths in (1, 8, 32, 128)]
        out += [prefill(model)]
    out += [train("110m"), decode("110m", 8)]
    out += [scale("15m", 1024 << i, "bf16") for i in range(7)]
    out += [scale("135m", 1024 << i, "bf16", linear=True) for i in (0, 2, 4, 5)]
    return out
