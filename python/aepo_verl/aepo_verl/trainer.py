"""Who hands the estimator entropies? verl's trainers do not; with `VERL_USE_EXTERNAL_MODULES=aepo_verl.trainer` they do.

verl measures the entropy of every token when it computes the old log-probabilities, writes it into its queue, and leaves it
there when it computes advantages. Trainers are known by names on which verl's own code depends, so no further one is
registered: the step itself is wrapped, for runs with `algorithm.adv_estimator=aepo` alone.
"""

import functools

from verl.trainer.ppo.v1 import trainer_base

import aepo_verl  # noqa: F401  registers the rules
from aepo_verl.advantage import entropies


def handing_over(compute):
    """`_compute_advantage` with the batch's entropies at hand."""

    @functools.wraps(compute)
    def wrapped(self, batch, metrics):
        algorithm = self.config.algorithm
        if algorithm.adv_estimator != "aepo":
            return compute(self, batch, metrics)
        if (algorithm.get("rollout_correction", None) or {}).get("bypass_mode", False):
            raise ValueError(
                "algorithm.rollout_correction.bypass_mode computes no old log-probabilities and so no entropies, which "
                "adv_estimator=aepo weighs: switch it off"
            )
        data = trainer_base.tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["entropy"]
        )
        with entropies(data.to_padded_tensor()["entropy"]):
            return compute(self, batch, metrics)

    return wrapped


trainer_base.PPOTrainer._compute_advantage = handing_over(trainer_base.PPOTrainer._compute_advantage)
