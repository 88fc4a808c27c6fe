"""Every command that looks at runs, tried on a sweep of six points that have ended."""

from __future__ import annotations

import json
from pathlib import Path

from .command import Command
from .every_json import hold


def look(user: Command, folder: Path, name: str, outputs: bool) -> None:
    """name: the sweep's. outputs: whether this machine sees what its runs wrote."""
    found = json.loads(user.call("status", name, "--json").stdout)
    point = found[0]["handle"]
    assert len(found) == 6
    hold("status", found)
    listed = json.loads(user.call("list", "--name", f"{name}+*", "--json").stdout)
    assert {one["handle"] for one in listed} == {one["handle"] for one in found}
    hold("list", listed)
    described = json.loads(user.call("describe", name, "--json").stdout)
    assert len(described) == 6
    hold("describe", described)
    assert json.loads(user.call("describe", point, "--json").stdout)[0]["point"] in found[0]["name"]
    log = user.call("logs", point, "--json").stdout.splitlines()
    assert log
    for line in log:
        hold("logs", json.loads(line))
    diagnosed = json.loads(user.call("diagnose", name, "--json").stdout)
    assert [one["handle"] for one in diagnosed] == [one["handle"] for one in found]
    hold("diagnose", diagnosed)
    if not outputs:
        return
    compared = json.loads(user.call("compare", name, "--json").stdout)
    assert len(compared) == 6
    hold("compare", compared)
    assert "train.learning_rate" in user.call("compare", name, "--csv").stdout
    page = folder / "report.html"
    user.call("report", name, "-o", str(page))
    assert found[0]["name"] in page.read_text()
    user.call("report", point, "-o", str(folder / "one.html"))
