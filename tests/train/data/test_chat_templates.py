"""What is learnt under the chat templates of today's models: TRL ships them, so that they are the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlaunch.train.data.encoding import answers, chat_template
from alignlaunch.train.data.encoding.answers import Text
from alignlaunch.train.data.encoding.tokens import encode, encode_answers
from alignlaunch.train.data.formats.turns import FormatError, Message, Tools, is_learnt, linked

FOLDER = Path(trl.__file__).parent / "chat_templates"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja"))
TOOLS: Tools = [
    {
        "type": "function",
        "function": {
            "name": "offered_tool",
            "description": "It weighs.",
            "parameters": {
                "type": "object",
                "properties": {"what": {"type": "string", "description": "A thing."}},
                "required": ["what"],
            },
        },
    }
]
#: Templates of models that were made to call tools; whatever a new release of TRL brings beside them must be no fewer.
CALLING = (
    "diffusion_gemma gemma4 gemma4_v5 glm4moe gptoss lfm2_v2 llama3_1 llama3_2 nemotron_3_nano "
    "nemotron_3_super qwen2_5 qwen3 qwen3_5_think qwen3_6 qwen3_instruct_2507 qwen3_vl"
).split()


@pytest.fixture(scope="module")
def tokenizer(workplace: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(workplace / "model", bos_token="<|begin|>")


def use(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def say(kind: str, number: int) -> str:
    return f"{kind}{number:02d}x"


def conversation(rounds: list[str], *, system: bool = False, words: bool = False) -> list[Message]:
    """A round: `a` an answer, `c` a call with its answer and words, `p` two calls at once, `w` given words first."""
    turns: list[Message] = [{"role": "system", "content": say("system", 0)}] if system else []
    for n, kind in enumerate(rounds):
        turns.append({"role": "user", "content": say("user", n)})
        calls = [
            {"type": "function", "function": {"name": "offered_tool", "arguments": {"what": say("called", 2 * n + k)}}}
            for k in range({"c": 1, "p": 2}.get(kind, 0))
        ]
        if calls:
            turns.append({"role": "assistant", "content": say("before", n) if words else "", "tool_calls": calls})
            turns += [{"role": "tool", "content": say("seen", 2 * n + k)} for k in range(len(calls))]
        turns.append({"role": "assistant", "content": say("answer", n)} | ({"weight": 0} if kind == "w" else {}))
    return linked(turns)


def marks(turn: Message) -> list[str]:
    called = [call["function"]["arguments"]["what"] for call in turn.get("tool_calls", ())]
    return [mark for mark in (turn["content"], *called) if mark]


def assert_learnt(texts: list[Text], messages: list[Message], first: int = 0) -> None:
    """All that the assistant says is learnt once, and nothing that others say."""
    learnt = "".join(text.text[a:b] for text in texts for a, b in text.spans)
    for i, turn in enumerate(messages):
        for mark in marks(turn):
            assert learnt.count(mark) == (i >= first and is_learnt(turn)), (mark, learnt)
    for text in texts:
        ends = [0, *(end for span in text.spans for end in span)]
        assert ends == sorted(ends)


@pytest.mark.parametrize("name", NAMES)
def test_the_assistants_words_and_calls_are_learnt_and_nothing_else(tokenizer: Any, name: str) -> None:
    use(tokenizer, name)
    plain = conversation(["a", "w", "a", "a"])
    assert_learnt(answers.conversation(tokenizer, plain, [1, 5, 7]), plain)
    accepted = 0
    for rounds in (["c"], ["a", "c"], ["c", "a", "c", "a"], ["p", "a"]):
        for words in (False, True):
            turns = conversation(rounds, words=words)
            learnt = [i for i, turn in enumerate(turns) if is_learnt(turn)]
            try:
                texts = answers.conversation(tokenizer, turns, learnt, TOOLS)
            except FormatError:
                continue
            assert_learnt(texts, turns)
            assert all("offered_tool" in text.text and "It weighs." in text.text for text in texts)
            last = max(i for i, turn in enumerate(turns) if turn["role"] == "user") + 1
            asked = chat_template.render(tokenizer, turns[:last], TOOLS, ask=True)
            try:
                reply = answers.reply(tokenizer, turns[:last], asked, turns[last:], TOOLS)
            except FormatError as error:  # Gemma 4 moves the words beside a call behind what the tool says
                assert name.startswith("gemma4")
                assert words, error
                continue
            accepted += 1
            assert_learnt([reply], turns, last)
    assert accepted >= (2 if name in CALLING else 0), "this template was made for tools"


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1", "gptoss", "glm4moe", "smolvlm", "gemma4"])
@settings(max_examples=15)
@given(
    rounds=st.lists(st.sampled_from("aacpw"), min_size=1, max_size=6),
    system=st.booleans(),
    words=st.booleans(),
    offers=st.booleans(),
)
def test_any_conversation(
    tokenizer: Any, name: str, rounds: list[str], system: bool, words: bool, offers: bool
) -> None:
    """Also the shorter way by a pattern gives what the longer one does, and the tokens decode to what was marked."""
    use(tokenizer, name)
    turns = conversation(rounds, system=system, words=words)
    learnt = [i for i, turn in enumerate(turns) if is_learnt(turn)]
    tools = TOOLS if offers else None
    try:
        texts = answers.conversation(tokenizer, turns, learnt, tools)
    except FormatError:
        return
    assert_learnt(texts, turns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "_by_pattern", lambda *_: None)
        assert answers.conversation(tokenizer, turns, learnt, tools) == texts
    for tokens, text in zip(encode(tokenizer, [], turns, tools), texts, strict=True):
        assert tokenizer.decode(tokens.ids) == text.text
        said = tokenizer.decode([token for token, mark in zip(tokens.ids, tokens.learnt, strict=True) if mark])
        assert said == "".join(text.text[a:b] for a, b in text.spans)


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "lfm2", "smolvlm", "gemma3"])
def test_a_long_conversation_is_not_rendered_for_each_answer(tokenizer: Any, name: str) -> None:
    use(tokenizer, name)
    turns = conversation(["a"] * 12, system=True)
    renders: list[int] = []
    apply = tokenizer.apply_chat_template

    def counting(talks: list[Any], **options: Any) -> Any:
        renders.extend(map(len, talks))
        return apply(talks, **options)

    chat_template.render(tokenizer, turns)  # the template's own trials are done
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "apply_chat_template", counting)
        (text,) = answers.conversation(tokenizer, turns, [i for i, turn in enumerate(turns) if is_learnt(turn)])
    assert_learnt([text], turns)
    assert sum(renders) < 2 * len(turns)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_training")])
def test_trls_own_marks_are_within_ours(tokenizer: Any, name: str) -> None:
    """TRL's training templates say themselves what is an answer; ours may add the end of the turn, not more."""
    use(tokenizer, name)
    turns = conversation(["a", "a", "a"])
    wanted = chat_template._as_wanted(tokenizer, turns, None)
    found = tokenizer.apply_chat_template(wanted, return_dict=True, return_assistant_tokens_mask=True)
    theirs = [token for token, mark in zip(found["input_ids"], found["assistant_masks"], strict=True) if mark]
    ours = encode(tokenizer, [], turns)
    marked = [token for tokens in ours for token, mark in zip(tokens.ids, tokens.learnt, strict=True) if mark]
    if len(ours) == 1:
        assert ours[0].ids == found["input_ids"]
        their, our = tokenizer.decode(theirs), tokenizer.decode(marked)
        for n in range(3):
            assert their.count(say("answer", n)) == our.count(say("answer", n)) == 1
        assert "user0" not in our


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ m.content }}", "cannot write offered tools"),
        ("{{ m.content }}{{ tools }}{{ m.tool_calls[0].function.name if m.tool_calls }}", "cannot write tool calls"),
        (
            "{{ tools }}{% if m.role != 'tool' %}{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{% endif %}",
            "cannot write the answers of tools.",
        ),
        (
            "{{ tools if loop.first }}{{ m.content }}"
            "{{ m.tool_calls | tojson if m.tool_calls and m.content != 'before00x' }}",
            "leaves out a call of offered_tool",
        ),
        (
            "{{ tools }}{{ m.tool_calls | tojson if m.tool_calls else m.content }}",
            "leaves out what the assistant says \\('before00x'\\)",
        ),
        ("{{ raise_exception('no tools here') if m.role == 'tool' else m.content }}", r"\(no tools here\)"),
    ],
)
def test_a_template_that_cannot_write_tools_is_told(tokenizer: Any, template: str, says: str) -> None:
    tokenizer.chat_template = f"{{% for m in messages %}}<|{{{{ m.role }}}}|>{template}{{% endfor %}}"
    turns = conversation(["c"], words=True)
    with pytest.raises(FormatError, match=says):
        encode(tokenizer, [], turns, TOOLS)
    with pytest.raises(FormatError, match=says):
        encode_answers(tokenizer, turns[:1], [turns[1:]], TOOLS)


def test_a_template_that_drops_the_system_prompt_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ '' if m.role == 'system' else m.content }}{% endfor %}"
    with pytest.raises(FormatError, match=r"leaves out what the system says \('system00x'\)"):
        encode(tokenizer, [], conversation(["a"], system=True))


@pytest.mark.parametrize("name", ["smolvlm", "idefics3", "llava_next", "qwen2_5_vl", "qwen3_vl", "lfm2_2_5_vl"])
def test_text_alone_on_a_vision_model(tokenizer: Any, name: str) -> None:
    use(tokenizer, name)
    turns = conversation(["a", "a"])
    (text,) = answers.conversation(tokenizer, turns, [1, 3])
    assert all(mark in text.text for turn in turns for mark in marks(turn))
    assert "{'" not in text.text


def test_templates_that_write_the_same_are_the_same(tokenizer: Any, workplace: Path) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(workplace / "model", bos_token="<|begin|>")
    assert chat_template.difference(tokenizer, tokenizer) is None
    for one, two, same in (
        ("qwen2_5", "qwen2_5_training", True),
        ("llama3", "llama3_training", True),
        ("qwen2_5", "qwen3", False),
        ("gemma", "gemma3", False),
        ("llama3", "llama3_1", False),
    ):
        use(tokenizer, one)
        use(other, two)
        assert (chat_template.difference(tokenizer, other) is None) is same, (one, two)
