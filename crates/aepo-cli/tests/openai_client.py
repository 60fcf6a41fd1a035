"""Does OpenAI's own client get from `aepo serve` what it gets elsewhere?

    python3 openai_client.py http://127.0.0.1:8000/v1 quickstart [KEY]

It asks the model inside the program: conversations, tools, streams, log-probabilities, texts, and errors.
"""

import json
import math
import sys

from openai import APIStatusError, AuthenticationError, BadRequestError, NotFoundError, OpenAI

url, model = sys.argv[1:3]
key = sys.argv[3] if len(sys.argv) > 3 else "none"
client = OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)
checks = 0


def check(holds, what):
    global checks
    checks += 1
    if not holds:
        sys.exit(f"failed: {what}")


def refused(error, ask):
    try:
        ask()
    except error as e:
        return e
    sys.exit(f"failed: {error.__name__} was expected")


QUESTION = [{"role": "user", "content": "Find the area of Peru."}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Looks a query up.",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
        },
    }
]


def chat(**more):
    return client.chat.completions.create(**{"model": model, "messages": QUESTION, "temperature": 0, **more})


check([m.id for m in client.models.list().data] == [model], "the list of models")

whole = chat()
check(whole.choices[0].message.role == "assistant" and whole.choices[0].message.content, "a message")
check(whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, "the bill")

# A stream says the same as the whole, and its last part has the bill.
parts = list(chat(stream=True, stream_options={"include_usage": True}))
text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
check(text == whole.choices[0].message.content, f"a stream: {text!r}")
check(parts[-1].usage.completion_tokens == whole.usage.completion_tokens, "the bill of a stream")
check([p.choices[0].finish_reason for p in parts if p.choices][-1] == "stop", "the end of a stream")

# The model calls the tool, is told the result, and answers.
called = chat(tools=TOOLS)
check(called.choices[0].finish_reason == "tool_calls", "a call ends the turn")
call = called.choices[0].message.tool_calls[0]
check(call.function.name == "search" and "Peru" in json.loads(call.function.arguments)["query"], "the call")
result = {"role": "tool", "tool_call_id": call.id, "content": "Peru: its area is 1285216 km2."}
answered = chat(messages=QUESTION + [called.choices[0].message, result], tools=TOOLS)
check("1285216" in answered.choices[0].message.content, answered.choices[0].message.content)
check(answered.usage.prompt_tokens_details.cached_tokens > 15, "the conversation goes on from the cache")
deltas = [p.choices[0].delta for p in chat(tools=TOOLS, stream=True) if p.choices]
calls = [c for d in deltas for c in d.tool_calls or []]
check(len(calls) == 1 and calls[0].function.arguments == call.function.arguments, "a call in a stream")
with client.chat.completions.stream(model=model, messages=QUESTION, tools=TOOLS, temperature=0) as stream:
    final = stream.get_final_completion()
check(final.choices[0].message.tool_calls[0].function.name == "search", "the client's own gathering of a stream")
check(chat(tools=TOOLS, tool_choice="none").choices[0].message.tool_calls is None, "no call where none may be")

# Log-probabilities: of the greedy answer each token is the likeliest.
told = chat(logprobs=True, top_logprobs=5).choices[0].logprobs.content
check(all(len(t.top_logprobs) == 5 and t.token == t.top_logprobs[0].token for t in told), "the likeliest tokens")
check(all(t.logprob == t.top_logprobs[0].logprob <= 0 for t in told), "log-probabilities")
check(sum(math.exp(t.logprob) for t in told[2].top_logprobs) <= 1.0 + 1e-5, "probabilities")
check(bytes(b for t in told for b in t.bytes).decode().startswith(whole.choices[0].message.content), "bytes")

# The same seed says the same, and several answers are several.
one, two = (chat(seed=7, temperature=1.5, n=3, max_tokens=40) for _ in range(2))
check([c.message.content for c in one.choices] == [c.message.content for c in two.choices], "a seed")
check(len({c.message.content for c in one.choices}) > 1, "several answers")

prompt = "<|user|> Find the area of Peru.<|assistant|>"
completion = client.completions.create(model=model, prompt=prompt, max_tokens=5, logprobs=3, echo=True, temperature=0)
logprobs = completion.choices[0].logprobs
check(logprobs.token_logprobs[0] is None and len(logprobs.tokens) == completion.usage.total_tokens, "an echo")
check(all(3 <= len(top) <= 4 for top in logprobs.top_logprobs[1:]), "the likeliest of an echo")
extra = {"return_token_ids": True, "skip_special_tokens": False}
ids = client.completions.create(model=model, prompt=[1, 5], max_tokens=4, extra_body=extra).choices[0]
check(len(ids.token_ids) == 4 and ids.prompt_token_ids == [1, 5], "ids in and out")
streamed = client.completions.create(model=model, prompt=prompt, max_tokens=5, temperature=0, stream=True)
check(completion.choices[0].text.endswith("".join(p.choices[0].text for p in streamed)), "a stream of text")
both = client.completions.create(model=model, prompt=[prompt, "<|user|> ?"], max_tokens=3, stop=["</think>"])
check([c.index for c in both.choices] == [0, 1], "several prompts")

check(refused(BadRequestError, lambda: chat(presence_penalty=1)).param == "presence_penalty", "a refusal names a field")
check(refused(BadRequestError, lambda: chat(tool_choice="required", tools=TOOLS)).param == "tool_choice", "tool_choice")
check(refused(NotFoundError, lambda: chat(model="gpt-9")).code == "model_not_found", "another model")
long = [{"role": "user", "content": "word " * 5000}]
check(refused(BadRequestError, lambda: chat(messages=long)).code == "context_length_exceeded", "a long prompt")
if len(sys.argv) > 3:
    stranger = OpenAI(base_url=url, api_key="another", max_retries=0)
    check(refused(AuthenticationError, stranger.models.list).code == "invalid_api_key", "another key")
check(issubclass(BadRequestError, APIStatusError), "errors are those of the client")
print(f"{checks} checks passed")
