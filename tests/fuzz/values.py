"""Strategies of several targets: data of any shape, and real text with faults in it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from tests.support.hostile import HOSTILE

#: What a value is most often taken for, and what lies just beside it.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 20),
    st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**30, 10**400]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            *HOSTILE,
            *("", ".", "..", "/", "/etc/passwd", "../../x", "a\0b", "~", "~root/x", "\x1b[31m", "\ud800", "9" * 5000),
            *("1e999", "nan", "2026-13-45T99:99:99Z", "0x1F", "1:2:3:4", "${a.output}", "--option", "-x", "$(id)"),
        ]
    ),
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def altered(draw: st.DrawFn, base: Any) -> Any:
    """Plain data like `base`, with a few of its values replaced, removed or joined by others."""
    found: Any = [deepcopy(base)]
    for _ in range(draw(st.integers(0, 4))):
        place, key = found, 0
        while place[key] and isinstance(place[key], dict | list) and draw(st.integers(0, 7)):
            place = place[key]
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict) and draw(st.booleans()):
            place[key] |= draw(st.dictionaries(st.text(max_size=4), trees, max_size=2))
        elif place is found or draw(st.integers(0, 3)):
            place[key] = draw(trees)
        else:
            del place[key]
    return found[0]


@st.composite
def damaged(draw: st.DrawFn, bases: list[bytes]) -> bytes:
    """One of the texts, with pieces removed, doubled, moved or replaced; cut short; or bytes of any kind."""
    data = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 6))):
        begin = draw(st.integers(0, max(len(data), 1)))
        end = min(len(data), begin + draw(st.sampled_from([0, 1, 2, 8, 100, 1 << 16])))
        piece = draw(
            st.one_of(
                st.just(b""),
                st.just(bytes(data[begin:end]) * 2),
                st.sampled_from([b"\0", b"\n", b"|", b":", b"=", b",", b"[" * 2000, b"9" * 5000, b"\xff", b"\x1b[2J"]),
                st.sampled_from([b"-1", b"1e999", b"NaN", b"null", b"{}", b"[]", b'"', b"../../x", b"/etc/passwd"]),
                st.binary(max_size=6),
            )
        )
        data[begin:end] = piece
    return bytes(data)
