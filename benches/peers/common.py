"""What do all peers share? Made-up tokens, the order of rounds, and what a round says.

A peer prints `ready` when it has loaded and warmed up; then for each line `go` on its input it does one round and
prints one line of JSON with the seconds of that round and the most memory it has held. What a library prints goes to
standard error, so that only these lines are on standard output.
"""

import argparse
import json
import os
import sys

MASK = (1 << 64) - 1


def token(index, n):
    """The `index`-th made-up token id below `n`: the finaliser of SplitMix64, as in `cases/mod.rs` of aepo-bench."""
    x = (index + 1) * 0x9E3779B97F4A7C15 & MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return (x ^ (x >> 31)) % n


def parser():
    """The options that every peer takes."""
    p = argparse.ArgumentParser()
    p.add_argument("--weights", required=True, help="a model directory that `aepo-bench weights` wrote")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    p.add_argument("--warm-up", type=int, default=1)
    return p


def vocab_size(weights):
    with open(os.path.join(weights, "config.json"), encoding="utf-8") as f:
        return json.load(f)["vocab_size"]


def quiet_stdout():
    """Standard output for our lines alone: whatever else writes there is sent to standard error."""
    ours = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return ours


def peak_rss_mib():
    """`VmHWM` of this process, MiB."""
    with open("/proc/self/status", encoding="utf-8") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def serve(out, args, round_secs, **detail):
    """Warms up and then does a round for each `go`. `round_secs()` does one and gives its seconds."""
    for _ in range(args.warm_up):
        round_secs()
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            continue
        row = {"secs": round_secs(), "peak_rss_mib": peak_rss_mib(), "detail": detail}
        print(json.dumps(row), file=out, flush=True)


def limit_threads(n):
    """Before any library is imported: as many threads as ours, and no busy waiting beyond what a library does alone."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(n)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS"):
        os.environ[name] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def sequences_of_trees(path, n_trees, vocab):
    """Every trajectory of the first trees of a file, unrolled: its token ids, and of each whether it is a target."""
    out = []
    with open(path, encoding="utf-8") as f:
        for line in list(f)[:n_trees]:
            record = json.loads(line)
            for leaf in record["leaves"]:
                chain, at = [], leaf["node"]
                while at is not None:
                    chain.append(record["nodes"][at])
                    at = record["nodes"][at].get("parent")
                ids, targets = [], []
                for node in reversed(chain):
                    ids += [t % vocab for t in node["tokens"]]
                    targets += [node["mask"]] * len(node["tokens"])
                out.append((ids, targets))
    return out
