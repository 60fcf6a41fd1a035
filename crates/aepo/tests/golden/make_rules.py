"""Which numbers must the rules of rollout and update give? Values and gradients from the papers' formulas, by autograd.

Every function below is one published formula, written with torch operations in f64, stop-gradients as `.detach()`;
dL/dlogp and dL/dH come from autograd and from nothing else. Sources: AEPO (arXiv 2510.14545), GRPO (2402.03300), PPO
(1707.06347), the asymmetric band and the token mean of DAPO (2503.14476), dual clip (1912.09729), the k3 estimator
(joschu.net/blog/kl-approx.html).

Conventions: standard deviations have ddof = 1; a group of one or of equal rewards has advantage 0; only sampled tokens
(mask 1) enter a mean, a deviation or a denominator; a trajectory without sampled tokens counts as absent.

Inputs are multiples of 1/1024, so that they and their differences are exact in f32.

    pip install torch numpy
    python make_rules.py        # rewrites rules.json beside this file
"""

import json
import math
from pathlib import Path

import numpy as np
import torch

f64 = torch.float64


def grid(values):
    """Rounds to multiples of 1/1024."""
    return np.round(np.asarray(values, dtype=np.float64) * 1024) / 1024


# ---- Advantages ----


def grpo(rewards):
    """GRPO, outcome supervision: A_i = (R_i - mean R) / (std R + 1e-6) within a group."""
    r = torch.tensor(rewards, dtype=f64)
    if len(r) < 2 or bool((r == r[0]).all()):
        return torch.zeros_like(r)
    return (r - r.mean()) / (r.std(correction=1) + 1e-6)


def entropy_aware(advantages, entropies, masks, weight):
    """AEPO: A_t = A_acc (1 + a z_t), z the batch-wide standardised entropy of the sampled tokens."""
    sampled = torch.tensor([h for hs, ms in zip(entropies, masks) for h, m in zip(hs, ms) if m], dtype=f64)
    std = sampled.std(correction=1) if len(sampled) > 1 else torch.zeros((), dtype=f64)
    out = []
    for a, hs, ms in zip(advantages, entropies, masks):
        z = [(h - sampled.mean()) / std if std > 0 else 0.0 for h in hs]
        out.append([float(a * (1 + weight * z_t)) if m else 0.0 for z_t, m in zip(z, ms)])
    return out


# ---- Rollout ----


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def budget(k, beta, root, tool):
    """AEPO, entropy pre-monitoring: m = clamp(round(k sigmoid(beta (H_root - H_tool))), 1, k); halves round up."""
    return min(max(math.floor(k * sigmoid(beta * (root - tool)) + 0.5), 1), k)


def branch_probability(alpha, gamma, slope, delta, consecutive):
    """AEPO: P = clamp((alpha + gamma dH) (1 - min(1, slope l)), 0, 1)."""
    return min(max((alpha + gamma * delta) * (1 - min(1.0, slope * consecutive)), 0.0), 1.0)


# ---- Per-token objectives. `ratio` r = exp(logp - old_logp); each returns the loss of every token ----


def ppo(r, a, low, high):
    return -torch.minimum(r * a, r.clamp(1 - low, 1 + high) * a)


def clip_balanced(r, a, low, high):
    """AEPO: the upper bound becomes ((1 + eps_h) / sg(r)) r: the value of PPO's, with a gradient."""
    upper = (1 + high) / r.detach() * r
    clipped = torch.minimum(torch.maximum(r, torch.full_like(r, 1 - low)), upper)
    return -torch.minimum(r * a, clipped * a)


OBJECTIVES = {"ppo": ppo, "clip_balanced": clip_balanced}


def loss(case, batch):
    """Value, dL/dlogp and dL/dH of one batch of trajectories."""
    logps, entropies, per_token = [], [], []
    for row in batch:
        logp = torch.tensor(row["logp"], dtype=f64, requires_grad=True)
        entropy = torch.tensor(row["entropy"], dtype=f64, requires_grad=True)
        logps.append(logp)
        entropies.append(entropy)
        mask = torch.tensor(row["mask"], dtype=torch.bool)
        advantage = torch.tensor(row["advantage"], dtype=f64)
        ratio = (logp - torch.tensor(row["old_logp"], dtype=f64)).exp()
        token = OBJECTIVES[case["objective"]](ratio, advantage, case["clip_low"], case["clip_high"])
        if case["dual_clip"] is not None:
            # For A < 0 the objective is held above c A, so the loss below -c A.
            token = torch.where(advantage < 0, torch.minimum(token, -case["dual_clip"] * advantage), token)
        difference = torch.tensor(row["ref_logp"], dtype=f64) - logp
        token = token + case["kl_coef"] * (difference.exp() - difference - 1)
        token = token - case["entropy_coef"] * entropy
        per_token.append(token[mask])
    if case["aggregation"] == "token_mean":
        value = torch.cat(per_token).mean()
    else:
        value = torch.stack([token.mean() for token in per_token if len(token)]).mean()
    # A trajectory that counts as absent is not part of the graph: its gradients are zeros.
    grads = torch.autograd.grad(value, logps + entropies, allow_unused=True, materialize_grads=True)
    grads = [(g + 0.0).tolist() for g in grads]
    return {"value": value.item(), "dloss_dlogp": grads[: len(batch)], "dloss_dentropy": grads[len(batch) :]}


def make_batch(rng, lengths):
    """Random trajectories. What lies under mask 0 is wild: using it anywhere would show."""
    batch = []
    for i, n in enumerate(lengths):
        mask = (rng.random(n) < 0.75).astype(int)
        mask[: n // 5] = 0  # a prompt
        if i == 2:
            mask[:] = 0  # a trajectory without sampled tokens
        old = -rng.exponential(1.2, n)
        logp = np.minimum(old + 0.35 * rng.standard_normal(n), -1 / 1024)
        # Some ratios far outside the band on both sides, for either sign of the advantage.
        far = rng.random(n) < 0.25
        logp = np.where(far, old + rng.choice([-1.5, 1.5], n), logp)
        old, logp = np.where(logp > 0, old - 2.0, old), np.where(logp > 0, logp - 2.0, logp)
        row = {
            "logp": logp,
            "old_logp": old,
            "ref_logp": logp + 0.4 * rng.standard_normal(n),
            "entropy": rng.exponential(0.8, n),
            "advantage": rng.standard_normal(n),
        }
        wild = {"logp": -3.0, "old_logp": -9.0, "ref_logp": -1.0, "entropy": 50.0, "advantage": 7.0}
        row = {key: np.where(mask == 1, grid(value), wild[key]).tolist() for key, value in row.items()}
        batch.append(row | {"mask": mask.tolist()})
    return batch


def assert_covers(batch, low, high, dual):
    """Every region of the clip is visited by sampled tokens, none sits on a border."""
    seen = set()
    for row in batch:
        for lp, old, a, m in zip(row["logp"], row["old_logp"], row["advantage"], row["mask"]):
            if m:
                r = math.exp(lp - old)
                assert a != 0 and all(abs(r - b) > 1e-4 for b in (1 - low, 1 + high, dual))
                where = "below" if r < 1 - low else "inside" if r <= 1 + high else "above" if r <= dual else "far"
                seen.add((where, a > 0))
    assert len(seen) == 8, seen


def loss_cases(batch):
    def case(name, objective, aggregation="token_mean", low=0.2, high=0.2, dual=None, kl=0.0, entropy=0.0):
        settings = {
            "name": name,
            "objective": objective,
            "aggregation": aggregation,
            "clip_low": low,
            "clip_high": high,
            "dual_clip": dual,
            "kl_coef": kl,
            "entropy_coef": entropy,
        }
        return settings | loss(settings, batch)

    seq = "seq_mean_token_mean"
    return [
        case("ppo", "ppo"),
        case("ppo, asymmetric", "ppo", low=0.2, high=0.28),
        case("ppo, dual clip", "ppo", dual=3.0),
        case("grpo", "ppo", seq),
        case("grpo, divergence", "ppo", seq, kl=0.04),
        case("aepo", "clip_balanced"),
        case("aepo, asymmetric", "clip_balanced", seq, low=0.15, high=0.28),
        case("aepo, dual clip", "clip_balanced", dual=3.0),
        case("aepo, divergence", "clip_balanced", kl=0.1),
        case("aepo, entropy bonus", "clip_balanced", entropy=0.01),
        case("aepo, everything", "clip_balanced", seq, low=0.1, high=0.3, dual=2.5, kl=0.2, entropy=0.05),
    ]


def main():
    rng = np.random.default_rng(2510)
    out = {}

    groups = [[0, 1, 1, 0], [1.0, 1.0, 1.0], [0.25], [-1, 0, 0.5, 1.125, 0.375], grid(rng.random(8)).tolist()]
    out["group_advantage"] = [{"rewards": g, "advantages": grpo(g).tolist()} for g in groups]

    out["entropy_advantage"] = []
    kinds = [(0.2, (5, 7, 3), False), (0.5, (6, 2), False), (0.2, (3, 4), True), (0.2, (1,), False)]
    for weight, lengths, constant in kinds:
        entropies = [grid(rng.exponential(0.8, n) if not constant else np.full(n, 0.5)).tolist() for n in lengths]
        masks = [[1] * n if n < 4 else (rng.random(n) < 0.7).astype(int).tolist() for n in lengths]
        entropies = [[h if m else 99.0 for h, m in zip(hs, ms)] for hs, ms in zip(entropies, masks)]
        advantages = grid(rng.standard_normal(len(lengths))).tolist()
        out["entropy_advantage"].append(
            {
                "weight": weight,
                "advantages": advantages,
                "entropies": entropies,
                "masks": masks,
                "token_advantages": entropy_aware(advantages, entropies, masks, weight),
            }
        )

    out["budget"] = []
    for k in (1, 2, 8, 12, 13, 16):
        for beta in (0.5, 2.0, 8.0):
            for root, tool in ((0.5, 1.5), (0.5, 1.0), (0.75, 0.75), (1.25, 0.75), (2.0, 1.0), (0.0, 4.0), (4.0, 0.0)):
                exact = k * sigmoid(beta * (root - tool))
                assert root == tool or abs(exact % 1 - 0.5) > 1e-4, "too near to a half"
                m = budget(k, beta, root, tool)
                out["budget"].append({"k": k, "beta": beta, "root": root, "tool": tool, "m": m})
    out["branch"] = []
    for alpha, gamma, slope in ((0.5, 0.2, 0.05), (0.25, 1.0, 0.25), (0.5, 0.5, 0.0)):
        for delta in (-3.0, -0.5, 0.0, 0.375, 1.5, 4.0):
            for consecutive in (0, 1, 3, 6, 30):
                p = branch_probability(alpha, gamma, slope, delta, consecutive)
                case = {"alpha": alpha, "gamma": gamma, "penalty_slope": slope, "entropy_delta": delta}
                out["branch"].append(case | {"consecutive": consecutive, "probability": p})
    batch = make_batch(rng, (16, 9, 4, 24, 14))
    assert_covers(batch, 0.2, 0.2, 3.0)
    out["batch"] = batch
    out["loss"] = loss_cases(batch)

    rows = lambda v: ",\n".join("  " + json.dumps(x) for x in v)  # noqa: E731
    parts = [f'"{key}": [\n{rows(value)}\n]' for key, value in out.items()]
    (Path(__file__).parent / "rules.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
