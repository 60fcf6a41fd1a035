"""Which tokens keep their gradient outside the clip band?

verl has PPO's clip, CISPO and GSPO; here are the two that it lacks. Both have PPO's value,

    L = -min(r A, clip(r, 1 - low, 1 + high) A),    r = exp(logp - old_logp),

and differ from it in the gradient alone:

    aepo   above the band with A > 0, where PPO has none, it is that of the band's upper edge  (arXiv 2510.14545, section 3.3)
    gppo   below the band with A < 0, that of the lower edge, too                               (arXiv 2508.07629)
"""

import torch

# exp of a larger difference says nothing that a smaller one does not, and overflows in f32; as verl has it.
MAX_LOG_RATIO = 20.0


def clipped(log_prob, old_log_prob, advantages, low, high, keep_low):
    """The loss of each token, and where the upper and the lower edge were taken.

    All tensors are [sequences, tokens]. `keep_low` keeps the gradient below the band (gppo).
    """
    ratio = torch.exp((log_prob - old_log_prob).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
    # The value of an edge with the gradient of the ratio, scaled to that edge.
    edge = lambda bound: bound * ratio / ratio.detach()
    is_high = (advantages > 0) & (ratio > 1 + high)
    is_low = (advantages < 0) & (ratio < 1 - low)
    floor = edge(1 - low) if keep_low else torch.full_like(ratio, 1 - low)
    taken = torch.where(is_high, edge(1 + high), torch.where(is_low, floor, ratio))
    return -taken * advantages, is_high, is_low


def bounds(config):
    """verl's bounds: `clip_ratio_low` and `clip_ratio_high`, or `clip_ratio` for both."""
    pick = lambda bound: config.clip_ratio if bound is None else bound
    return pick(config.clip_ratio_low), pick(config.clip_ratio_high)


def policy_loss(keep_low):
    """A loss with the arguments that verl calls with."""

    def compute(
        old_log_prob,
        log_prob,
        advantages,
        response_mask,
        loss_agg_mode="token-mean",
        config=None,
        rollout_is_weights=None,
    ):
        from verl.trainer.ppo.core_algos import agg_loss

        low, high = bounds(config)
        losses, is_high, is_low = clipped(log_prob, old_log_prob, advantages, low, high, keep_low)
        if rollout_is_weights is not None:
            losses = losses * rollout_is_weights
        loss = agg_loss(losses, response_mask, loss_agg_mode, **config.global_batch_info)
        n_tokens = response_mask.sum().clamp(min=1)
        mean = lambda x: ((x * response_mask).sum() / n_tokens).detach().item()
        return loss, {
            "actor/pg_clipfrac": mean(is_high.float()),
            "actor/pg_clipfrac_lower": mean(is_low.float()),
            "actor/ppo_kl": mean(old_log_prob - log_prob),
        }

    return compute


def register():
    """Registers both with verl, as `actor_rollout_ref.actor.policy_loss.loss_mode`."""
    from verl.trainer.ppo.core_algos import register_policy_loss

    register_policy_loss("aepo")(policy_loss(keep_low=False))
    register_policy_loss("gppo")(policy_loss(keep_low=True))
