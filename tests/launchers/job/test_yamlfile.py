"""Whatever bytes a job file holds, reading it gives data with places, or a JobFileError. Nothing else, and soon."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import yamlfile

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD: dict[str, tuple[str, str]] = {
    # case: (text, what the message says, with its place where there is one)
    "empty": ("", r"job\.yaml: the file is empty"),
    "only a comment": ("# nothing\n", "the file is empty"),
    "only a document start": ("---\n", r"job\.yaml:1:1: a map of keys is expected"),
    "a list": ("- a\n", r"job\.yaml:1:1: a map of keys is expected"),
    "a scalar": ("orpo", "a map of keys is expected"),
    "an open bracket": ("a: [1\nb: 2\n", r"job\.yaml:2:2: not YAML"),
    "an open quote": ('a: "b\n', "not YAML"),
    "tabs": ("a:\n\tb: 1\n", r"job\.yaml:2:1: not YAML(.|\n)*spaces, not tabs"),
    "bad indentation": ("a: 1\n  b: 2\n", r"job\.yaml:2:4: not YAML"),
    "duplicate keys": ("a: 1\nb: 2\na: 3\n", r"job\.yaml:3:1: a: given twice; first at job\.yaml:1:1"),
    "duplicate nested keys": ("a: {b: 1, b: 2}\n", r"job\.yaml:1:11: a\.b: given twice"),
    "a map as key": ("{a: 1}: 2\n", r"job\.yaml:1:1: a key must be plain text"),
    "a list as key": ("? [a]\n: 1\n", "a key must be plain text"),
    "control characters": ("a: \x01\n", "not YAML"),
    "NUL": ("a: \0\n", "not YAML"),
    "an escaped NUL": ('a: "x\\0y"\n', r"job\.yaml:1:4: a = .*NUL character"),
    "a lone surrogate": ('a: "\\ud800"\n', "not YAML"),
    "several documents": ("a: 1\n---\nb: 2\n", r"job\.yaml:2:1: not YAML: but found another document"),
    "an unknown alias": ("a: *b\n", r"job\.yaml:1:4: not YAML: found undefined alias"),
    "an anchor bomb": (BOMB, "more than 20000 values after anchors"),
    "a recursive list": ("a: &a [*a]\n", r"nested deeper than 50 levels"),
    "a recursive map": ("a: &a {b: *a}\n", r"nested deeper than 50 levels"),
    "NaN": ("a: .nan\n", r"job\.yaml:1:4: a = '.nan': a finite number is expected"),
    "infinity": ("a: [1, -.inf]\n", r"job\.yaml:1:8: a\[1\] = '-.inf': a finite number is expected"),
    "overflow": ("a: 1e999\n", "a finite number is expected"),
    "51 levels": ("a: " + "[" * 50 + "]" * 50, "nested deeper than 50 levels"),
    "many values": ("a: [" + "1," * 30_000 + "]", "more than 20000 values"),
    # libyaml's composer recurses in C: these ended the interpreter with a segmentation fault.
    "a megabyte of [": ("a: " + "[" * 500_000 + "]" * 500_000, r"job\.yaml:1:\d+: nested deeper than 50 levels"),
    "a megabyte of {": ("{a: " * 200_000 + "}" * 200_000, "nested deeper than 50 levels"),
    "a megabyte of -": ("- " * 500_000, "nested deeper than 50 levels"),
    "a megabyte of ?": ("? " * 500_000, "nested deeper than 50 levels"),
    "a python object": ("a: !!python/object/apply:os.system [id]\n", r"job\.yaml:1:4: .*tags are not allowed"),
    "a python name as a map's tag": ("a: !!python/name:os.system {}\n", "tags are not allowed"),
    "a core tag": ("a: !!int x\n", "tags are not allowed"),
    "a set": ("a: !!set {x}\n", "tags are not allowed"),
    "a local tag": ("!job {a: 1}\n", "tags are not allowed"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_a_job_file_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text, newline="")
    with pytest.raises(JobFileError) as caught:
        yamlfile.read(path)
    message = str(caught.value).replace(f"{tmp_path}/", "")
    assert re.search(said, message), message
    assert "remedy: " in message
    assert len(message) < 2000  # a hostile file does not flood the terminal


def test_all_problems_at_once() -> None:
    with pytest.raises(JobFileError) as caught:
        yamlfile.parse("a: .nan\na: 1\nb: {c: .inf, c: 2}\n", "job.yaml")
    assert [problem.place for problem in caught.value.problems] == [
        f"job.yaml:{at}" for at in ("1:4", "2:1", "3:8", "3:14")
    ]


@pytest.mark.parametrize(
    "content", [b"a: caf\xe9\n", bytes(range(256)), b"\x89PNG\r\n\x1a\n\x00", "a: é".encode("utf-16")]
)
def test_bytes_that_are_not_utf_8(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(JobFileError, match="not UTF-8 text"):
        yamlfile.read(path)


def test_a_file_of_50_mb_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    with path.open("wb") as file:
        file.truncate(50 << 20)
    with pytest.raises(JobFileError, match="more than 1048576 bytes"):
        yamlfile.read(path)


def test_an_endless_device_is_not_read_to_its_end() -> None:
    with pytest.raises(JobFileError, match="more than 1048576 bytes"):
        yamlfile.read(Path("/dev/zero"))


@pytest.mark.parametrize("path", ["absent.yaml", ".", "job.yaml/x", "x" * 5000])
def test_a_path_that_cannot_be_read(job_file: Path, path: str) -> None:
    with pytest.raises(JobFileError, match="cannot be read"):
        yamlfile.read(job_file.parent / path)


SCALARS: list[tuple[str, Any]] = [
    ("2e-5", 2e-5),
    ("1E3", 1000.0),
    (".5", 0.5),
    ("1.", 1.0),
    ("-1", -1),
    ("+1", 1),
    ("010", 10),
    ("0x10", 16),
    ("0o10", 8),
    ("0b1", "0b1"),
    ("1_000", "1_000"),
    ("12:00:00", "12:00:00"),
    ("1:30", "1:30"),
    ("2026-01-02", "2026-01-02"),
    ("no", "no"),
    ("on", "on"),
    ("y", "y"),
    ("True", True),
    ("false", False),
    ("~", None),
    ("", None),
    ("NULL", None),
    ("nan", "nan"),
    ("inf", "inf"),
    ("'2e-5'", "2e-5"),
    ('"true"', "true"),
    ("=", "="),
    ("1" * 101, "1" * 101),  # int() of a long run of digits takes quadratic time, and then refuses
    ("1" * 100, int("1" * 100)),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_are_yaml_1_2(text: str, value: Any) -> None:
    got = yamlfile.parse(f"a: {text}\n", "job.yaml").data["a"]
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize("text", ["12.10", "1e3", "010", "True", ".nan", "0x10", "no"])
def test_variables_keep_the_text_as_written(text: str) -> None:
    assert yamlfile.parse(f"env: {{A: {text}}}\n", "job.yaml").data == {"env": {"A": text}}
    assert yamlfile.parse_value(text, "env.A") == text


def test_line_ends_and_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes("\ufeffa: 1\r\nb:\r\n  - é\r\n".encode())
    document = yamlfile.read(path)
    assert document.data == {"a": 1, "b": ["é"]}
    assert document.place(("b", 0)) == f"{path}:3:5"


def test_places() -> None:
    document = yamlfile.parse("a: 1\nb:\n  c: [x, y]\n", "job.yaml")
    assert document.place(("b", "c", 1)) == "job.yaml:3:10"
    assert document.key_place(("b", "c")) == "job.yaml:3:3"
    assert document.place(("b", "absent", "deep")) == "job.yaml:3:3"  # the map it should stand in
    assert document.place(("absent",)) == "job.yaml:1:1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("2e-5", 2e-5),
        ("", None),
        ("[a, b]", ["a", "b"]),
        ("{r: 8}", {"r": 8}),
        ("a: b", "a: b"),
        ("{{ x }}", "{{ x }}"),
        ("[a", "[a"),
        (".nan", ".nan"),
        ("a\nname: evil", "a\nname: evil"),  # not a second key
    ],
)
def test_values_of_set(text: str, value: Any) -> None:
    assert yamlfile.parse_value(text) == value


#: Mostly signs that mean something in YAML: purely random text is nearly always one plain scalar.
yamlish = st.text(alphabet=st.one_of(st.sampled_from("[]{}:,-?&*!|>'\"%@`#~ \n\tab01.e"), st.characters()), max_size=80)


@given(st.one_of(yamlish, yamlish.map(lambda text: f"a: {text}"), yamlish.map(lambda text: f"a: &a\n  b: {text}")))
def test_arbitrary_text(text: str) -> None:
    try:
        document = yamlfile.parse(text, "job.yaml")
    except JobFileError as error:
        assert all(problem.rule and problem.remedy for problem in error.problems)
    else:
        assert all(re.fullmatch(r"job\.yaml:\d+:\d+", place) for place in document.values.values())
        assert finite(document.data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes-{os.getpid()}.yaml"
    path.write_bytes(content)
    with suppress(JobFileError):
        assert isinstance(yamlfile.read(path).data, dict)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and finite(item) for key, item in value.items())
    if isinstance(value, list):
        return all(finite(item) for item in value)
    return value is None or isinstance(value, str | bool | int) or math.isfinite(value)
