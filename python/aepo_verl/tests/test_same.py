"""Are these the losses and gradients that `aepo algo apply` computes? And does verl find them?

    AEPO=target/release/aepo python -m unittest discover python/aepo_verl/tests

Needs torch; the second test needs verl, too. What is missing is said, and the test skipped.
"""

import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import types
import unittest

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
AEPO = os.environ.get("AEPO", "aepo")
HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_VERL = importlib.util.find_spec("verl") is not None
LOW, HIGH = 0.2, 0.28

if HAS_TORCH:
    import torch

    # Without the package around it, which registers with verl.
    spec = importlib.util.spec_from_file_location("losses", PACKAGE / "aepo_verl" / "losses.py")
    losses = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(losses)


def batch(seed):
    """Four tasks of four trajectories; ratios lie on both sides of the band."""
    draw = random.Random(seed)

    def trajectory():
        n = draw.randint(3, 12)
        logp = [-3 * draw.random() for _ in range(n)]
        return {
            "reward": draw.choice([0.0, 1.0, 1.1]),
            "mask": [1] + [int(draw.random() < 0.7) for _ in range(n - 1)],
            "logp": logp,
            "old_logp": [value + draw.gauss(0, 0.5) for value in logp],
            "entropy": [draw.random() for _ in range(n)],
        }

    return [{"task": f"q{i}", "trajectories": [trajectory() for _ in range(4)]} for i in range(4)]


def rows(groups, key):
    lists = [trajectory[key] for group in groups for trajectory in group["trajectories"]]
    width = max(map(len, lists))
    return torch.tensor([row + [0] * (width - len(row)) for row in lists], dtype=torch.float64)


@unittest.skipUnless(HAS_TORCH, "torch is not installed")
class Same(unittest.TestCase):
    def check(self, name, loss_of):
        n_outside = 0
        for seed in range(20):
            asked = batch(seed)
            command = [AEPO, "algo", "apply", "--algo", name]
            command += ["--set", f"loss.clip_low={LOW}", "--set", f"loss.clip_high={HIGH}"]
            answer = subprocess.run(command, input=json.dumps({"groups": asked}), text=True, capture_output=True)
            self.assertEqual(answer.returncode, 0, answer.stderr)
            told = json.loads(answer.stdout)
            log_prob = rows(asked, "logp").requires_grad_()
            mask = rows(asked, "mask")
            loss, metrics = loss_of(rows(asked, "old_logp"), log_prob, rows(told["groups"], "advantage"), mask)
            loss.backward()
            self.assertAlmostEqual(loss.item(), told["loss"], delta=1e-9)
            gradient = rows(told["groups"], "dloss_dlogp")
            self.assertLess((log_prob.grad - gradient).abs().max().item(), 1e-9)
            if metrics:
                self.assertAlmostEqual(metrics["actor/pg_clipfrac"], told["metrics"]["clip_frac_high"], delta=1e-6)
                self.assertAlmostEqual(metrics["actor/pg_clipfrac_lower"], told["metrics"]["clip_frac_low"], delta=1e-6)
            n_outside += told["metrics"]["clip_frac_high"] > 0 and told["metrics"]["clip_frac_low"] > 0
        self.assertGreater(n_outside, 10, "the batches say nothing about the edges")

    def test_losses_and_gradients_are_those_of_the_program(self):
        for name, keep_low in [("aepo", False), ("gppo", True)]:

            def loss_of(old, new, advantages, mask):
                per_token, *_ = losses.clipped(new, old, advantages, LOW, HIGH, keep_low)
                return (per_token * mask).sum() / mask.sum(), None

            self.check(name, loss_of)

    @unittest.skipUnless(HAS_VERL, "verl is not installed")
    def test_verl_finds_them_and_adds_them_up_alike(self):
        sys.path.insert(0, str(PACKAGE))
        import aepo_verl  # noqa: F401
        from verl.trainer.ppo.core_algos import get_policy_loss_fn

        config = types.SimpleNamespace(
            clip_ratio=0.5, clip_ratio_low=LOW, clip_ratio_high=HIGH, global_batch_info={}
        )
        for name in ["aepo", "gppo"]:
            found = get_policy_loss_fn(name)

            def loss_of(old, new, advantages, mask):
                return found(old, new, advantages, mask, "token-mean", config, None)

            self.check(name, loss_of)


if __name__ == "__main__":
    unittest.main()
