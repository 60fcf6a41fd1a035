"""Do verl's sessions get the trajectories of a tree from `aepo serve --rollouts`?

Runs the service on the quickstart's model, and the agent loop as verl's worker makes one. Needs verl with what its agent loop
imports; what is missing is said, and the tests skipped.
"""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
AEPO = os.environ.get("AEPO", "aepo")
TOKENIZER = PACKAGE.parents[1] / "recipes" / "quickstart" / "tokenizer.json"
sys.path.insert(0, str(PACKAGE))
try:
    from omegaconf import OmegaConf
    from transformers import PreTrainedTokenizerFast
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap

    from aepo_verl.agent_loop import TreeAgentLoop, answers_of, question_of

    MISSING = None
except ImportError as error:
    MISSING = f"verl's agent loop cannot be imported: {error}"

K = 4
TRAINING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "logprobs": True}
VALIDATION = {**TRAINING, "temperature": 0.6}


class Service:
    def __init__(self, *sets):
        self.dir = tempfile.TemporaryDirectory()
        file = pathlib.Path(self.dir.name) / "address"
        command = [AEPO, "serve", "quickstart", "--rollouts", "--port", "0", "--address-file", file]
        for one in sets:
            command += ["--set", one]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while not (file.exists() and file.read_text().endswith("\n")):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no service: {self.process.stderr.read()}")
            time.sleep(0.05)
        self.url = file.read_text().strip()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()
        self.dir.cleanup()


@unittest.skipIf(MISSING, MISSING)
class AgentLoop(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.training = Service(f"rollout.k={K}")
        cls.validation = Service("rollout.k=2", "rollout.temperature=0.6", "algorithm.name=grpo")

    @classmethod
    def tearDownClass(cls):
        cls.training.stop()
        cls.validation.stop()

    def loop(self, response_length=1024, n=K, **more):
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
        rollout = {"n": n, "response_length": response_length, "prompt_length": 512, "name": "vllm"}
        config = OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "data": {}})
        return TreeAgentLoop(
            trainer_config=DictConfigWrap(config),
            server_manager=None,
            tokenizer=tokenizer,
            processor=None,
            dataset_cls=None,
            data_config=DictConfigWrap(config.data),
            tools=None,
            **{"service": self.training.url, **more},
        )

    def sessions(self, uid, params=TRAINING, n=K, answer="1285216", index=5, loop=lambda self: self.loop()):
        """The sessions of a prompt, each with an agent loop of its own, as verl's worker runs them."""

        def one(session):
            return loop(self).run(
                params,
                uid=uid,
                session_id=session,
                global_steps=3,
                index=index,
                raw_prompt=[{"role": "system", "content": "-"}, {"role": "user", "content": "Find the area of Peru."}],
                reward_model={"ground_truth": answer},
            )

        async def all_of_them():
            return await asyncio.gather(*[one(session) for session in range(n)])

        return asyncio.run(all_of_them())

    def test_sessions_of_a_prompt_share_its_tree(self):
        outputs = self.sessions("a")
        self.assertEqual(len({tuple(output.extra_fields["path"]) for output in outputs}), K)
        for output in outputs:
            fields = output.as_dict()
            n = len(fields["responses"])
            self.assertTrue(0 < fields["response_mask"].sum() <= n)
            self.assertEqual(len(fields["rollout_log_probs"]), n)
            self.assertEqual(fields["rm_scores"].sum().item(), torch_float(output.reward_score))
            self.assertEqual(output.extra_fields["min_global_steps"], 3)
        self.assertTrue(any(0 in output.response_mask for output in outputs), "nobody called a tool")
        again = self.sessions("a")
        self.assertEqual([o.response_ids for o in again], [o.response_ids for o in outputs])
        # The draws follow from step and index and not from verl's random name.
        renamed = self.sessions("b")
        self.assertEqual([o.response_ids for o in renamed], [o.response_ids for o in outputs])

    def test_a_right_answer_is_rewarded_and_no_answers_leave_it_to_verl(self):
        rewards = lambda name, **more: [
            output.reward_score for i in range(6) for output in self.sessions(f"{name}{i}", index=i, **more)
        ]
        self.assertEqual(max(rewards("right")), 1.0)
        self.assertLess(max(rewards("wrong", answer="16")), 0.5)
        self.assertIsNone(self.sessions("open", answer=None)[0].reward_score)

    def test_settings_without_effect_are_errors(self):
        with self.assertRaisesRegex(ValueError, "temperature 1.0 and not 0.6"):
            self.sessions("c", VALIDATION)
        with self.assertRaisesRegex(ValueError, "session 4"):
            self.sessions("d", n=K + 1)
        with self.assertRaisesRegex(ValueError, "rollout.n is 2"):
            self.sessions("l", loop=lambda self: self.loop(n=2))
        with self.assertRaisesRegex(ValueError, "rollout.response_length is 8"):
            self.sessions("e", loop=lambda self: self.loop(response_length=8))
        with self.assertRaisesRegex(RuntimeError, "aepo serve --rollouts"):
            self.sessions("f", loop=lambda self: self.loop(service="http://127.0.0.1:9"))

    def test_validation_has_a_service_of_its_own(self):
        both = lambda self: self.loop(validation_service=self.validation.url)
        outputs = [self.sessions(uid, VALIDATION, n=1, loop=both)[0] for uid in ["g", "h"]]
        self.assertEqual(outputs[0].response_ids, outputs[1].response_ids)
        # Log-probabilities are those at its temperature, under which the likeliest token is likelier.
        trained = self.sessions("j")[0]
        self.assertNotEqual(outputs[0].response_logprobs, trained.response_logprobs)
        self.assertEqual(len(self.sessions("i", loop=both)), K)

    def test_questions_and_answers_are_found(self):
        self.assertEqual(answers_of({"target": ["a", 2]}), ["a", "2"])
        self.assertEqual((answers_of("x"), answers_of(3), answers_of(None)), (["x"], ["3"], []))
        with self.assertRaisesRegex(ValueError, "no question"):
            question_of([{"role": "user", "content": [{"type": "image"}]}])


def torch_float(value):
    """As a tensor of f32 holds it."""
    import torch

    return torch.tensor(value, dtype=torch.float32).item()


if __name__ == "__main__":
    unittest.main()
