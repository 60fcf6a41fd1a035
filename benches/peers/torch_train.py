"""How fast is a training step in PyTorch? `transformers`' Llama, its attention by scaled_dot_product_attention, AdamW.

What is in a round: forward, cross-entropy of every target, backward, clipping of the gradient's norm, the optimiser's
fused step. No entropy is computed here, which ours always gives. The head is applied to targets alone.
"""

import time

import common

p = common.parser()
p.add_argument("--compile", action="store_true", help="torch.compile of the model with its loss")
p.add_argument("--sequences", type=int, default=8)
p.add_argument("--len", type=int, default=256)
p.add_argument("--passes", type=int, default=1, help="passes that the sequences are cut into before the optimiser's step")
p.add_argument("--trees", help="the trajectories of this file instead, unrolled")
p.add_argument("--n-trees", type=int, default=1)
args = p.parse_args()
out = common.quiet_stdout()
common.limit_threads(args.threads)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
model = LlamaForCausalLM.from_pretrained(args.weights, dtype=torch.float32, attn_implementation="sdpa")
model.train()
vocab = model.config.vocab_size

if args.trees:
    rows = common.sequences_of_trees(args.trees, args.n_trees, vocab)
else:
    rows = [
        ([common.token(i * args.len + j, vocab) for j in range(args.len)], [True] * args.len)
        for i in range(args.sequences)
    ]
n_targets = sum(sum(targets[1:]) for _, targets in rows)


def a_pass(rows):
    """Token ids, the positions that predict a target as places in the flattened hidden rows, and the targets."""
    longest = max(len(ids) for ids, _ in rows)
    # Padding stands behind a sequence, where causal attention never looks: no mask is needed.
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    wanted = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, (tokens, targets) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        wanted[i, : len(tokens)] = torch.tensor(targets)
    wanted[:, 0] = False
    return ids, (wanted.nonzero() - torch.tensor([0, 1])) @ torch.tensor([longest, 1]), ids[wanted]


each = -(-len(rows) // args.passes)
passes = [a_pass(rows[i : i + each]) for i in range(0, len(rows), each)]


def loss_of(ids, places, labels):
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, places)
    return F.cross_entropy(model.lm_head(hidden).float(), labels, reduction="sum") / n_targets


step_loss = torch.compile(loss_of) if args.compile else loss_of
optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
)


def round_secs():
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    for a in passes:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16"):
            loss = step_loss(*a)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if not torch.isfinite(loss):
        raise ValueError("the loss is not finite")
    return time.perf_counter() - start


common.serve(
    out, args, round_secs, torch=torch.__version__, tokens=sum(len(t) for t, _ in rows),
    padded=sum(ids.numel() for ids, _, _ in passes), targets=n_targets, passes=len(passes),
)
