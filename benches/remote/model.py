"""Writes a tiny random Qwen3 model with a vocabulary of 61 words, for conformance with servers."""

import sys

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

out = sys.argv[1]
torch.manual_seed(0)
config = Qwen3Config(
    vocab_size=61,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=512,
    tie_word_embeddings=True,
)
model = Qwen3ForCausalLM(config).to(torch.float32)
model.save_pretrained(out)
words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(61)}, unk_token="w0"))
PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w0").save_pretrained(out)
