"""How long is a step of GRPO in TRL? `GRPOTrainer` on the CPU, doing as many trajectories and tokens as ours.

What is in a round: one batch of completions, the log-probabilities of the weights that sampled them, and an optimiser
step for each minibatch, which is what a training step of ours is. There are no tools: the prompt holds what tools would
have answered, so that every trajectory has as many tokens in all, and as many sampled ones, as ours on average. All
completions have that one length, so nothing is lost to padding; memory is not traded for time by checkpointing.
"""

import json
import sys
import time

import common

p = common.parser()
p.add_argument("--tasks", type=int, required=True, help="questions of a step")
p.add_argument("--group", type=int, required=True, help="trajectories of a question")
p.add_argument("--minibatches", type=int, required=True, help="optimiser steps of a step")
p.add_argument("--prompt", type=int, required=True, help="tokens of each prompt")
p.add_argument("--completion", type=int, required=True, help="tokens of each completion")
args = p.parse_args()
out = common.quiet_stdout()
common.limit_threads(args.threads)

import tempfile  # noqa: E402

import torch  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(args.weights, dtype=torch.float32, attn_implementation="sdpa")
vocab = model.config.vocab_size

# A word for each id, so that a prompt has exactly the tokens that it is to have.
words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w2", unk_token="w0")


def prompt(i):
    return " ".join(f"w{3 + common.token(i * args.prompt + j, vocab - 3)}" for j in range(args.prompt))


def reward(completions, **_):
    """Differs within every group, so that every group has something to teach."""
    return [float(i % 2) for i in range(len(completions))]


n = args.tasks * args.group
if n % args.minibatches:
    sys.exit("the trajectories of a step must be divisible by its minibatches")


class Rounds(TrainerCallback):
    """Waits for `go` before each step of ours, and tells how long it took."""

    n_done = 0
    start = 0.0

    def on_step_begin(self, _args, state, _control, **_):
        if state.global_step % args.minibatches:
            return
        if self.n_done == args.warm_up:
            print("ready", file=out, flush=True)
        if self.n_done >= args.warm_up and sys.stdin.readline().strip() != "go":
            raise SystemExit(0)
        self.start = time.perf_counter()

    def on_step_end(self, _args, state, _control, **_):
        if state.global_step % args.minibatches:
            return
        secs = time.perf_counter() - self.start
        self.n_done += 1
        if self.n_done <= args.warm_up:
            return
        detail = {"trl": trl.__version__, "torch": torch.__version__, "tokens": n * (args.prompt + args.completion),
                  "sampled_tokens": n * args.completion}
        print(json.dumps({"secs": secs, "peak_rss_mib": common.peak_rss_mib(), "detail": detail}), file=out, flush=True)


with tempfile.TemporaryDirectory() as folder:
    config = trl.GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=args.precision == "bf16",
        gradient_checkpointing=False,
        per_device_train_batch_size=n // args.minibatches,
        gradient_accumulation_steps=1,
        generation_batch_size=n,
        num_generations=args.group,
        num_iterations=1,
        max_completion_length=args.completion,
        generation_kwargs={"min_new_tokens": args.completion},
        temperature=1.0,
        beta=0.0,
        learning_rate=1e-12,
        lr_scheduler_type="constant",
        max_steps=args.minibatches * 1000,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        seed=0,
    )
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": [prompt(i) for i in range(args.tasks)]}),
        processing_class=tokenizer,
        callbacks=[Rounds()],
    )
    trainer.train()
