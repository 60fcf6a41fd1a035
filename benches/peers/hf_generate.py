"""How fast does `transformers` generate? Sequences that share a prompt, sampled at temperature 1 from all ids.

The prompt but for its last token is in the cache before the clock starts, read once and repeated for every sequence;
then `generate` is called. With `--stats` a logits processor takes the log-probability of each drawn token and the
entropy of each distribution, as ours gives them.
"""

import copy
import time

import common

p = common.parser()
p.add_argument("--paths", type=int, default=1)
p.add_argument("--prompt", type=int, default=128)
p.add_argument("--tokens", type=int, default=64)
p.add_argument("--static", action="store_true", help="a static cache")
p.add_argument("--compile", action="store_true", help="a static cache and the compiled forward pass")
p.add_argument("--loop", action="store_true", help="a loop over the model written by hand, without `generate`")
p.add_argument("--stats", action="store_true")
p.add_argument("--prefill", action="store_true", help="one forward pass over the prompt instead, and one drawn token")
args = p.parse_args()
out = common.quiet_stdout()
common.limit_threads(args.threads)

import torch  # noqa: E402
from transformers import CompileConfig, DynamicCache, LlamaForCausalLM, StaticCache  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
dtype = torch.float32 if args.precision == "f32" else torch.bfloat16
model = LlamaForCausalLM.from_pretrained(args.weights, dtype=dtype, attn_implementation="sdpa").eval()
prompt = torch.tensor([[common.token(i, model.config.vocab_size) for i in range(args.prompt)]])


class Stats:
    """Entropy of each distribution, and log-probability of the token that was then drawn from it."""

    def __init__(self):
        self.logprobs, self.entropies, self.last = [], [], None

    def __call__(self, input_ids, scores):
        if self.last is not None:
            self.logprobs.append(self.last.gather(1, input_ids[:, -1:]))
        self.last = torch.log_softmax(scores.float(), dim=-1)
        self.entropies.append(-(self.last.exp() * self.last).sum(-1))
        return scores


def prefill_secs():
    start = time.perf_counter()
    logits = model(input_ids=prompt, use_cache=True, logits_to_keep=1).logits[:, -1].float()
    logprobs = torch.log_softmax(logits, dim=-1)
    torch.multinomial(logprobs.exp(), 1)
    (logprobs.exp() * logprobs).sum().item()
    return time.perf_counter() - start


if args.prefill:
    with torch.inference_mode():
        common.serve(out, args, prefill_secs, torch=torch.__version__)
    raise SystemExit

with torch.inference_mode():
    read = DynamicCache(config=model.config)
    model(input_ids=prompt[:, :-1], past_key_values=read, use_cache=True, logits_to_keep=1)
ids = prompt.repeat(args.paths, 1)
kept = StaticCache(config=model.config, max_cache_len=args.prompt + args.tokens) if args.static or args.compile else None
options = dict(
    do_sample=True, temperature=1.0, top_k=0, top_p=1.0, min_new_tokens=args.tokens, max_new_tokens=args.tokens,
    attention_mask=torch.ones_like(ids), pad_token_id=0, eos_token_id=None,
)
if args.compile:
    compiling = CompileConfig(mode="default", fullgraph=False)
    # Without this `generate` compiles on accelerators only.
    compiling._compile_all_devices = True
    options["compile_config"] = compiling
elif kept is not None:
    options["disable_compile"] = True


def filled_cache():
    if kept is None:
        cache = copy.deepcopy(read)
        cache.batch_repeat_interleave(args.paths)
        return cache
    kept.reset()
    for layer, source in zip(kept.layers, read.layers):
        shape = (args.paths, *source.keys.shape[1:])
        layer.update(source.keys.expand(shape), source.values.expand(shape))
    return kept


def loop_secs():
    with torch.inference_mode():
        cache, last = filled_cache(), ids[:, -1:]
        start = time.perf_counter()
        for _ in range(args.tokens):
            logits = model(input_ids=last, past_key_values=cache, use_cache=True).logits[:, -1].float()
            logprobs = torch.log_softmax(logits, dim=-1)
            probabilities = logprobs.exp()
            last = torch.multinomial(probabilities, 1)
            if args.stats:
                logprobs.gather(1, last)
                -(probabilities * logprobs).sum(-1)
        return time.perf_counter() - start


def round_secs():
    # Not inference mode: the compiled forward pass mutates the cache, whose tensors are made outside of it.
    with torch.no_grad():
        cache, stats = filled_cache(), Stats()
        start = time.perf_counter()
        got = model.generate(
            ids, past_key_values=cache, logits_processor=[stats] if args.stats else [], **options
        )
        if args.stats:
            stats.logprobs.append(stats.last.gather(1, got[:, -1:]))
        secs = time.perf_counter() - start
    if got.shape != (args.paths, args.prompt + args.tokens):
        raise ValueError(f"{tuple(got.shape)} tokens instead of {args.paths} x {args.prompt + args.tokens}")
    return secs


common.serve(out, args, loop_secs if args.loop else round_secs, torch=torch.__version__)
