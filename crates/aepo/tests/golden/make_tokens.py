"""Which ids do fast tokenizers in the manner of Qwen, Llama 3 and SmolLM2 give? Writes tokenizers/*.json, tokens.json.

Run with `python make_tokens.py`; needs transformers (made with 5.23.0, tokenizers 0.23.3). The vocabularies are
learned here from the strings below. The patterns are the published ones, which are facts of those formats.
"""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
SHAPE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
CORPUS = [
    "The capital of Algeria is Algiers; its area is 2381740 sq km.", "  leading, trailing  \n\n\tand tabs\r\n",
    "次の質問 東京 São Paulo é e\u0301 naïve", "It's what they'll do, I'm sure. WE'LL SEE.", "def f(x):\n    return x ** 2\n",
    '{"name": "look_up", "arguments": {"query": "x"}}', "<tool_call> </tool_call> <think> im_start im_end", "🏔️🙏 1,234.5",
] * 20
TEXTS = CORPUS[:8] + [
    "", " ", "  ", "\n", "\r\n", "\r\n\r\n x", "a\u00a0b\u3000c", "\u1e9b\u0323 ﬁ Å \u212b", "x" * 300, "7" * 25, " " * 40,
    "'S 's 'LL don't", "\u0000\u0001\u007f\u0085", "\U0010ffff\ufeff", "a\u200db 👩‍👩‍👧", "ÀÉÎ \u0928\u092e\u0938\u094d\u0924\u0947 สวัสดี \u0645\u0631\u062d\u0628\u0627",
    "<|im_start", "im_end|>", "<tool", "ǅ ß İ ı", "½ ² Ⅷ ٣", "_ __a__ $x^2$ \\boxed{3}",
]
RENDERED = [
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n", "<|im_start|><|im_end|><|im_end|>", " <think>\n x</think> ",
    "<tool_call>\n{\"name\": \"f\"}\n</tool_call><|im_end|>\n", "<<think>>", "a<think>b</think>c", "<|im_start|> é e\u0301<|im_end|>",
    "<search> q </search>", "<|im_start|im_start|>", "<thin<think>k>",
]
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>"]


def build(kind):
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "smol")
    if kind == "smol":
        steps = [pre_tokenizers.Digits(individual_digits=True), byte_level]
    else:
        shape = SHAPE.replace("DIGITS", "{1,3}" if kind == "llama" else "")
        steps = [pre_tokenizers.Split(Regex(shape), "isolated"), byte_level]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    # Published vocabularies of this kind lack bytes, and name a special token for what is unknown.
    lacking = {"ÿ", "õ", "ö", "ñ"} if kind == "smol" else set()
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - lacking)
    specials = ADDED if kind == "smol" else []
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if kind == "smol":
        state = json.loads(tokenizer.to_str())
        state["model"]["unk_token"] = ADDED[0]
        tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(ADDED)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in PLAIN])
    # As users add them: found in the normalised text.
    tokenizer.add_tokens([AddedToken(text, normalized=True, special=False) for text in ["<search>", "</search>"]])
    return tokenizer


def main():
    (HERE / "tokenizers").mkdir(exist_ok=True)
    document = {"texts": TEXTS, "rendered": RENDERED, "ids": {}}
    for kind in ["qwen", "llama", "smol"]:
        path = HERE / "tokenizers" / f"{kind}.json"
        path.write_text(build(kind).to_str() + "\n")
        fast = PreTrainedTokenizerFast(tokenizer_file=str(path))
        ids = lambda text: fast.encode(text, add_special_tokens=False)
        document["ids"][kind] = {"texts": [ids(t) for t in TEXTS], "rendered": [ids(t) for t in RENDERED],
                                 "decoded": [fast.decode(ids(t), clean_up_tokenization_spaces=False) for t in TEXTS]}
    (HERE / "tokens.json").write_text(json.dumps(document, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
