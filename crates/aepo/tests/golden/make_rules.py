"""Which numbers must the rules of rollout and update give? Values and gradients from the papers' formulas, by autograd.

Every function below is one published formula, written with torch operations in f64, stop-gradients as `.detach()`;
dL/dlogp comes from autograd and from nothing else. Sources: AEPO (arXiv 2510.14545), ARPO (2507.19849), GRPO
(2402.03300), DAPO (2503.14476), CISPO (2506.13585), GPPO (2508.07629), GSPO (2507.18071), dual clip (1912.09729),
RLOO (2402.14740), GiGPO (2505.10978), the k3 estimator (joschu.net/blog/kl-approx.html).

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


def rloo(rewards):
    """RLOO: A_i = R_i - mean of the others' rewards; a group of one gets 0."""
    n = len(rewards)
    if n < 2:
        return torch.zeros(n, dtype=f64)
    return torch.tensor([r - (sum(rewards) - r) / (n - 1) for r in rewards], dtype=f64)


def entropy_aware(advantages, entropies, masks, weight):
    """AEPO: A_t = A_acc (1 + a z_t), z the batch-wide standardised entropy of the sampled tokens."""
    sampled = torch.tensor([h for hs, ms in zip(entropies, masks) for h, m in zip(hs, ms) if m], dtype=f64)
    std = sampled.std(correction=1) if len(sampled) > 1 else torch.zeros((), dtype=f64)
    out = []
    for a, hs, ms in zip(advantages, entropies, masks):
        z = [(h - sampled.mean()) / std if std > 0 else 0.0 for h in hs]
        out.append([float(a * (1 + weight * z_t)) if m else 0.0 for z_t, m in zip(z, ms)])
    return out


def gigpo(rewards, anchors, omega, gamma):
    """GiGPO for one group: episode advantage + omega * step advantage. `anchors[i][t]` names the state before turn t;
    its return is gamma^(T-1-t) R, standardised among the turns of the group that start from an equal state."""
    episode = grpo(rewards)
    returns = [[gamma ** (len(a) - 1 - t) * r for t in range(len(a))] for r, a in zip(rewards, anchors)]
    by_state = {}
    for i, states in enumerate(anchors):
        for t, state in enumerate(states):
            by_state.setdefault(state, []).append((i, t))
    out = [[0.0] * len(a) for a in anchors]
    for members in by_state.values():
        step = grpo([returns[i][t] for i, t in members])
        for (i, t), s in zip(members, step):
            out[i][t] = float(episode[i] + omega * s)
    return out


# ---- Rollout ----


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def budget(k, beta, root, tool):
    """AEPO, entropy pre-monitoring: m = clamp(round(k sigmoid(beta (H_root - H_tool))), 1, k); halves round up."""
    return min(max(math.floor(k * sigmoid(beta * (root - tool)) + 0.5), 1), k)


def budget_reference(k, root, tool):
    """The released code's: m = clamp(floor(k sigmoid(0.5 (H_root - H_tool))) + 1, 1, k)."""
    return min(max(math.floor(k * sigmoid(0.5 * (root - tool))) + 1, 1), k)


def branch_probability(alpha, gamma, slope, delta, consecutive):
    """AEPO: P = clamp((alpha + gamma dH) (1 - min(1, slope l)), 0, 1)."""
    return min(max((alpha + gamma * delta) * (1 - min(1.0, slope * consecutive)), 0.0), 1.0)


def branch_probability_reference(uniform, delta, count):
    """The released code's: clamp((U + 0.2 dH) max(0, 1 - 0.05 c), 0, 1); it branches at 0.5 and above."""
    return min(max((uniform + 0.2 * delta) * max(0.0, 1 - 0.05 * count), 0.0), 1.0)


# ---- Per-token objectives. `ratio` r = exp(logp - old_logp); each returns the loss of every token ----


def ppo(r, logp, a, low, high):
    return -torch.minimum(r * a, r.clamp(1 - low, 1 + high) * a)


def clip_balanced(r, logp, a, low, high):
    """AEPO: the upper bound becomes ((1 + eps_h) / sg(r)) r: the value of PPO's, with a gradient."""
    upper = (1 + high) / r.detach() * r
    clipped = torch.minimum(torch.maximum(r, torch.full_like(r, 1 - low)), upper)
    return -torch.minimum(r * a, clipped * a)


def gppo(r, logp, a, low, high):
    """GPPO: both bounds keep a gradient, (bound / sg(r)) r."""
    upper = (1 + high) / r.detach() * r
    lower = (1 - low) / r.detach() * r
    clipped = torch.minimum(torch.maximum(r, lower), upper)
    return -torch.minimum(r * a, clipped * a)


def cispo(r, logp, a, low, high):
    """CISPO: -sg(clip(r, 1 - eps_l, 1 + eps_h)) A logp; eps_l = 1 leaves the lower side open."""
    return -r.clamp(1 - low, 1 + high).detach() * a * logp


OBJECTIVES = {"ppo": ppo, "clip_balanced": clip_balanced, "gppo": gppo, "cispo": cispo}


def loss(case, batch):
    """Value and dL/dlogp of one batch of trajectories."""
    logps, per_token = [], []
    for row in batch:
        logp = torch.tensor(row["logp"], dtype=f64, requires_grad=True)
        logps.append(logp)
        mask = torch.tensor(row["mask"], dtype=torch.bool)
        advantage = torch.tensor(row["advantage"], dtype=f64)
        log_ratio = logp - torch.tensor(row["old_logp"], dtype=f64)
        low, high = case["clip_low"], case["clip_high"]
        if case["objective"] == "gspo":
            # GSPO: one ratio per sequence, the geometric mean of the tokens'; advantage constant along the sequence.
            if not mask.any():
                per_token.append(torch.zeros(0, dtype=f64))
                continue
            s = log_ratio[mask].mean().exp()
            token = ppo(s, None, advantage[mask], low, high)
        else:
            r = log_ratio.exp()
            token = OBJECTIVES[case["objective"]](r, logp, advantage, low, high)
            if case["dual_clip"] is not None:
                # Dual clip: for A < 0 the objective is held above c A, so the loss below -c A.
                bound = -case["dual_clip"] * advantage
                token = torch.where(advantage < 0, torch.minimum(token, bound), token)
            if case["kl_coef"] > 0:
                d = torch.tensor(row["ref_logp"], dtype=f64) - logp
                token = token + case["kl_coef"] * (d.exp() - d - 1)
            token = token[mask]
        per_token.append(token)
    if case["aggregation"] == "token_mean":
        value = torch.cat(per_token).mean()
    else:
        value = torch.stack([token.mean() for token in per_token if len(token)]).mean()
    value.backward()
    grads = [logp.grad if logp.grad is not None else torch.zeros_like(logp) for logp in logps]
    return value.item(), [g.tolist() for g in grads]


def make_batch(rng, lengths, per_sequence=False, width=0.35):
    """Random trajectories. What lies under mask 0 is wild: using it anywhere would show."""
    batch = []
    for i, n in enumerate(lengths):
        mask = (rng.random(n) < 0.75).astype(int)
        mask[: n // 5] = 0  # a prompt
        if i == 2:
            mask[:] = 0  # a trajectory without sampled tokens
        old = -rng.exponential(1.2, n)
        logp = np.minimum(old + width * rng.standard_normal(n), -1 / 1024)
        if not per_sequence:
            # Some ratios far outside the band on both sides, for either sign of the advantage.
            far = rng.random(n) < 0.25
            logp = np.where(far, old + rng.choice([-1.5, 1.5], n), logp)
            old = np.where(far & (logp > 0), old - 2.0, old)
            logp = np.where(logp > 0, logp - 2.0, logp)
        ref = logp + 0.4 * rng.standard_normal(n)
        advantage = np.full(n, rng.standard_normal()) if per_sequence else rng.standard_normal(n)
        row = {"logp": logp, "old_logp": old, "ref_logp": ref, "advantage": advantage}
        for key in row:
            row[key] = np.where(mask == 1, grid(row[key]), 7.0 if key == "advantage" else -50.0).tolist()
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


def loss_cases(batch, sequence_batch):
    def case(name, objective, aggregation="token_mean", low=0.2, high=0.2, dual=None, kl=0.0):
        settings = {
            "name": name,
            "objective": objective,
            "aggregation": aggregation,
            "clip_low": low,
            "clip_high": high,
            "dual_clip": dual,
            "kl_coef": kl,
            "batch": "per_sequence" if objective == "gspo" else "per_token",
        }
        value, grads = loss(settings, sequence_batch if objective == "gspo" else batch)
        return settings | {"value": value, "dloss_dlogp": grads}

    seq = "seq_mean_token_mean"
    return [
        case("ppo", "ppo"),
        case("grpo", "ppo", seq, kl=0.04),
        case("grpo without kl", "ppo", seq),
        case("dapo", "ppo", high=0.28),
        case("dual clip", "ppo", dual=3.0),
        case("aepo", "clip_balanced"),
        case("aepo asymmetric", "clip_balanced", seq, low=0.15, high=0.28),
        case("aepo-reference", "clip_balanced", dual=3.0),
        case("aepo with kl", "clip_balanced", kl=0.1),
        case("cispo", "cispo", low=1.0),
        case("cispo both sides", "cispo", seq, low=0.2),
        case("gppo", "gppo"),
        case("gppo with dual clip", "gppo", seq, dual=3.0),
        case("gspo", "gspo", seq, low=3e-4, high=4e-4),
        case("gspo wide", "gspo", seq, low=0.1, high=0.1),
    ]


def main():
    rng = np.random.default_rng(2510)
    out = {}

    groups = [[0, 1, 1, 0], [1.0, 1.0, 1.0], [0.25], [-1, 0, 0.5, 1.125, 0.375], grid(rng.random(8)).tolist(), [0, 0, 0, 1]]
    out["group_advantage"] = [{"rewards": g, "grpo": grpo(g).tolist(), "rloo": rloo(g).tolist()} for g in groups]

    out["entropy_advantage"] = []
    for weight, lengths, constant in ((0.2, (5, 7, 3), False), (0.5, (6, 2), False), (0.2, (3, 4), True), (0.2, (1,), False)):
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

    turns = [
        ([1, 0, 1, 0], [["q", "a", "b"], ["q", "a"], ["q", "c", "a", "d"], ["q"]]),
        ([1, 0.5, 0], [["q", "a"], ["q", "b"], ["q", "c"]]),
    ]
    out["gigpo"] = []
    for rewards, anchors in turns:
        for omega, gamma in ((1.0, 0.95), (0.5, 0.5)):
            values = gigpo(rewards, anchors, omega, gamma)
            case = {"omega": omega, "gamma": gamma, "rewards": rewards, "anchors": anchors, "turn_advantages": values}
            out["gigpo"].append(case)

    out["budget"] = []
    for k in (1, 2, 8, 12, 13, 16):
        for beta in (0.5, 2.0, 8.0):
            for root, tool in ((0.5, 1.5), (0.5, 1.0), (0.75, 0.75), (1.25, 0.75), (2.0, 1.0), (0.0, 4.0), (4.0, 0.0)):
                exact = k * sigmoid(beta * (root - tool))
                assert root == tool or abs(exact % 1 - 0.5) > 1e-4, "too near to a half"
                out["budget"].append({"k": k, "beta": beta, "root": root, "tool": tool, "m": budget(k, beta, root, tool)})
    worked = {16: [7, 8, 9, 9, 10], 12: [5, 6, 7, 7, 8]}
    out["budget_reference"] = []
    for k, expected in worked.items():
        for delta, m in zip((-1.0, -0.5, 0.0, 0.5, 1.0), expected):
            assert budget_reference(k, 1.0 + delta, 1.0) == m
            out["budget_reference"].append({"k": k, "root": 1.0 + delta, "tool": 1.0, "m": m})

    out["branch"] = []
    for alpha, gamma, slope in ((0.5, 0.2, 0.05), (0.25, 1.0, 0.25), (0.5, 0.5, 0.0)):
        for delta in (-3.0, -0.5, 0.0, 0.375, 1.5, 4.0):
            for consecutive in (0, 1, 3, 6, 30):
                p = branch_probability(alpha, gamma, slope, delta, consecutive)
                case = {"alpha": alpha, "gamma": gamma, "penalty_slope": slope, "entropy_delta": delta}
                out["branch"].append(case | {"consecutive": consecutive, "probability": p})
    out["branch_reference"] = []
    for uniform in (0.0625, 0.5, 0.9375):
        for delta in (-2.0, 0.0, 1.25):
            for count in (0, 4, 25):
                p = branch_probability_reference(uniform, delta, count)
                arpo = min(max(uniform - 0.2 * delta, 0.0), 1.0)
                case = {"uniform": uniform, "entropy_delta": delta, "count": count, "aepo": p, "arpo": arpo}
                out["branch_reference"].append(case)

    per_token = make_batch(rng, (16, 9, 4, 24, 14))
    per_sequence = make_batch(rng, (9, 12, 3, 6, 10, 8), per_sequence=True, width=0.3)
    assert_covers(per_token, 0.2, 0.2, 3.0)
    out["batches"] = {"per_token": per_token, "per_sequence": per_sequence}
    out["loss"] = loss_cases(per_token, per_sequence)

    rows = lambda v: ",\n".join("  " + json.dumps(x) for x in v)  # noqa: E731
    parts = []
    for key, value in out.items():
        if key == "batches":
            inner = ",\n".join(f'  "{name}": [\n{rows(batch)}\n  ]' for name, batch in value.items())
            parts.append(f'"{key}": {{\n{inner}\n}}')
        else:
            parts.append(f'"{key}": [\n{rows(value)}\n]')
    (Path(__file__).parent / "rules.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
