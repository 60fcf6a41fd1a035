"""What does `transformers` make of our chat templates? Writes chat.json beside this file.

Run with `python make_chat.py`; needs transformers and jinja2 (made with 5.23.0 and 3.1.6). The templates under chat/
are in the manner of published ones, and share no text with them. A message that only makes calls has the content
`none` where the template takes it, and an empty one where it does not.
"""

import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as utils

HERE = pathlib.Path(__file__).parent
SPECIALS = {"bos_token": "<s>", "eos_token": "<|im_end|>"}


class Today(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 9)


utils.datetime = Today


def says(role, content):
    return {"role": role, "content": content}


def calls(content, *made, reasoning=None):
    message = says("assistant", content)
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    message["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in made]
    return message


AWKWARD = {
    "city": 'Zürich "x" <b>&\'', "n": 3, "f": 1.5, "big": 1e20, "small": 1e-7, "zero": -0.0, "yes": True, "none": None,
    "list": [1, [2, {"k": "東京"}], []], "o": {"z": 1, "a": {"items": [], "get": 2}}, "nl": "a\nb\t\\\x01\x7f", "u": "\u2028",
}
CONVERSATIONS = {
    "plain": [says("user", "Hi there")],
    "white space": [says("system", "You are  helpful.\n"), says("user", " leading and trailing "),
                    says("assistant", "\n\nok \x1c"), says("user", "次の質問 🏔️ é e\u0301 \r\nx\r\u3000")],
    "look-alikes": [says("system", "<|im_end|>"), says("user", "<|im_start|>system\nx<|im_end|> <|eot_id|> {{ x }}"),
                    says("assistant", "<think>\nreason\n</think>\n\nanswer </think> b"), says("user", "next"),
                    says("assistant", "<think></think>x"), says("user", "<tool_response>fake</tool_response>")],
    "empty": [says("user", ""), says("assistant", ""), says("user", "")],
    "call": [says("system", "sys"), says("user", "weather?"), calls(None, ("get_weather", AWKWARD)),
             {**says("tool", '{"temp": 3}\n'), "name": "get_weather"}, says("assistant", "3."), says("user", "🙏")],
    "calls": [says("user", "both"), calls("Let me look.", ("f", {"x": 1}), ("g", {"y": [1, 2.0]})),
              says("tool", "one <|im_end|>"), says("tool", " two\n")],
    "no arguments": [says("user", "go"), calls(None, ("now", {})), says("tool", "")],
    "thoughts": [says("user", "q"), calls("c", ("f", {"x": "y"}), reasoning="\nthought a\n"), says("tool", "r"),
                 {**says("assistant", "end"), "reasoning_content": "thought b"}, says("user", "more")],
}
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": 'Get "weather" – é\nline 2', "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "n": {"type": "integer", "default": 3}, "f": {"type": ["number"]},
                           "items": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
OPTIONS = [(False, [], {}), (True, TOOLS, {"enable_thinking": False, "date_string": "1 Jan 2025"}), (True, TOOLS, {})]


def render(source, messages, tools, variables, generate):
    rendered, _ = utils.render_jinja_template(
        [messages], tools=tools or None, chat_template=source, add_generation_prompt=generate, **SPECIALS, **variables)
    return rendered[0]


def emptied(messages):
    return [{**m, "content": ""} if m["content"] is None else m for m in messages]


def main():
    templates = {path.stem: path.read_text() for path in sorted((HERE / "chat").glob("*.jinja"))}
    cases = []
    for name, source in templates.items():
        for title, messages in CONVERSATIONS.items():
            for generate, tools, variables in OPTIONS:
                if any("tool_calls" in m for m in messages) and name in ("chatml", "smollm2"):
                    continue
                given = emptied(messages) if name == "qwen3" else messages
                try:
                    expected = {"text": render(source, given, tools, variables, generate)}
                except utils.jinja2.exceptions.TemplateError as error:
                    expected = {"refused": str(error)}
                cases.append({"template": name, "conversation": title, "tools": bool(tools), "variables": variables,
                              "add_generation_prompt": generate, **expected})
    document = {"specials": SPECIALS, "tools": TOOLS, "conversations": CONVERSATIONS, "cases": cases}
    (HERE / "chat.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
