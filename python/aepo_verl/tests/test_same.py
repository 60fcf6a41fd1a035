"""Are these the losses, gradients and advantages that `aepo algo apply` computes? And does verl find them?

    AEPO=target/release/aepo python -m unittest discover python/aepo_verl/tests

Needs torch; half of the tests need verl, too. What is missing is said, and the test skipped.
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

    def alone(name):
        """A module without the package around it, which registers with verl."""
        spec = importlib.util.spec_from_file_location(name, PACKAGE / "aepo_verl" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    losses, advantage = alone("losses"), alone("advantage")


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


def told_by_the_program(asked, *sets):
    """What `aepo algo apply` makes of a batch."""
    command = [AEPO, "algo", "apply", *sets]
    answer = subprocess.run(command, input=json.dumps({"groups": asked}), text=True, capture_output=True)
    if answer.returncode != 0:
        raise RuntimeError(answer.stderr)
    return json.loads(answer.stdout)


@unittest.skipUnless(HAS_TORCH, "torch is not installed")
class Same(unittest.TestCase):
    def check(self, name, loss_of):
        n_outside = 0
        for seed in range(20):
            asked = batch(seed)
            band = ["--set", f"loss.clip_low={LOW}", "--set", f"loss.clip_high={HIGH}"]
            told = told_by_the_program(asked, "--algo", name, *band)
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

    def check_advantages(self, estimate, entropies):
        for seed in range(20):
            asked = batch(seed)
            # A task without a difference in reward teaches nothing.
            for trajectory in asked[seed % 4]["trajectories"]:
                trajectory["reward"] = 1.0
            reward = [trajectory["reward"] for group in asked for trajectory in group["trajectories"]]
            tasks = [group["task"] for group in asked for _ in group["trajectories"]]
            mask = rows(asked, "mask")
            rewards = torch.zeros_like(mask)
            rewards[:, -1] = torch.tensor(reward, dtype=torch.float64)
            for weight in [0.0, 0.2, 0.7]:
                told = told_by_the_program(asked, "--algo", "aepo", "--set", f"advantage.entropy_weight={weight}")
                expected = rows(told["groups"], "advantage")
                with entropies(rows(asked, "entropy")):
                    found, returns = estimate(
                        token_level_rewards=rewards, response_mask=mask, index=tasks, config={"entropy_weight": weight}
                    )
                self.assertLess((found - expected).abs().max().item(), 1e-9)
                self.assertTrue(torch.equal(found, returns))
                # One more trajectory, of which no token was sampled, changes nothing.
                more = lambda x: torch.cat([x, torch.ones_like(x[:1])])
                unsampled = torch.cat([mask, torch.zeros_like(mask[:1])])
                with entropies(more(rows(asked, "entropy"))):
                    again, _ = estimate(
                        token_level_rewards=more(rewards),
                        response_mask=unsampled,
                        index=tasks + tasks[:1],
                        config={"entropy_weight": weight},
                    )
                self.assertTrue(torch.equal(again[:-1], found) and not again[-1].any())

    def test_advantages_are_those_of_the_program(self):
        self.check_advantages(advantage.aepo, advantage.entropies)

    def test_entropies_that_are_weighed_and_missing_are_an_error(self):
        ones = torch.ones(2, 3)
        with self.assertRaisesRegex(RuntimeError, "aepo_verl.trainer"):
            advantage.aepo(ones, ones, ["a", "a"])
        with advantage.entropies(torch.ones(2, 4)), self.assertRaisesRegex(RuntimeError, r"\[2, 4\]"):
            advantage.aepo(ones, ones, ["a", "a"])
        advantage.aepo(ones, ones, ["a", "a"], {"entropy_weight": 0})

    @unittest.skipUnless(HAS_VERL, "verl is not installed")
    def test_verl_finds_the_advantage(self):
        sys.path.insert(0, str(PACKAGE))
        import aepo_verl.advantage
        from verl.trainer.ppo.core_algos import get_adv_estimator_fn

        self.check_advantages(get_adv_estimator_fn("aepo"), aepo_verl.advantage.entropies)


if __name__ == "__main__":
    unittest.main()
