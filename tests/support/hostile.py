"""Values that mean something to a shell, YAML or Jinja, and how a job file is written that holds them."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

HOSTILE = [
    "a b",
    " lead and trail ",
    "it's",
    '"double"',
    "'\"'\"'",
    "$HOME ${HOME} $(touch /tmp/evil) `id`",
    "!history !!",
    "line\nbreak\n",
    "\nEND\n",
    "END",
    "a\r\nb",
    "tab\there",
    "-leading --dash",
    "#comment",
    "a#b",
    "{{ jinja }} {% if x %} {# y #}",
    "back\\slash\\",
    "\\n",
    "*?[a]~",
    "a;b&c|d>e<f",
    "héllo 世界 🚀",
    "\u2028\x85\ufeff",
    "%s %d",
    "=",
    "- list",
    "key: value",
    "null",
    "1e3",
    "012",
    "x" * 5000,
]


def as_yaml(data: dict[str, Any]) -> str:
    """JSON, with what YAML would read differently escaped: to YAML some of these are line breaks."""
    text = json.dumps(data, ensure_ascii=False)
    return re.sub("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)


#: What an environment variable can hold, mostly signs that mean something to bash, YAML or Jinja.
texts = st.text(
    st.one_of(
        st.sampled_from(" '\"$`\\\n\r\t#!{}%-*()[];&|<>~=:,ENDa1"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=20,
)
