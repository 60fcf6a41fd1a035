"""A LoRA adapter as PEFT writes it, what the model gives with it, and its matrices after one AdamW step.

    python make_lora.py          # torch 2.15, transformers 5.23, peft 0.21

Reads qwen2_padded/ (made by make.py) and writes qwen2_padded/adapter/: adapter_config.json and
adapter_model.safetensors by PEFT's save_pretrained, and expected.safetensors with

- logprobs [n - 1]: of each token but the first of qwen2_padded/expected.safetensors, given those before it;
- after.<name>: each matrix after one step of torch.optim.AdamW on their negative mean.
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

here = Path(__file__).parent / "qwen2_padded"
to = here / "adapter"


def main() -> None:
    torch.manual_seed(3)
    tokens = load_file(here / "expected.safetensors")["tokens"].long()
    base = AutoModelForCausalLM.from_pretrained(here, dtype=torch.float32, attn_implementation="eager")
    targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", lora_dropout=0.0)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0.0, 0.05)
    model.peft_config["default"].base_model_name_or_path = here.name
    model.save_pretrained(to)
    (to / "README.md").unlink(missing_ok=True)

    def logprobs() -> torch.Tensor:
        logits = model(input_ids=tokens[None]).logits[0, :-1]
        return torch.log_softmax(logits, -1).gather(1, tokens[1:, None])[:, 0]

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    before = logprobs()
    (-before.mean()).backward()
    optimizer.step()
    expected = {"logprobs": before.detach().contiguous()}
    for name, p in model.named_parameters():
        if p.requires_grad:
            expected["after." + name.replace(".default", "")] = p.detach().contiguous()
    save_file(expected, to / "expected.safetensors")


main()
