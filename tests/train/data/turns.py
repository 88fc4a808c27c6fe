"""Turns of conversations in both spellings: OpenAI's {role, content} and ShareGPT's {from, value}."""

from __future__ import annotations

import json

Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
B = {"role": "assistant", "content": "b"}
S = {"role": "system", "content": "s"}
ASK = {"from": "human", "value": "q"}
ANSWER = {"from": "gpt", "value": "a"}
CALL = {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Paris"}})}
SEEN = {"from": "observation", "value": "sunny"}
