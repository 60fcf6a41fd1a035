"""Does verl's own trainer step, over its own queue, come to the advantages of `aepo algo apply`?

Starts Ray and verl's transfer queue on this machine (a minute) and calls the trainer's step that computes advantages. Needs
verl with what its trainer imports; what is missing is said, and the test skipped.
"""

import os
import pathlib
import sys
import types
import unittest

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PACKAGE), str(PACKAGE / "tests")]
try:
    import ray
    import torch
    import transfer_queue as tq
    from omegaconf import OmegaConf
    from tensordict import NonTensorStack, TensorDict

    from aepo_verl.trainer import trainer_base

    MISSING = None
except ImportError as error:
    MISSING = f"verl's trainer cannot be imported: {error}"


@unittest.skipIf(MISSING, MISSING)
class Trainer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        # The queue's parts ask for a processor each, and use little of it.
        ray.init(num_cpus=32, include_dashboard=False, log_to_driver=False)
        tq.init()

    @classmethod
    def tearDownClass(cls):
        tq.close()
        ray.shutdown()

    def test_the_step_weighs_the_entropies_of_the_queue(self):
        from test_same import batch, told_by_the_program

        asked = batch(1)
        trajectories = [trajectory for group in asked for trajectory in group["trajectories"]]
        nested = lambda lists: torch.nested.as_nested_tensor(
            [torch.tensor(one, dtype=torch.float64) for one in lists], layout=torch.jagged
        )
        uids = [group["task"] for group in asked for _ in group["trajectories"]]
        keys = [f"{uid}_{i % 4}_0" for i, uid in enumerate(uids)]
        fields = {
            "response_mask": nested([t["mask"] for t in trajectories]),
            "rm_scores": nested([[0] * (len(t["mask"]) - 1) + [t["reward"]] for t in trajectories]),
            "entropy": nested([t["entropy"] for t in trajectories]),
            "uid": NonTensorStack(*uids),
        }
        stored = tq.kv_batch_put(
            keys=keys,
            partition_id="train",
            fields=TensorDict(fields, batch_size=len(keys)),
            tags=[{} for _ in keys],
        )
        for estimator, weight in [("aepo", 0.2), ("aepo", 0.0), ("rloo", None)]:
            algorithm = {"adv_estimator": estimator, "use_kl_in_reward": False, "gamma": 1.0, "lam": 1.0}
            algorithm |= {} if weight is None else {"entropy_weight": weight}
            config = OmegaConf.create({"algorithm": algorithm, "actor_rollout_ref": {"rollout": {"n": 4}}})
            trainer_base.PPOTrainer._compute_advantage(types.SimpleNamespace(config=config), stored, {})
            found = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["advantages"])["advantages"]
            told = told_by_the_program(
                asked,
                *("--algo", "rloo" if weight is None else "aepo"),
                *([] if weight is None else ["--set", f"advantage.entropy_weight={weight}"]),
            )
            expected = [t["advantage"] for group in told["groups"] for t in group["trajectories"]]
            for row, wanted in zip(found.unbind(), expected, strict=True):
                self.assertLess((row - torch.tensor(wanted, dtype=row.dtype)).abs().max().item(), 1e-9)

    def test_a_mode_without_entropies_is_an_error(self):
        config = OmegaConf.create(
            {"algorithm": {"adv_estimator": "aepo", "rollout_correction": {"bypass_mode": True}}}
        )
        with self.assertRaisesRegex(ValueError, "bypass_mode"):
            trainer_base.PPOTrainer._compute_advantage(types.SimpleNamespace(config=config), None, {})


if __name__ == "__main__":
    unittest.main()
