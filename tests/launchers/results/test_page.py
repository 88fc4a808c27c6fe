"""`alignlaunch report`: one page, which shows what it says in a real browser, and asks nobody for anything."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignlaunch.launchers.results import figures, gather
from tests.conftest import Cli
from tests.support import browser, results
from tests.support.browser import Page
from tests.support.results import line

HOSTILE = "</script><script>document.title='taken'</script><b onclick=x>'\"&amp;"
RUNS = ("first", "second")
#: What the page draws, without the parts that are only looked at.
DRAWN = "[...document.querySelectorAll('.plot')].every(one => one.querySelector('.modebar-btn'))"


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser.browser(browser.require()) as page:
        yield page


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs, of which the second has hostile names, a peak, and answers."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        results.write(folder, "first", results.curve(300, every=50), train={"learning_rate": 1e-5})
        odd = [line(step, 300, **{"loss": 99.0 if step == 123 else 1.0, HOSTILE: step / 300}) for step in range(1, 301)]
        odd.append(line(300, 300, grad_norm=math.nan))
        run = results.write(
            folder, "second", odd, train={"learning_rate": 2e-5}, model=HOSTILE, data={"train": [HOSTILE]}
        )
        output = Path(run.output_dir)
        (output / "safety_eval.json").write_text(json.dumps({"safe_rate": {"trained": 0.75, "start": 0.5}}))
        answer = {"prompt": HOSTILE, "answers": {"start": "before", "trained": HOSTILE}, "helpful": {"trained": 1.5}}
        (output / "safety_answers.jsonl").write_text(json.dumps(answer) + "\nnonsense\n")
        Path(run.run_dir, "run.json").write_text(
            json.dumps({"git_commit": HOSTILE, "command_line": "\x00\ud800" + HOSTILE})
        )
        command = [sys.executable, "-m", "alignlaunch.launchers.cli", "report", *RUNS]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == "report.html\n", done.stderr
    return folder / "report.html"


def shown(tab: Page, page: Path, width: int = 1280, *, dark: bool = False, touch: bool = False) -> None:
    tab.requests.clear()
    tab.errors.clear()
    tab.look(width, 4000, dark=dark, touch=touch)
    tab.open(page)
    tab.until(DRAWN)


def test_it_draws_every_curve_asks_nobody_and_logs_no_error(tab: Page, written: Path) -> None:
    shown(tab, written)
    assert {address.partition("?")[0] for address in tab.requests} == {written.as_uri()}
    assert tab.errors == []
    captions = tab.run("[...document.querySelectorAll('figcaption')].map(one => one.textContent)")
    expected = ["loss", "eval_loss", "grad_norm", "learning_rate", HOSTILE]
    assert captions == [*expected, "tokens_per_second", "samples_per_second", "memory_peak_gib"]
    drawn = tab.run(
        "[...document.querySelectorAll('.plot')].map(one => one.querySelectorAll('.scatterlayer .trace').length)"
    )
    assert drawn == [2, 1, 1, 1, 1, 1, 1, 1]


def test_what_a_run_wrote_is_text(tab: Page, written: Path) -> None:
    shown(tab, written)
    assert tab.run("document.title") == "first, second: alignlaunch report"
    assert tab.run("document.querySelectorAll('main b[onclick], main script').length") == 0
    assert HOSTILE in tab.run("document.querySelector('main').textContent")
    assert written.read_text().count("</script>") == 3


def test_it_offers_nothing_that_would_send_the_data_away(tab: Page, written: Path) -> None:
    shown(tab, written)
    titles = set(tab.run("[...document.querySelectorAll('.modebar-btn')].map(one => one.dataset.title)"))
    assert titles == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}
    assert tab.run("fetch('https://example.org').then(() => 'sent', () => 'refused')") == "refused"
    assert tab.run("document.querySelectorAll('a[href], link, img[src]').length") == 0


def test_a_mouse_zooms_and_tells_values(tab: Page, written: Path) -> None:
    shown(tab, written)
    box = tab.run("document.querySelector('.nsewdrag').getBoundingClientRect().toJSON()")
    middle = box["y"] + box["height"] / 2
    tab.mouse("mouseMoved", box["x"] + box["width"] / 2, middle)
    tab.mouse("mouseMoved", box["x"] + 0.4 * box["width"], box["y"] + 4)
    tab.until("document.querySelector('.hoverlayer .hovertext')")
    assert "step" in tab.run("document.querySelector('.hoverlayer').textContent")
    before = tab.run("document.querySelector('.plot').layout.xaxis.range")
    tab.mouse("mousePressed", box["x"] + 0.25 * box["width"], middle, button="left", clickCount=1)
    for share in (0.3, 0.4, 0.5):
        tab.mouse("mouseMoved", box["x"] + share * box["width"], middle, button="left")
    tab.mouse("mouseReleased", box["x"] + 0.5 * box["width"], middle, button="left", clickCount=1)
    tab.until(f"document.querySelector('.plot').layout.xaxis.range[1] < {before[1]}")


def test_the_legend_hides_a_run_in_every_figure(tab: Page, written: Path) -> None:
    shown(tab, written)
    visible = "document.querySelector('.plot').querySelectorAll('.scatterlayer .trace').length"
    assert tab.run("[...document.querySelectorAll('#legend button')].map(one => one.textContent)") == [*RUNS]
    tab.run("document.querySelector('#legend button').click()")
    tab.until(f"{visible} === 1")
    assert tab.run("document.querySelector('#legend button').getAttribute('aria-pressed')") == "false"
    tab.run("document.querySelector('#legend button').click()")
    tab.until(f"{visible} === 2")


def test_a_click_on_a_column_sorts(tab: Page, written: Path) -> None:
    shown(tab, written)
    first = "document.querySelector('.sorts tbody td').textContent"
    head = "[...document.querySelectorAll('.sorts th')].find(one => one.textContent === 'train.learning_rate').click()"
    assert tab.run(first) == "first"
    tab.run(head)
    assert tab.run(first) == "first"
    tab.run(head)
    assert tab.run(first) == "second"


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(tab: Page, written: Path, width: int) -> None:
    shown(tab, written, width, touch=width < 600)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run(
        "[...document.querySelectorAll('.main-svg')].every(one => one.getBoundingClientRect().right <= innerWidth)"
    )


def test_light_and_dark(tab: Page, written: Path) -> None:
    """The colours of the page and of its figures, also when they change while it is open."""
    ink = "getComputedStyle(document.body).color"
    figure = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    shown(tab, written)
    light = tab.run(ink)
    assert tab.run(figure) == light
    tab.look(1280, 4000, dark=True)
    tab.until(f"{ink} !== '{light}' && {figure} === {ink}")


def test_what_is_missing_is_said(written: Path, tab: Page) -> None:
    shown(tab, written)
    assert "grad_norm is no number in 1 of 1 records" in tab.run("document.querySelector('.notes').textContent")


def test_safety_answers_and_data(tab: Page, written: Path) -> None:
    shown(tab, written)
    headings = tab.run("[...document.querySelectorAll('h2')].map(one => one.textContent)")
    sections = ["Attempts and goodput", "Configuration", "Data", "Safety evaluation", "Answers", "Provenance"]
    assert headings == ["To know", "Comparison", "Curves", *sections]
    told = tab.run("document.querySelector('main').textContent")
    for words in ("safe_rate/trained", "0.75", "helpful trained 1.5", "goodput 84.2 %"):
        assert words in told


def test_without_a_browser_these_tests_are_skipped_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "_PROGRAMS", ())
    monkeypatch.setenv("ALIGNLAUNCH_REQUIRE", "slurm")
    with pytest.raises(pytest.skip.Exception, match="chromium is not installed"):
        browser.require()
    monkeypatch.setenv("ALIGNLAUNCH_REQUIRE", "slurm,browser")
    with pytest.raises(pytest.fail.Exception, match="chromium is not installed"):
        browser.require()


def test_long_curves_keep_their_peak_in_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(figures, "_MOST_POINTS", 400)
    lines = [line(step, 9000, loss=77.0 if step == 4321 else 1 + step % 5, lr=0.1) for step in range(1, 9001)]
    found = gather.read([results.write(tmp_path, "long", lines)])
    drawn = figures.of(found)
    _, steps, values = drawn[0]["curves"][0]
    assert figures.is_thinned(found, drawn)
    assert len(values) == len(steps) <= figures.most_points(drawn) <= 200
    assert sum(steps[: values.index(77.0) + 1]) == 4321


def test_without_plotly_it_says_what_to_install(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/metrics.jsonl").write_text(line(1, 1, loss=1.0) + "\n")
    (tmp_path / "plotly").mkdir()
    (tmp_path / "plotly/__init__.py").write_text("raise ImportError('not here')")
    done = cli("report", "out")
    assert done.returncode == 2
    assert "pip install 'alignlaunch[report]'" in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_run_that_shows_nothing_has_a_page_all_the_same(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = cli("report", "out", "-o", "page.html")
    assert (done.returncode, done.stdout) == (0, "page.html\n")
    assert "No such file or directory" in done.stderr
    assert "No such file or directory" in (tmp_path / "page.html").read_text()


def test_a_page_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = cli("report", "out", "-o", "nowhere/page.html")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
