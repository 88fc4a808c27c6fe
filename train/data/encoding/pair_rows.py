"""Rows of two answers to one prompt: tokens, or text and image files, and the labels of safe-DPO. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..formats import images
from ..formats.safety import SafePreference, safe_preference
from ..formats.turns import FormatError, Record, Tools, Turns
from . import vision
from .tokens import Encoded, Row, Tokens, encode_answers

#: The responses of a safe-DPO record.
SIDES = ("a", "b")
#: Columns that a row with images has for each side, beside those of tokens.
IMAGE_COLUMNS = ("prompt", "answer", "answer_length")
_ORDER: dict[int | None, int] = {0: 1, 1: -1, None: 0}
#: The label of a response that is safe, not safe, not judged.
SIGN: dict[bool | None, int] = {True: 1, False: -1, None: 0}
#: From a record, its prompt, its two responses by side, and the tools that they may call, to a row.
EncodePair = Callable[[Record, Turns, dict[str, Turns], Tools], Encoded]


def encode_pair(
    tokenizer: Any, args: Any, prompt: Turns, answers: dict[str, Turns], tools: Tools | None = None
) -> Encoded:
    """Tokenise two answers, keyed by side, after their prompt. A prompt is cut at its start, an answer at its end.

    The row holds `{side}_input_ids`, `{side}_prompt_length` (in tokens), and `{side}_learnt`: for each token whether it
    is the assistant's. No row if nothing is left of an answer.
    """
    row: Row = {}
    cut = empty = False
    for side, tokens in zip(answers, encode_answers(tokenizer, prompt, [*answers.values()], tools), strict=True):
        kept = _shorten(tokens, args.max_prompt_length, args.max_length)
        cut |= len(kept.ids) < len(tokens.ids)
        if any(kept.learnt[1:]):  # the first token is never predicted
            row |= {
                f"{side}_input_ids": kept.ids,
                f"{side}_prompt_length": kept.learnt.index(True),
                f"{side}_learnt": kept.learnt,
            }
        else:
            empty = True
    if empty:
        return Encoded([], cut, f"nothing of an answer within max_length {args.max_length}")
    return Encoded([row], cut)


def _shorten(tokens: Tokens, max_prompt_length: int | None, max_length: int | None) -> Tokens:
    start = tokens.learnt.index(True) if any(tokens.learnt) else len(tokens.ids)
    skip = max(0, start - max_prompt_length) if max_prompt_length is not None else 0
    return Tokens(tokens.ids[skip:][:max_length], tokens.learnt[skip:][:max_length])


def encode_image_pair(
    processor: Any, args: Any, record: Record, prompt: Turns, answers: dict[str, Turns], tools: Tools
) -> Encoded:
    """Render two answers, keyed by side, after their prompt; `{side}_answer_length` is in tokens.

    The collator truncates an answer at its end. A prompt with images is never truncated: no row if it is longer than
    `max_prompt_length`, or leaves nothing of `max_length` for an answer.
    """
    turns = {side: vision.conversation(record, prompt, answer) for side, answer in answers.items()}
    start = len(prompt)
    parts = {side: vision.rendered(processor, found, start, record["images"], tools) for side, found in turns.items()}
    words = {side: images.without(found) for side, found in turns.items()}
    asked = next(iter(words.values()))[:start]
    text = encode_pair(processor, args, asked, {side: found[start:] for side, found in words.items()}, tools)
    row: Row = {"images": record["images"]}
    for side, part in parts.items():
        row |= {
            f"{side}_prompt": part.prompt,
            f"{side}_answer": part.text.removeprefix(part.prompt),
            f"{side}_answer_length": part.length - part.prompt_length,
        }
    kept = all(_fits(part, args) for part in parts.values())
    cut = args.max_length is not None and any(part.length > args.max_length for part in parts.values())
    if not kept:
        return Encoded([], cut, "a prompt with images is never cut: it fills max_length or max_prompt_length")
    return Encoded([row | found for found in text.rows], cut, text.why)


def _fits(part: vision.Rendered, args: Any) -> bool:
    longest = part.length if args.max_length is None else min(part.length, args.max_length)
    return part.prompt_length < longest and (
        args.max_prompt_length is None or part.prompt_length <= args.max_prompt_length
    )


def labelled(args: Any, encode: EncodePair) -> Callable[[Record], Encoded]:
    """The encoder of safe-DPO pairs, which adds the labels to the rows of `encode`.

    better, safer: 1 for response a, -1 for b, 0 not judged. a_safe, b_safe: 1 safe, -1 not safe, 0 not judged. The
    objective safedpo drops pairs of two unsafe responses here.
    """

    def encode_record(record: Record) -> Encoded:
        found = safe_preference(record)
        _require_labels(args.objective, found)
        if args.objective == "safedpo" and not any(found.safe):
            return Encoded([], why="both responses unsafe, which objective safedpo leaves out")
        encoded = encode(record, found.prompt, {"a": found.response_a, "b": found.response_b}, found.tools)
        labels: Row = {"better": _ORDER[found.better], "safer": _ORDER[found.safer], "category": found.category or ""}
        labels |= {f"{side}_safe": SIGN[safe] for side, safe in zip(SIDES, found.safe, strict=True)}
        return Encoded([row | labels for row in encoded.rows], encoded.truncated, encoded.why)

    return encode_record


def _require_labels(objective: str, found: SafePreference) -> None:
    if objective == "lagrangian":
        if found.better is None and found.safer is None:
            raise FormatError("objective lagrangian: no label says which response is the more helpful or the safer one")
        return
    if found.better is None:
        raise FormatError(
            f"objective {objective} orders pairs by helpfulness, but no label says which response is the more helpful"
        )
    if objective in ("safedpo", "bfpo") and None in found.safe:
        raise FormatError(f"objective {objective} needs a safety label for each response, and one has none")
