"""Write values as YAML that PyYAML and kubectl's YAML 1.1 parser (Go) read identically."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

#: Characters that are line breaks in YAML, or must be escaped in a YAML file.
_SPECIAL = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
#: Text that survives a literal block (`|`) unchanged: plain lines, the first not indented, with one line break at the
#: end.
_PLAIN_LINES = re.compile(r"[^\s\x00-\x1f\ud800-\udfff][^\x00-\x09\x0b-\x1f\ud800-\udfff]*(?<!\n)\n")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_TRUTHS = {*"y n yes no on off true false null".split()}


def flow(value: Any) -> str:
    """`value` as JSON on one line: every string is quoted, so that none is read as a number or a bool."""
    return _SPECIAL.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def block(text: str, indent: int) -> str:
    """`text` as a literal block (`|`), readable and with useful diffs; quoted if a block would change it."""
    if _SPECIAL.search(text) or not _PLAIN_LINES.fullmatch(text):
        return flow(text)
    return "|\n" + re.sub(r"^(?=.)", " " * indent, text, flags=re.MULTILINE).rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Quotes everything but plain words: PyYAML leaves 1e3 unquoted, which Go reads as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    bare = _WORD.fullmatch(text) and text.lower() not in _TRUTHS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if bare else '"')


_Dumper.add_representer(str, _text)


def document(value: Any) -> str:
    """`value` as a YAML document in block style."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20)
    return text
