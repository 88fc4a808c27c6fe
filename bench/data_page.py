"""docs/data.md: the formats of every stage, from the readers. `python -m bench.data_page --write docs/data.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from alignlaunch.train.config import Stage
from alignlaunch.train.data import cache
from alignlaunch.train.data.encoding.answers import Text, conversation, plain, reply
from alignlaunch.train.data.encoding.chat_template import render
from alignlaunch.train.data.formats import columns, images, readers
from alignlaunch.train.data.formats.reading import IMAGES, Format, choose
from alignlaunch.train.data.formats.turns import Record, is_learnt

from . import made_page
from .data_samples import REFUSED, SAMPLES

#: One that shows every part and is short; a model's own looks otherwise.
TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>\n{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}"
    "{% endfor %}</{{ m.role }}>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


class MadeUp:
    """The part of a tokenizer that renders conversations."""

    chat_template = TEMPLATE

    def apply_chat_template(
        self, talks: list[list[Any]], *, tokenize: bool, add_generation_prompt: bool, tools: Any = None
    ) -> list[str]:
        """The texts; tokens there are none."""
        del tokenize
        environment = ImmutableSandboxedEnvironment()
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        template = environment.from_string(TEMPLATE)
        given = {"tools": tools, "add_generation_prompt": add_generation_prompt}
        return [template.render(messages=messages, **given) for messages in talks]


TITLES: dict[tuple[Stage, ...], str] = {
    ("pt",): "pt: pretraining",
    ("sft",): "sft: supervised fine-tuning",
    ("rm", "dpo", "orpo"): "rm, dpo, orpo: two answers to one prompt",
    ("safe_dpo",): "safe_dpo: two responses, ordered by helpfulness and by safety",
}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "<!-- Made by `make data-page`. Do not edit. -->"
    yield HEAD
    for (stage, *_), title in TITLES.items():
        yield f"\n## {title}"
        for form in readers.FORMATS[stage]:
            yield f"\n### {', '.join(f'`{name}`' for name in form.needs)}{f' ({form.about})' if form.about else ''}"
            if form.may:
                yield f"\nWith or without {', '.join(f'`{name}`' for name in form.may)}."
            for record in samples(stage, form):
                yield f"\n```json\n{_json(record)}\n```"
                yield f"\nis trained as\n\n```\n{trained(stage, record)}\n```"
    yield TAIL
    for stage, refused in REFUSED.items():
        for record, says in refused:
            yield f"\n`{stage}`: {_error(stage, record, says)}\n\n```json\n{_json(record)}\n```"


def samples(stage: Stage, form: Format[Any]) -> list[Record]:
    """The example records that are read in a format."""
    return [record for record in SAMPLES[stage] if choose(record, readers.FORMATS[stage]) is form]


def _json(record: Record) -> str:
    inner = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in record.items())
    return f"{{{inner}}}"


def _error(stage: Stage, record: Record, says: str) -> str:
    try:
        readers.READERS[stage](record)
    except ValueError as error:
        assert says in str(error)  # noqa: S101 - the page must not say what is not so
        return str(error)
    raise AssertionError(f"{stage}: not refused: {record}")


def trained(stage: Stage, record: Record) -> str:
    """What becomes of a record: what is learnt stands in [[ ]]."""
    found: Any = readers.READERS[stage](record)
    if stage == "pt":
        return f"[[{found}<end of sequence>]]"
    tokenizer = MadeUp()
    if stage == "sft":
        if isinstance(found.prompt, str):
            return _marked(plain(found.prompt, found.completion), end="<end of sequence>")
        messages = [*found.prompt, *found.completion]
        learnt = [i for i in range(len(found.prompt), len(messages)) if is_learnt(messages[i])]
        return "\n".join(_marked(text) for text in conversation(tokenizer, messages, learnt, found.tools))
    _, *answers = found.parts()
    names = ("response_0", "response_1") if stage == "safe_dpo" else ("chosen", "rejected")
    lines = []
    for name, answer in zip(names, answers, strict=True):
        if isinstance(found.prompt, str):
            lines.append(f"{name}: {_marked(plain(found.prompt, answer), end='<end of sequence>')}")
        else:
            asked = render(tokenizer, found.prompt, found.tools, ask=True)
            lines.append(f"{name}: {_marked(reply(tokenizer, found.prompt, asked, answer, found.tools))}")
    return "\n".join(lines)


def _marked(text: Text, end: str = "") -> str:
    marked, at = "", 0
    for begin, stop in text.spans:
        last = stop == len(text.text)
        marked += f"{text.text[at:begin]}[[{text.text[begin:stop].rstrip()}{end if last else ''}]]"
        marked += "\n" if text.text[begin:stop].endswith("\n") and not last else ""
        at = stop
    return (marked + text.text[at:]).rstrip()


HEAD = f"""# Data

A source is a file, a folder (searched recursively) or a hub id: `.json`, `.jsonl` (also `.gz`), `.parquet`, for `pt`
also `.txt`. Every record is read in the first of its stage's formats below that it has; records of several formats may
stand in one source. `alignlaunch data JOB` shows records as they will be trained: their text, which tokens are learnt,
lengths, and what is cut or dropped and why.

**Nothing that carries a meaning is left out without a word.** Where a record's format does not read a column that says
what is asked, the run (or the submission) ends with its name, file and line. Such columns are
{", ".join(f"`{name}`" for name in sorted(columns.MEANING))};
a list of turns under any name; {" and ".join(f"`{name}`" for name in columns.VERDICTS)} where they are true or false.
`data.columns` (accepted name: own name) gives such a column its meaning, `data.ignore_columns: [history]` leaves it
out; both may stand in a source, too. A column that only repeats what is read, as `prompt` beside `messages`, is no
matter. Nor are other columns (`id`, `source`, scores).

- Turns are `{{from, value}}` or `{{role, content}}`, and one list may hold both. `function_call` and `observation` are
  the same as `tool_calls` and role `tool`; `tools` is a list of functions or its JSON text. The chat template renders
  them by its own `tools=`; one that leaves out tools, calls, answers of tools, words or a system prompt is an error.
- The loss is on what the assistant says and calls; an assistant's turn with `weight: 0` (`train: false`, `loss: false`)
  is given and not learnt. (ORPO's likelihood term counts the prompt, too, as TRL's does.)
- Pairs tell a reward model which answer scores higher, and not where 0 is. `safety_labels` of an `rm` record (1 safe,
  -1 unsafe) tell it: a harmless score above 0 is then a safe answer's, as `safe_dpo` takes it (cost, safe rate).
- A prompt that an answer repeats is read once. Where prompt and answers are text there is no chat template.
- Images (stages {", ".join(images.STAGES)}): {" or ".join(f"`{name}`" for name in IMAGES)} beside any conversation,
  paths from the data file's folder. The model must be a vision-language one.
- `data.max_train_samples` and `max_eval_samples` draw by `train.seed`, from every source by its weight, or so that each
  record has the same chance; what is left out is said.
- `train.dataset_num_proc: 8` tokenises in eight processes; the rows are the same bytes with any number. They are kept
  in `data.cache_dir` under a name made of the data's files, the tokenizer, the limits, what the code means and the
  versions of {", ".join(cache.PACKAGES)}. Rows that no job began with for {cache.KEPT_DAYS} days are removed.

What is learnt stands in [[ ]] below, under a made-up chat template."""
TAIL = """
## What is refused

With file and line, before anything is submitted. `data.skip_bad_records: true` leaves such records out, counts them and
lists the first."""


if __name__ == "__main__":
    made_page.main(__doc__, page)
