"""Which numbers must the rules of rollout and update give? Values and gradients from the papers' formulas, by autograd.

Every function below is one published formula, written with torch operations in f64, stop-gradients as `.detach()`;
dL/dlogp and dL/dH come from autograd and from nothing else. Sources: AEPO (arXiv 2510.14545), GRPO (2402.03300), PPO
(1707.06347), DAPO (2503.14476), dual clip (1912.09729), CISPO (2506.13585), GPPO (2508.07629), GSPO (2507.18071), RLOO
(2402.14740), REINFORCE++ (2501.03262), GiGPO (2505.10978), ARPO (2507.19849), Tree-GRPO (2509.21240), AT2PO (2601.04767), truncated importance
sampling (fengyao.notion.site/off-policy-rl), the k3 estimator (joschu.net/blog/kl-approx.html).

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


def rloo(rewards):
    """RLOO: A_i = R_i - mean of the others' rewards; a group of one or of equals gets 0."""
    n = len(rewards)
    if all(r == rewards[0] for r in rewards):
        return torch.zeros(n, dtype=f64)
    return torch.tensor([r - (sum(rewards) - r) / (n - 1) for r in rewards], dtype=f64)


def reinforce_plus_plus(batch, coef):
    """REINFORCE++: the reward at the last token less coef * (old - ref) at each; returns to go; normalised over all."""
    returns = []
    for t in batch:
        old, ref = sampled(t, "old_logp"), sampled(t, "ref_logp") if coef else sampled(t, "old_logp")
        r = -coef * (old - ref)
        if len(r):
            r[-1] += t["reward"]
        returns.append(torch.tensor([float(r[i:].sum()) for i in range(len(r))], dtype=f64))
    every = torch.cat([torch.zeros(0, dtype=f64), *returns])
    if len(every) < 2 or bool((every == every[0]).all()):
        return [torch.zeros_like(g) for g in returns]
    return [(g - every.mean()) / every.std(correction=1) for g in returns]


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


def tree_grpo(rewards, roots):
    """Tree-GRPO: the group advantage within the tree plus that among all trajectories of the task."""
    inter, out = grpo(rewards), []
    for i, root in enumerate(roots):
        same = [j for j, other in enumerate(roots) if other == root]
        out.append(float(inter[i] + grpo([rewards[j] for j in same])[same.index(i)]))
    return torch.tensor(out, dtype=f64)


def at2po(group, rewards):
    """AT2PO, eqs. 2-3, for one group: the value of each trajectory's turns. A turn is named by its tokens and by the
    turns before it; the leaf of trajectory i has its group advantage, a turn the mean of what goes on from it, weighted
    by the surprisal -mean old_logp of the turn there. A trajectory that ends is a child like a turn, with the surprisal
    of its last turn."""
    ends = grpo(rewards)
    paths = []
    for i, t in enumerate(group):
        turns = [[p for p in range(u["start"], u["end"]) if t["mask"][p]] for u in t["turns"]]
        paths.append([tuple(owner(group, i, p) for p in turn) for turn in turns])

    def surprisal(turn):
        return -float(np.mean([group[i]["old_logp"][p] for i, p in turn])) if turn else 0.0

    def value(prefix):
        """Of the node reached by these turns (those without tokens are no nodes)."""
        here = [(i, tuple(turn for turn in path if turn)) for i, path in enumerate(paths)]
        here = [(i, path) for i, path in here if path[: len(prefix)] == prefix]
        parts = [(surprisal(prefix[-1]), float(ends[i])) for i, path in here if len(path) == len(prefix)]
        following = {path[: len(prefix) + 1] for _, path in here if len(path) > len(prefix)}
        parts += [(surprisal(child[-1]), value(child)) for child in following]
        weights = [max(w, 0.0) for w, _ in parts]
        if sum(weights) == 0:
            weights = [1.0] * len(parts)
        return math.fsum(w * v for w, (_, v) in zip(weights, parts)) / math.fsum(weights)

    out = []
    for path in paths:
        prefix, values = (), []
        for turn in path:
            prefix += (turn,) if turn else ()
            values.append(value(prefix) if turn else 0.0)
        out.append(values)
    return out


def overlong(n, longest, share):
    """DAPO, soft overlong punishment with L_cache = share * L_max."""
    if share == 0:
        return 0.0
    cache = share * longest
    if n <= longest - cache:
        return 0.0
    return -1.0 if n > longest else ((longest - cache) - n) / cache


# ---- Rollout ----


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def budget(k, beta, root, tool):
    """AEPO, entropy pre-monitoring: m = clamp(round(k sigmoid(beta (H_root - H_tool))), 1, k); halves round up."""
    return min(max(math.floor(k * sigmoid(beta * (root - tool)) + 0.5), 1), k)


def budget_reference(k, root, tool):
    """The released code's: m = clamp(floor(k sigmoid(0.5 (H_root - H_tool))) + 1, 1, k)."""
    return min(max(math.floor(k * sigmoid(0.5 * (root - tool))) + 1, 1), k)


def branch_score_reference(uniform, delta, count):
    """The released code's: clamp((U + 0.2 dH) max(0, 1 - 0.05 c), 0, 1); it branches at 0.5 and above."""
    return min(max((uniform + 0.2 * delta) * max(0.0, 1 - 0.05 * count), 0.0), 1.0)


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


def gppo(r, a, low, high):
    """GPPO: both bounds keep a gradient, (bound / sg(r)) r."""
    upper = (1 + high) / r.detach() * r
    lower = (1 - low) / r.detach() * r
    return -torch.minimum(r * a, torch.minimum(torch.maximum(r, lower), upper) * a)


OBJECTIVES = {"ppo": ppo, "clip_balanced": clip_balanced, "gppo": gppo}


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


# ---- Whole algorithms, from a batch to loss, advantages and gradients ----

# What an algorithm is if nothing is set; each then says what it has of its own.
PLAIN = {
    "baseline": "grpo", "objective": "ppo", "ratio": "token", "low": 0.2, "high": 0.2, "dual": None, "mean": "token",
    "kl": 0.0, "reward_kl": 0.0, "entropy_weight": 0.0, "entropy_coef": 0.0, "shared": "own", "dynamic": False,
    "overlong": 0.0, "longest": 640, "omega": 1.0, "gamma": 0.95, "is_cap": None,
}  # fmt: skip
ALGORITHMS = {
    "aepo": {"objective": "clip_balanced", "entropy_weight": 0.2},
    "aepo-reference": {"objective": "clip_balanced", "entropy_weight": 0.2, "dual": 3.0, "baseline": "grpo_or_raw"},
    "arpo": {},
    "arpo-reference": {"dual": 3.0, "baseline": "grpo_or_raw"},
    "grpo": {"mean": "sequence"},
    "reinforce++": {"baseline": "batch"},
    "dapo": {"high": 0.28, "dynamic": True, "overlong": 0.2},
    "cispo": {"objective": "cispo", "low": 1.0},
    "gppo": {"objective": "gppo"},
    "gigpo": {"baseline": "gigpo"},
    "gspo": {"ratio": "sequence", "low": 3e-4, "high": 4e-4, "mean": "sequence"},
    "ppo": {"baseline": "none"},
    "rloo": {"baseline": "rloo"},
    "tree-grpo": {"baseline": "trees", "mean": "sequence"},
    "at2po": {"baseline": "turns", "ratio": "turn", "low": 3e-3, "high": 4e-3, "mean": "sequence"},
}


def sampled(t, key):
    return torch.tensor([x for x, m in zip(t[key], t["mask"]) if m], dtype=f64)


def turn_sizes(t):
    spans = [(u["start"], u["end"]) for u in t["turns"]]
    return [sum(t["mask"][start:end]) for start, end in spans]


def owner(group, i, position):
    """The first trajectory that holds the token at `position` of trajectory i: it names shared tokens."""
    while "parent" in group[i] and position < group[i]["shared"]:
        i = group[i]["parent"]
    return i, position


def root_of(group, i):
    while "parent" in group[i] and any(group[i]["mask"][: group[i]["shared"]]):
        i = group[i]["parent"]
    return i


def spread_baseline(rule, group, rewards):
    n = [int(sum(t["mask"])) for t in group]
    if rule["baseline"] in ("gigpo", "turns"):
        if rule["baseline"] == "gigpo":
            turns = gigpo(rewards, [[u["anchor"] for u in t["turns"]] for t in group], rule["omega"], rule["gamma"])
        else:
            turns = at2po(group, rewards)
        return [
            torch.tensor([a for size, a in zip(turn_sizes(t), own) for _ in range(size)], dtype=f64)
            for t, own in zip(group, turns)
        ]
    if rule["baseline"] == "trees":
        own = tree_grpo(rewards, [root_of(group, i) for i in range(len(group))])
    elif rule["baseline"] == "rloo":
        own = rloo(rewards)
    elif rule["baseline"] == "none" or (rule["baseline"] == "grpo_or_raw" and len(group) == 1):
        own = torch.tensor(rewards, dtype=f64)
    else:
        own = grpo(rewards)
    return [torch.full((k,), float(a), dtype=f64) for k, a in zip(n, own)]


def apply(name, changes, groups):
    """One optimiser step's loss with its advantages and gradients, every token unrolled."""
    rule = PLAIN | ALGORITHMS[name] | changes
    prompt = [[(t["mask"] + [1]).index(1) for t in g["trajectories"]] for g in groups]
    rewards = [
        [t["reward"] + overlong(len(t["mask"]) - p, rule["longest"], rule["overlong"]) for t, p in zip(g["trajectories"], ps)]
        for g, ps in zip(groups, prompt)
    ]
    kept = [i for i, r in enumerate(rewards) if not rule["dynamic"] or any(x != r[0] for x in r)]
    batch = [t | {"reward": r} for i in kept for t, r in zip(groups[i]["trajectories"], rewards[i])]
    if rule["baseline"] == "batch":
        advantages = reinforce_plus_plus(batch, rule["reward_kl"])
    else:
        advantages = [a for i in kept for a in spread_baseline(rule, groups[i]["trajectories"], rewards[i])]
    if rule["shared"] == "mean":
        at, merged = 0, []
        for i in kept:
            group, through, names = groups[i]["trajectories"], {}, []
            for j, t in enumerate(group):
                names.append([owner(group, j, p) for p in range(len(t["mask"])) if t["mask"][p]])
                for key, a in zip(names[-1], advantages[at + j]):
                    through.setdefault(key, []).append(float(a))
            merged += [torch.tensor([float(np.mean(through[key])) for key in own], dtype=f64) for own in names]
            at += len(group)
        advantages = merged
    entropy = torch.cat([sampled(t, "entropy") for t in batch]) if batch else torch.zeros(0, dtype=f64)
    if rule["entropy_weight"] and len(entropy) > 1 and not bool((entropy == entropy[0]).all()):
        mean, std = entropy.mean(), entropy.std(correction=1)
        advantages = [
            a * (1 + rule["entropy_weight"] * (sampled(t, "entropy") - mean) / std) for a, t in zip(advantages, batch)
        ]
    logps = [sampled(t, "logp").requires_grad_() for t in batch]
    terms, count = [], {"high": 0, "low": 0, "dual": 0, "capped": 0, "old_kl": 0.0, "kl": 0.0, "n": 0, "n_ref": 0}
    for t, logp, a in zip(batch, logps, advantages):
        old = sampled(t, "old_logp")
        difference = logp - old
        if rule["ratio"] == "sequence":
            # Each token carries the whole sequence's ratio as value; its own log-probability carries the gradient.
            difference = difference.mean().detach() + logp - logp.detach() if len(logp) else difference
        elif rule["ratio"] == "turn":
            means = [part.mean().detach().expand(len(part)) for part in difference.split(turn_sizes(t)) if len(part)]
            difference = (torch.cat(means) if means else difference.detach()) + logp - logp.detach()
        # e^±700 is as good as what lies beyond, which f64 does not hold; the gradient is left as it is.
        r = (difference + (difference.clamp(-700.0, 700.0) - difference).detach()).exp()
        cispo, d = rule["objective"] == "cispo", logp.detach() - old
        above, below = (r > 1 + rule["high"]) & (a != 0), (r < 1 - rule["low"]) & (a != 0)
        count["high"] += int((above & ((a > 0) | cispo)).sum())
        count["low"] += int((below & ((a < 0) | cispo)).sum())
        count["dual"] += int(((a < 0) & (r > rule["dual"])).sum()) if rule["dual"] is not None and not cispo else 0
        count["n"] += len(logp)
        count["old_kl"] += float((d.expm1() - d).sum())
        if "ref_logp" in t:
            d = sampled(t, "ref_logp") - logp.detach()
            count["n_ref"] += len(logp)
            count["kl"] += float((d.expm1() - d).sum())
        if cispo:
            token = -r.clamp(1 - rule["low"], 1 + rule["high"]).detach() * a * logp
        else:
            token = OBJECTIVES[rule["objective"]](r, a, rule["low"], rule["high"])
            if rule["dual"] is not None:
                token = torch.where(a < 0, torch.minimum(token, -rule["dual"] * a), token)
        if rule["is_cap"] is not None:
            weight = (old - sampled(t, "rollout_logp")).exp()
            count["capped"] += int((weight > rule["is_cap"]).sum())
            token = token * weight.clamp(max=rule["is_cap"])
        if rule["kl"]:
            d = sampled(t, "ref_logp") - logp
            token = token + rule["kl"] * (d.exp() - d - 1)
        terms.append(token - rule["entropy_coef"] * sampled(t, "entropy"))
    present = [x for x in terms if len(x)]
    if not present:
        value = torch.zeros((), dtype=f64)
    else:
        value = torch.cat(present).mean() if rule["mean"] == "token" else torch.stack([x.mean() for x in present]).mean()
    grads = [torch.zeros_like(x) for x in logps]
    if value.requires_grad:
        grads = torch.autograd.grad(value, logps, allow_unused=True, materialize_grads=True)

    def unrolled(t, values):
        values = iter(values)
        return [next(values) + 0.0 if m else 0.0 for m in t["mask"]]

    results = iter(zip(advantages, grads))
    out = []
    for i, g in enumerate(groups):
        rows = []
        for t in g["trajectories"]:
            a, d = next(results) if i in kept else (torch.zeros(len(t["mask"])), torch.zeros(len(t["mask"])))
            rows.append({"advantage": unrolled(t, a.tolist()), "dloss_dlogp": unrolled(t, d.tolist())})
        out.append(rows)
    n = max(count["n"], 1)
    metrics = {
        "clip_frac_high": count["high"] / n, "clip_frac_low": count["low"] / n, "clip_frac_dual": count["dual"] / n,
        "kl_k3": count["kl"] / max(count["n_ref"], 1), "old_kl_k3": count["old_kl"] / n,
        "entropy": float(entropy.mean()) if len(entropy) else 0.0, "n_tokens": count["n"],
        "is_frac_capped": count["capped"] / n if rule["is_cap"] is not None else None,
        "n_groups_dropped": len(groups) - len(kept),
    }  # fmt: skip
    # JSON has no infinity.
    metrics = {k: v if v is None or math.isfinite(v) else None for k, v in metrics.items()}
    return {"loss": value.item(), "metrics": metrics, "groups": out}


def apply_trajectory(rng, n, parent=None, index=None, huge=False, width=0.4):
    """A trajectory of n tokens in turns; with a parent it shares a beginning with it."""
    shared = int(rng.integers(0, min(n, len(parent["mask"])) + 1)) if parent else 0
    mask = np.array([0] * min(2, n - 1) + [0 if i % 7 >= 5 else 1 for i in range(max(n - 2, 1))])[:n]
    old = -rng.exponential(1.2, n)
    logp = old + width * rng.standard_normal(n) + np.where(rng.random(n) < 0.2, rng.choice([-1.5, 1.5], n), 0)
    if huge:
        logp = old + rng.choice([-60.0, 8.0], n)
    row = {
        "logp": logp, "old_logp": old, "ref_logp": logp + 0.4 * rng.standard_normal(n),
        "rollout_logp": old + 0.5 * rng.standard_normal(n), "entropy": rng.exponential(0.8, n),
    }  # fmt: skip
    row = {k: [float(x) for x in np.round(v, 6)] for k, v in row.items()}
    if parent:
        mask[:shared] = parent["mask"][:shared]
        for k in row:
            row[k][:shared] = parent[k][:shared]
    row["mask"] = [int(m) for m in mask]
    edges = [i for i in range(n) if mask[i] and (i == 0 or not mask[i - 1])]
    ends = [next((j for j in range(i, n) if not mask[j]), n) for i in edges]
    row["turns"] = [{"start": a, "end": b, "anchor": "q" if a == edges[0] else f"s{rng.integers(3)}"} for a, b in zip(edges, ends)]
    row["reward"] = float(rng.choice([-1.0, 0.0, 0.25, 1.0, 1.1]))
    if parent:
        row |= {"parent": index, "shared": shared}
    return row


def turn_tree(rng):
    """A tree as an agent grows it: forks stand at the ends of tool results, so that whole turns are shared. One
    trajectory ends where others go on, one is a copy of another, and at one fork no turn has any surprisal."""
    keys = ("logp", "old_logp", "ref_logp", "rollout_logp", "entropy")

    def turn(n, sure=False):
        old = np.zeros(n) if sure else np.round(-rng.exponential(1.2, n), 6)
        logp = np.round(old + 6e-3 * rng.standard_normal(n), 6)
        noise = {k: np.round(0.5 * rng.standard_normal(n), 6) for k in keys}
        out = {"old_logp": old, "logp": logp, "ref_logp": logp + noise["ref_logp"], "rollout_logp": old + noise["rollout_logp"]}
        return out | {"entropy": np.round(rng.exponential(0.8, n), 6), "mask": np.ones(n)}

    def context(n):
        return {k: np.full(n, -7.0) for k in keys} | {"mask": np.zeros(n)}

    def trajectory(reward, parts, parent=None, shared=0):
        row = {k: [float(x) for part in parts for x in part[k]] for k in (*keys, "mask")}
        row["mask"] = [int(m) for m in row["mask"]]
        at, turns = 0, []
        for part in parts:
            n = len(part["mask"])
            if n and part["mask"][0]:
                turns.append({"start": at, "end": at + n, "anchor": f"s{len(turns)}"})
            at += n
        row |= {"turns": turns, "reward": reward}
        return row | ({"parent": parent, "shared": sum(len(p["mask"]) for p in parts[:shared])} if shared else {})

    prompt, one, two, tool, reply = context(3), turn(4), turn(3), context(2), context(1)
    first = [prompt, one, tool, two, reply, turn(2)]
    other = [prompt, turn(5), tool, turn(1)]
    sure = [prompt, turn(2, sure=True), tool, turn(3, sure=True)]
    return {"task": "turns", "trajectories": [
        trajectory(1.0, first),
        trajectory(0.0, [prompt, one, tool, turn(2), reply, turn(3)], 0, 3),
        trajectory(0.25, [prompt, one, tool, two, reply, turn(4)], 0, 5),
        trajectory(1.1, other, 0, 1),
        trajectory(-1.0, [prompt, one, tool], 1, 3),
        trajectory(0.5, other, 3, 4),
        trajectory(0.0, [prompt, one, tool, two, reply, turn(1)], 2, 5),
        trajectory(1.0, sure, 0, 1),
        trajectory(0.0, [prompt, sure[1], tool, turn(2, sure=True)], 7, 3),
        trajectory(0.75, [prompt, sure[1], tool, turn(1, sure=True)], 8, 3),
    ]}  # fmt: skip


def apply_batches(rng):
    def group(task, sizes, parents=(), **kind):
        trajectories = []
        for i, n in enumerate(sizes):
            index = dict(parents).get(i)
            trajectories.append(apply_trajectory(rng, n, trajectories[index] if index is not None else None, index, **kind))
        return {"task": task, "trajectories": trajectories}

    mixed = [group("q1", (14, 9, 11, 6)), group("q2", (8, 1, 17)), group("q3", (12, 5))]
    for t, r in zip(mixed[0]["trajectories"], (1.0, 0.0, -1.0, 1.1)):
        t["reward"] = r
    shared = [group("tree", (18, 15, 12, 16, 9), ((1, 0), (2, 0), (3, 1))), group("other", (7, 10, 13), ((2, 1),))]
    edges = [group("equal", (6, 7, 8)), group("single", (9,)), group("token", (1, 1)), group("masked", (5, 6, 4))]
    for t in edges[0]["trajectories"]:
        t["reward"] = 0.1
    edges[1]["trajectories"][0]["reward"] = 0.7
    for t, r in zip(edges[2]["trajectories"], (1.0, 0.0)):
        t["reward"] = r
        t["mask"], t["turns"] = [1], [{"start": 0, "end": 1, "anchor": "q"}]
    for t, r in zip(edges[3]["trajectories"], (1.0, 0.0, 0.5)):
        t["reward"] = r
    t = edges[3]["trajectories"][1]
    t["mask"], t["turns"] = [0] * len(t["mask"]), []
    huge = [group("huge", (10, 12, 9), huge=True)]
    flat = [group("flat", (6, 8))]
    for t, r in zip(flat[0]["trajectories"], (1.0, 0.0)):
        t["reward"], t["entropy"] = r, [0.3] * len(t["entropy"])
    nothing = [group("nothing", (4, 5))]
    for t, r in zip(nothing[0]["trajectories"], (1.0, 0.0)):
        t["reward"], t["mask"], t["turns"] = r, [0] * len(t["mask"]), []
    one = [group("one", (1,))]
    one[0]["trajectories"][0] |= {"mask": [1], "turns": [{"start": 0, "end": 1, "anchor": "q"}], "reward": 0.6}
    narrow = [group("narrow", (9, 12, 8), width=3e-4)]
    for t, r in zip(narrow[0]["trajectories"], (1.0, 0.0, 0.5)):
        t["reward"] = r
        t["logp"] = [round(o + float(d), 7) for o, d in zip(t["old_logp"], rng.normal(0, 6e-4, len(t["old_logp"])))]
    overflow = [group("overflow", (5, 6), width=0.01)]
    for t, r, far in zip(overflow[0]["trajectories"], (1.0, -1.0), (800.0, -800.0)):
        n = len(t["mask"])
        t |= {"reward": r, "mask": [1] * n, "turns": [{"start": 0, "end": n, "anchor": "q"}]}
        t["logp"] = [x + far for x in t["old_logp"]]
    empty = [group("some", (5, 7, 4)), group("all", (3,)), {"task": "none", "trajectories": []}]
    for t, r in zip(empty[0]["trajectories"] + empty[1]["trajectories"], (1.0, 0.0, 0.5, 1.0)):
        t["reward"] = r
    for t in (empty[0]["trajectories"][1], empty[1]["trajectories"][0]):
        t |= {k: [] for k, v in t.items() if isinstance(v, list)}
    return {
        "mixed": mixed, "shared": shared, "edges": edges, "huge": huge, "flat": flat, "nothing": nothing, "one": one,
        "narrow": narrow, "turns": [turn_tree(rng), group("chains", (9, 16))], "overflow": overflow, "empty": empty,
    }  # fmt: skip


def apply_cases(batches):
    plain = [(name, {}, {}, b) for name in ALGORITHMS for b in batches]
    set_to = [
        ("aepo", {"entropy_weight": 0.0}, {"advantage.entropy_weight": "0"}, "mixed"),
        ("aepo", {"objective": "ppo"}, {"loss.clip": "ppo"}, "mixed"),
        ("aepo", {"shared": "mean"}, {"advantage.shared": "mean"}, "shared"),
        ("arpo", {"shared": "mean"}, {"advantage.shared": "mean"}, "shared"),
        ("aepo", {"kl": 0.1, "entropy_coef": 0.01}, {"loss.kl_coef": "0.1", "loss.entropy_coef": "0.01"}, "shared"),
        ("aepo", {"is_cap": 1.2}, {"loss.is_cap": "1.2"}, "mixed"),
        ("grpo", {"kl": 0.04, "dual": 2.0}, {"loss.kl_coef": "0.04", "loss.dual_clip": "2"}, "mixed"),
        ("grpo", {"mean": "token"}, {"loss.aggregation": "token-mean"}, "edges"),
        ("reinforce++", {"reward_kl": 0.05}, {"loss.kl_coef": "0.05"}, "mixed"),
        ("reinforce++", {"reward_kl": 0.05}, {"loss.kl_coef": "0.05"}, "edges"),
        ("dapo", {"dynamic": False}, {"train.dynamic_sampling": "false"}, "edges"),
        ("cispo", {"low": 0.2, "is_cap": 2.0}, {"loss.clip_low": "0.2", "loss.is_cap": "2"}, "mixed"),
        ("gppo", {"dual": 2.5, "mean": "sequence"}, {"loss.dual_clip": "2.5", "loss.aggregation": "seq-mean-token-mean"}, "mixed"),
        ("gigpo", {"omega": 0.5, "gamma": 0.5}, {"gigpo.omega": "0.5", "gigpo.gamma": "0.5"}, "mixed"),
        ("gspo", {"low": 0.1, "high": 0.1}, {"loss.clip_low": "0.1", "loss.clip_high": "0.1"}, "mixed"),
        ("gspo", {"ratio": "turn", "low": 0.1}, {"loss.ratio": "turn", "loss.clip_low": "0.1"}, "mixed"),
        ("at2po", {"low": 0.2, "high": 0.2}, {"loss.clip_low": "0.2", "loss.clip_high": "0.2"}, "shared"),
        ("at2po", {"kl": 0.1, "is_cap": 1.1}, {"loss.kl_coef": "0.1", "loss.is_cap": "1.1"}, "turns"),
        ("at2po", {"shared": "mean", "mean": "token"}, {"advantage.shared": "mean", "loss.aggregation": "token-mean"}, "turns"),
        ("arpo", {"shared": "mean"}, {"advantage.shared": "mean"}, "turns"),
        ("tree-grpo", {"kl": 0.001}, {"loss.kl_coef": "0.001"}, "turns"),
        ("grpo", {"is_cap": 1.0}, {"loss.is_cap": "1"}, "shared"),
        ("gspo", {"is_cap": 1.5}, {"loss.is_cap": "1.5"}, "edges"),
        ("reinforce++", {"reward_kl": 0.02, "is_cap": 0.9}, {"loss.kl_coef": "0.02", "loss.is_cap": "0.9"}, "shared"),
        ("dapo", {"is_cap": 2.0}, {"loss.is_cap": "2"}, "empty"),
        ("dapo", {"longest": 12}, {"rollout.max_response_tokens": "12"}, "mixed"),
    ]
    cases = plain + set_to
    return [
        {"algo": name, "sets": sets, "batch": b} | apply(name, changes, batches[b]) for name, changes, sets, b in cases
    ]


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

    out["budget_reference"] = []
    for k, expected in {16: [7, 8, 9, 9, 10], 12: [5, 6, 7, 7, 8]}.items():
        for delta, m in zip((-1.0, -0.5, 0.0, 0.5, 1.0), expected):
            assert budget_reference(k, 1.0 + delta, 1.0) == m
            out["budget_reference"].append({"k": k, "root": 1.0 + delta, "tool": 1.0, "m": m})
    out["branch_reference"] = []
    for uniform in (0.0625, 0.5, 0.9375):
        for delta in (-2.0, 0.0, 1.25):
            for count in (0, 4, 25):
                aepo = branch_score_reference(uniform, delta, count)
                arpo = min(max(uniform - 0.2 * delta, 0.0), 1.0)
                case = {"uniform": uniform, "entropy_delta": delta, "count": count, "aepo": aepo, "arpo": arpo}
                out["branch_reference"].append(case)
    lengths = [(n, longest, share) for longest, share in ((20480, 0.2), (14, 0.5), (100, 0.0)) for n in (0, 7, 9, 14, 15, 18000, 30000)]
    out["overlong"] = [{"n": n, "longest": l, "share": s, "punishment": overlong(n, l, s)} for n, l, s in lengths]
    batches = apply_batches(rng)
    out["apply_batches"] = [{"name": name, "input": {"groups": groups}} for name, groups in batches.items()]
    out["apply"] = apply_cases(batches)

    rows = lambda v: ",\n".join("  " + json.dumps(x) for x in v)  # noqa: E731
    parts = [f'"{key}": [\n{rows(value)}\n]' for key, value in out.items()]
    (Path(__file__).parent / "rules.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
