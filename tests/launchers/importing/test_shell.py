"""Bash as it is read, against bash as it runs: `torchrun` prints its words, and both must have the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.importing import shell

#: Whatever the script starts is printed as its words, each ended by a NUL.
PRINTS = "torchrun() { printf '%s\\0' torchrun \"$@\"; }\n"


def ran(script: str, arguments: list[str]) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", PRINTS + script, "train.sh", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    return done.stdout.split("\0")[:-1]


def was_read(script: str, arguments: list[str]) -> list[str]:
    commands = shell.read(script, arguments, name="train.sh").commands
    return [word.text for command in commands if command.words[0].text == "torchrun" for word in command.words]


SCRIPTS = {
    "arguments": ('N=${1:-2}; G=${2}\ntorchrun --nnodes $N --nproc_per_node "$G" ${3:-a b} "${4-x y}"', ["3", "4"]),
    "continued lines": ("torchrun --a 1 \\\n   --b=2 \\\n  x.py\\\n -c", []),
    "quotes": ("""X='a b'; torchrun "$X" $X '$X' "\\$X \\"q\\"" a\\ b $'t\\ty' "" ''"$X"z""", []),
    "arithmetic": (
        "A=3 B=4; C=$((A * B + 1)); torchrun $C $((C % 5)) $(( (A + B) / 2 )) $((0 - 7 / 2)) $((-7 / 2))",
        [],
    ),
    "arrays": ('A=(--x 1 "b c"); A+=(--y $1); torchrun "${A[@]}" ${#A[@]} ${A[2]}', ["7"]),
    "array split": ("A=('a b' c); torchrun ${A[@]}", []),
    "suffixes": ("F=/a/b.tar.gz; torchrun ${F%.gz} ${F%%.*} ${F##*/} ${F#/} ${F/a/z} ${F//./-} ${F,,} ${#F}", []),
    "case": ('case "$1" in 1|2) Z=a;; [3-5]) Z="b c";; *) Z=d;; esac; torchrun "$Z"', ["4"]),
    "case, quoted": ('case "$1" in "*") Z=star;; *) Z=other;; esac; torchrun $Z', ["x"]),
    "if": ("if [ $1 -gt 3 ]; then A=1; elif [[ $1 == 3 ]]; then A=2; else A=3; fi; torchrun $A", ["3"]),
    "else": ('if [ "$1" = x ] && [ -n "$2" ]; then A=1; else A=3; fi; torchrun $A', ["y", "z"]),
    "and, or": ('[ "$1" = 2 ] && A=yes; [ "$1" = 3 ] || B=no; [[ -z $C ]] && C=empty; torchrun $A $B $C', ["2"]),
    "functions": ('f() { local r=${1:-8}; torchrun --r $r "$@" $#; }; f; f 16 "a b"', []),
    "return": ("f() { if [ $1 = 1 ]; then return; fi; torchrun $1; }; f 1; f 2; torchrun 3", []),
    "for": ("for x in 1 $1 '3 4'; do torchrun --x $x; done", ["2"]),
    "getopts by hand": (
        "Z=0\nwhile [[ $# -gt 0 ]]; do\n case $1 in\n --zero) Z=$2; shift 2;;\n --) shift; break;;\n *) shift;;\n"
        " esac\ndone\ntorchrun $Z",
        ["--zero", "3", "x"],
    ),
    "set --": ('set -- a "b c"; torchrun "$@" $2', ["z"]),
    "a command in a variable": ('CMD="torchrun --a 1 \\\n  --b"; $CMD x', []),
    "eval": ('A="torchrun \'a b\'"; eval "$A" c', []),
    "substitutions": (
        'D=$(cd /usr/bin && pwd); torchrun $(dirname /a/b/c) `basename x/y` $(echo a b) "$(echo a b)"',
        [],
    ),
    "default that is assigned": ('torchrun ${X:=5} $X "${Y:+set}" "${X:+set}"', []),
    "pipes and redirections": (
        "mkdir -p /tmp && torchrun a 2>&1 | cat; { torchrun b; } > /dev/stdout; (torchrun c)",
        [],
    ),
    "comments": ("# torchrun no\ntorchrun a # --b\n: torchrun c", []),
    "the name": ('torchrun "$0" $(dirname "$0")', []),
    "here-document": ("cat > /dev/null <<EOF\ntorchrun no\nEOF\ntorchrun yes", []),
    "exit": ("torchrun a; exit 0; torchrun b", []),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_words_are_those_that_bash_passes(name: str) -> None:
    script, arguments = SCRIPTS[name]
    assert was_read(script, arguments) == ran(script, arguments)


_word = st.sampled_from(["a", "--x", "'b c'", '"$A"', "$A", "${B:-d e}", '"${B:-d e}"', "$1", '"$2"', "x$A"])


@given(
    st.lists(_word, max_size=6),
    st.sampled_from(["", "a b", " c ", "d"]),
    st.lists(st.sampled_from(["1", "2 3", ""]), min_size=2),
)
def test_any_of_these_words_too(words: list[str], value: str, arguments: list[str]) -> None:
    script = f"A='{value}'; torchrun {' '.join(words)}"
    assert was_read(script, arguments) == ran(script, arguments)


def test_what_only_the_running_script_knows_is_said() -> None:
    script = shell.read('N=$(hostname); torchrun "$N" ${X} ${1:?how many} "$HOME/x"\nif [ -f y ]; then exit 1; fi', [])
    assert [word.unknown for word in script.commands[-1].words] == [
        (),
        ("$(hostname)",),
        ("${X}",),
        ("${1:?how many}",),
        ("$HOME",),
    ]
    assert script.notes == ["  line 2: `[ -f y ]` is known only when it runs: passed over"]


@pytest.mark.parametrize(
    "script",
    [
        "while [ 1 = 1 ]; do :; done",
        "f() { f; f; }; f\n" * 3,
        "A=aa\n" + "A=$A$A\n" * 40,
        "A=(a a)\n" + 'A+=("${A[@]}")\n' * 40,
    ],
)
def test_a_script_without_end_is_refused(script: str) -> None:
    with pytest.raises(UsageError, match="is this a launch script"):
        shell.read(script, [])


def test_nothing_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    shell.read(f"touch {trace}; X=$(touch {trace}); `touch {trace}`; cat <(touch {trace}); eval 'touch {trace}'", [])
    assert not trace.exists()
