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


def flow(value: Any) -> str:
    """`value` on one line, as JSON: every string is quoted, so none is taken for a number or a truth."""
    return _SPECIAL.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def block(text: str, indent: int) -> str:
    """`text` as a literal block, whose lines a person can read and compare; quoted where a block would change it."""
    if _SPECIAL.search(text) or not _PLAIN_LINES.fullmatch(text):
        return flow(text)
    return "|\n" + re.sub(r"^(?=.)", " " * indent, text, flags=re.MULTILINE).rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Quotes every string: PyYAML leaves 1e3 bare, which is a number to Go."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def document(value: Any) -> str:
    """`value` as a YAML document of several lines."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1 << 20)
    return text
