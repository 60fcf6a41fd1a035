"""Does `transformers` compute the same for a real model? Log-probabilities and every 128th logit of SmolLM2-135M-Instruct.

    pip install torch transformers gguf accelerate safetensors
    python make.py SmolLM2-135M-Instruct.Q4_1.gguf     # rewrites expected.safetensors beside this file

`transformers` reads the GGUF file itself, through the `gguf` package, and computes in f32 and, for the size of its own
error, in f64. The test beside this folder reads the same file with the engine.
"""

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
EVERY = 128
TEXT = [
    {"role": "user", "content": "What is the capital of Côte d'Ivoire? 首都は? 🏙️\r\n  Answer in one sentence."},
    {"role": "assistant", "content": "The capital of Côte d'Ivoire is Yamoussoukro."},
    {"role": "user", "content": "And 12345 * 678 =\n"},
]

path = Path(sys.argv[1])
torch.set_grad_enabled(False)
tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
text = tokenizer.apply_chat_template(TEXT, tokenize=False, add_generation_prompt=True)
tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
model = AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
).eval()
logits = model(tokens[None]).logits[0]
exact = model.double()(tokens[None]).logits[0]
logp = torch.log_softmax(logits.double(), -1)[:-1].gather(1, tokens[1:, None])[:, 0]
print(f"torch {torch.__version__}, transformers {transformers.__version__}: {len(tokens)} tokens, {logits.shape[1]} ids")
print(f"f32 against f64 here: largest |logit difference| {(logits - exact).abs().max():.2e}")
save_file(
    {
        "tokens": tokens.to(torch.int32),
        "logits": logits[:, ::EVERY].contiguous(),
        "logprobs": logp.float(),
    },
    HERE / "expected.safetensors",
)
