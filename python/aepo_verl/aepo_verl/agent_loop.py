"""Where does verl get its trajectories? One tree for each prompt, from `aepo serve --rollouts`.

    # rollout.agent.agent_loop_config_path names a file that says
    - name: aepo
      _target_: aepo_verl.agent_loop.TreeAgentLoop
      service: http://127.0.0.1:8000

The service samples by verl's own servers, whose addresses go with every order, runs the tools, and grades. The sessions of
a prompt get the trajectories of its tree, each one of them.
"""

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register

# A waiting order is a waiting thread.
_threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="aepo")
# Orders of this process, by service and prompt: what waits for the tree, and the sessions that took theirs. Of those that are
# done the newest are kept; the service would tell the others again.
_orders = {}
KEPT_ORDERS = 256
# What services said of themselves, and when.
_facts = {}
FACTS_SECS = 30.0


def ask(url, body=None, key=None, timeout=None):
    """The JSON that a service answers; an error says its words."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        said = error.read(1 << 16).decode(errors="replace")
        try:
            said = json.loads(said)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            pass
        raise RuntimeError(f"{url}: {error.code} {said}") from None
    except OSError as error:
        raise RuntimeError(f"{url}: {error}; is `aepo serve --rollouts` running there?") from None


def question_of(messages):
    """The last user's words. The recipe has its own system prompt and its own tools."""
    words = [message["content"] for message in messages if message["role"] == "user"]
    if not words or not isinstance(words[-1], str):
        raise ValueError(f"raw_prompt holds no question in words: {messages!r}")
    return words[-1]


def answers_of(truth):
    """Accepted answers of `reward_model.ground_truth`: a text, a number, a list of them, or {"target": …}."""
    if isinstance(truth, dict):
        truth = truth.get("target", [])
    if hasattr(truth, "tolist"):
        truth = truth.tolist()
    if truth is None:
        return []
    return [str(answer) for answer in (truth if isinstance(truth, (list, tuple)) else [truth])]


@register("aepo")
class TreeAgentLoop(AgentLoopBase):
    """`service` samples as the training is told to, `validation_service` as the validation is; `key_env` names a variable
    that holds a key; `grader` is `math`, `qa`, `choice` or `gaia`; an order waits `timeout` seconds at most."""

    def __init__(
        self, *args, service, validation_service=None, grader="math", key_env=None, timeout=3600.0, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.service, self.validation_service = service.rstrip("/"), validation_service and validation_service.rstrip("/")
        self.grader, self.timeout = grader, timeout
        self.key = os.environ[key_env] if key_env else None

    async def _ask(self, url, body=None):
        return await asyncio.get_running_loop().run_in_executor(_threads, ask, url, body, self.key, self.timeout)

    async def _facts_of(self, service):
        asked, facts = _facts.get(service, (None, None))
        if asked is None or time.monotonic() - asked > FACTS_SECS:
            facts = await self._ask(f"{service}/health")
            _facts[service] = time.monotonic(), facts
        return facts

    async def _service_for(self, params, n_session):
        """The service that samples as verl was told to; a setting that would have no effect is an error."""
        wanted = {
            "temperature": params["temperature"],
            "top_p": params["top_p"],
            "top_k": max(params.get("top_k", 0), 0),
        }
        told = []
        for service in filter(None, [self.service, self.validation_service]):
            facts = await self._facts_of(service)
            differs = lambda key: abs(facts[key] - wanted[key]) > 1e-6
            differing = [f"{key} {facts[key]} and not {wanted[key]}" for key in wanted if differs(key)]
            if service == self.service and self.rollout_config.n != facts["k"]:
                differing.append(f"trees of {facts['k']} trajectories, and rollout.n is {self.rollout_config.n}")
            elif n_session >= facts["k"]:
                differing.append(f"trees of {facts['k']} trajectories, and session {n_session} needs one more")
            n_most, limit = facts["max_response_tokens"], self.rollout_config.response_length
            if n_most > limit:
                differing.append(f"responses of {n_most} tokens, and rollout.response_length is {limit}")
            if not differing:
                return service, facts
            told.append(f"{service} has {', '.join(differing)}")
        raise ValueError("no service samples as verl asks: " + "; ".join(told))

    async def _tree(self, service, facts, uid, kwargs):
        question = question_of(kwargs["raw_prompt"])
        # Data without indices has index 0 everywhere; the question tells its prompts apart.
        seed = [int(kwargs.get("global_steps", 0)), int(kwargs.get("index", 0)), zlib.crc32(question.encode())]
        order = {
            "group": uid,
            "question": question,
            "answers": answers_of((kwargs.get("reward_model") or {}).get("ground_truth")),
            "grader": self.grader,
            "seed": seed,
        }
        if facts["names_servers"]:
            addresses = await self.server_manager._load_balancer.get_all_servers.remote()
            order["servers"] = sorted(f"http://{address}" for address in addresses)
        return await self._ask(f"{service}/rollouts", order)

    async def run(self, sampling_params, **kwargs):
        """One trajectory of the prompt's tree."""
        if "uid" not in kwargs or "session_id" not in kwargs:
            raise ValueError("a prompt without uid and session_id: TreeAgentLoop is for trainer.use_v1=True")
        uid, session = str(kwargs["uid"]), int(kwargs["session_id"])
        began = time.monotonic()
        service, facts = await self._service_for(sampling_params, session)
        name = (service, uid)
        order, taken = _orders.get(name, (None, ()))
        if order is None or session in taken or (order.done() and (order.cancelled() or order.exception())):
            done = [name for name, (order, _) in _orders.items() if order.done()]
            for old in done[: max(0, len(done) - KEPT_ORDERS)]:
                del _orders[old]
            _orders[name] = asyncio.ensure_future(self._tree(service, facts, uid, kwargs)), set()
        order, taken = _orders[name]
        taken.add(session)
        # A session that is cancelled takes the tree from nobody else.
        told = (await asyncio.shield(order))["trajectories"][session]
        if len(taken) == facts["k"]:
            _orders.pop(name, None)
        # Of a trajectory that a missing tool ended nothing is learned: it has no sampled token.
        counts = told["counts"]
        reward = told["reward"] if counts else 0.0
        return AgentLoopOutput(
            prompt_ids=told["prompt_ids"],
            response_ids=told["response_ids"],
            response_mask=told["response_mask"] if counts else [0] * len(told["response_ids"]),
            response_logprobs=told["logprobs"],
            reward_score=reward,
            num_turns=1 + told["n_turns"] + told["n_calls"],
            metrics=AgentLoopMetrics(generate_sequences=time.monotonic() - began),
            extra_fields={
                # No weights change while a synchronous trainer samples.
                "min_global_steps": kwargs.get("global_steps"),
                "max_global_steps": kwargs.get("global_steps"),
                "path": told["path"],
                "spans": told["spans"],
                "stop": told["stop"],
                **({} if reward is None else {"reward_extra_info": {"acc": told["accuracy"] or 0.0}}),
            },
        )
