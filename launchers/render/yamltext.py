"""Values written as YAML that every reader takes for the same: PyYAML here, Go's YAML 1.1 in kubectl."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

#: Line breaks to YAML, and what no YAML file may hold as it is.
_SPECIAL = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
#: Text that a literal block returns unchanged: plain lines, the first of which is not indented, and one line break at
#: the end.
_PLAIN_LINES = re.compile(r"[^\s\x00-\x1f\ud800-\udfff][^\x00-\x09\x0b-\x1f\ud800-\udfff]*(?<!\n)\n")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_TRUTHS = {*"y n yes no on off true false null".split()}


def flow(value: Any) -> str:
    """`value` on one line, as JSON: every string is quoted, so none is taken for a number or a truth."""
    return _SPECIAL.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def block(text: str, indent: int) -> str:
    """`text` as a literal block, whose lines a person can read and compare; quoted where a block would change it."""
    if _SPECIAL.search(text) or not _PLAIN_LINES.fullmatch(text):
        return flow(text)
    return "|\n" + re.sub(r"^(?=.)", " " * indent, text, flags=re.MULTILINE).rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Quotes all but plain words: PyYAML leaves 1e3 bare, which is a number to Go."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    bare = _WORD.fullmatch(text) and text.lower() not in _TRUTHS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if bare else '"')


_Dumper.add_representer(str, _text)


def document(value: Any) -> str:
    """`value` as a YAML document of several lines."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20)
    return text
