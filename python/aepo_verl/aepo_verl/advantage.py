"""How much better than expected was each token? The group's advantage, weighed by entropy (arXiv 2510.14545, section 3.3).

    A_t = (R - mean R) / (std R + 1e-6) (1 + a z_t),    z_t = (H_t - mean H) / std H

with R over the trajectories of a task and H over the sampled tokens of the batch, standard deviations with n - 1. A group
of one, or of equal rewards, has advantage 0. A trajectory without a sampled token counts nowhere.
"""

from contextlib import contextmanager

import torch

ENTROPY_WEIGHT = 0.2

# [sequences, tokens] of the batch whose advantages are computed now; verl hands an estimator no entropies.
_entropies = None


@contextmanager
def entropies(values):
    """Hands entropies, nats, to the estimator that is called within."""
    global _entropies
    before, _entropies = _entropies, values
    try:
        yield
    finally:
        _entropies = before


def group_advantages(rewards, groups, counts):
    """`[sequences]`; `groups` names the task of each, `counts` says which are part of it."""
    members = {}
    for i, group in enumerate(groups):
        if counts[i]:
            members.setdefault(group, []).append(i)
    advantages = torch.zeros_like(rewards)
    for group in members.values():
        own = rewards[group]
        if (own != own[0]).any():
            advantages[group] = (own - own.mean()) / (own.std() + 1e-6)
    return advantages


def entropy_factors(entropies, mask, weight):
    """`[sequences, tokens]`, 1 + weight z where the mask is set."""
    sampled = entropies[mask]
    if sampled.numel() < 2 or (sampled == sampled[0]).all():
        return torch.ones_like(entropies)
    return 1 + weight * (entropies - sampled.mean()) / sampled.std()


def aepo(token_level_rewards, response_mask, index, config=None, **_):
    """An estimator as verl calls one; `algorithm.entropy_weight` is a."""
    weight = ENTROPY_WEIGHT if config is None else config.get("entropy_weight", ENTROPY_WEIGHT)
    mask = response_mask.bool()
    rewards = token_level_rewards.sum(-1)
    advantages = group_advantages(rewards, index, mask.any(-1)).unsqueeze(-1) * mask
    if weight:
        if _entropies is None:
            raise RuntimeError(
                "adv_estimator=aepo weighs entropies, and none were handed over: set VERL_USE_EXTERNAL_MODULES="
                "aepo_verl.trainer, or +algorithm.entropy_weight=0"
            )
        if _entropies.shape != mask.shape:
            raise RuntimeError(f"entropies are {list(_entropies.shape)} and responses {list(mask.shape)}")
        advantages = advantages * entropy_factors(_entropies.to(advantages.dtype), mask, weight)
    return advantages, advantages


def register():
    """Registers it with verl, as `algorithm.adv_estimator`."""
    from verl.trainer.ppo.core_algos import register_adv_est

    register_adv_est("aepo")(aepo)
