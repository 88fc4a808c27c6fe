"""A compile that is killed leaves torch's lock behind: the next run compiles, instead of waiting for ever."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from alignlaunch.train.errors import UserError
from alignlaunch.train.processes import compile_lock

FORK = multiprocessing.get_context("fork")  # what the imports take is paid once


def compile_in(folder: Path, compiler: str) -> None:
    os.environ["CXX"] = compiler
    cpp_extension.load(
        "tiny", [str(folder / "tiny.cpp")], build_directory=str(folder / "build"), is_python_module=False
    )


def test_the_lock_of_a_killed_compile_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp_extension, "FileBaton", compile_lock.Baton)
    (tmp_path / "build").mkdir()
    (tmp_path / "tiny.cpp").write_text("int tiny() { return 1; }\n")
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\ncase "$*" in *tiny.cpp*) exec sleep 60;; esac\nexec c++ "$@"\n')
    slow.chmod(0o755)
    killed = FORK.Process(target=compile_in, args=(tmp_path, str(slow)))
    killed.start()
    lock = tmp_path / "build/lock"
    end = time.monotonic() + 120
    while not (lock.exists() and lock.read_text()):
        assert time.monotonic() < end, "it never began"
        time.sleep(0.05)
    killed.kill()
    killed.join()
    assert lock.exists()

    second = FORK.Process(target=compile_in, args=(tmp_path, "c++"))
    second.start()
    second.join(timeout=120)
    assert second.exitcode == 0
    assert (tmp_path / "build/tiny.so").exists()
    assert not lock.exists()


def test_a_long_wait_is_told_and_a_dead_owner_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compile_lock, "PATIENCE", 0.0)
    lock = tmp_path / "lock"
    with subprocess.Popen(["sleep", "1"]) as owner:
        lock.write_text(compile_lock._name(owner.pid))
        baton = compile_lock.Baton(str(lock))
        assert not baton.try_acquire()
        threading.Thread(target=owner.wait).start()  # a child that ended stays in /proc until it is asked for
        with pytest.raises(UserError, match=f"process {owner.pid} on .* died while it compiled"):
            baton.wait()
    assert f"process {owner.pid}" in capsys.readouterr().out


def test_the_lock_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("process 999999999 on elsewhere (pid:[1])")
    assert not compile_lock.Baton(str(lock)).try_acquire()
    assert lock.exists()
