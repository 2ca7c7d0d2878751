# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's pictures are up to date with the code that draws them, and show nothing that no longer exists."""

from __future__ import annotations

import json
import re
import runpy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
IMAGES = CHECKOUT / "docs/images"
# The width of a picture in a README, in pixels.
README, PHONE = 850, 328


@pytest.fixture(scope="module")
def pictures() -> dict[str, Any]:
    """scripts/pictures as a module's names."""
    return runpy.run_path(str(CHECKOUT / "scripts/pictures"))


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((IMAGES / "verification.json").read_text())
    return read


def words(picture: str) -> list[str]:
    """The text in a picture, whatever version of the drawing library has put it there."""
    return re.sub(r"<style.*?</style>|<[^>]*>|&#160;", " ", picture, flags=re.DOTALL).split()


def test_the_architecture_is_up_to_date(pictures: dict[str, Any]) -> None:
    assert (IMAGES / "architecture.svg").read_text() == pictures["architecture"](), "run: make pictures"


def test_the_tables_are_drawn_from_the_report(pictures: dict[str, Any], report: dict[str, Any]) -> None:
    for name, width in pictures["WIDTHS"].items():
        drawn = (IMAGES / f"{name}.svg").read_text()
        assert words(drawn) == words(pictures["verification"](report, width)), "run: make pictures"


@pytest.mark.parametrize(
    ("name", "width"),
    [("architecture", PHONE), ("packages", PHONE), ("verification", README), ("verification-narrow", PHONE)],
)
def test_the_text_can_be_read(name: str, width: int) -> None:
    picture = (IMAGES / f"{name}.svg").read_text()
    drawn_width = re.search(r'viewBox="0 0 ([0-9.]+)', picture)
    smallest = min(int(size) for size in re.findall(r"font(?:-size)?: (\d+)px", picture))
    assert drawn_width
    assert smallest * min(1, width / float(drawn_width[1])) >= 7, "pixels"


@pytest.mark.parametrize("name", ["images/architecture", "images/packages", "benchmark/plot"])
def test_a_drawing_follows_the_colour_scheme(name: str) -> None:
    assert "@media (prefers-color-scheme: dark)" in (IMAGES.parent / f"{name}.svg").read_text()


def outdated(recorded: Sequence[str], checks: Sequence[str]) -> bool:
    """Whether a recorded report has a check that was renamed, removed or moved since. It may lack new checks."""
    return list(recorded) != [check for check in checks if check in recorded]


def test_the_recorded_report_has_only_checks_that_exist(report: dict[str, Any]) -> None:
    """A new check needs no new recording, which takes a VM; a warning lists it until the next recording."""
    variables = yaml.safe_load((CHECKOUT / "roles/verify/vars/main/checks.yml").read_text())
    checks = [check["id"] for check in variables["_verify_checks"]]
    recorded = [result["id"] for result in report["results"]]
    assert not outdated(recorded, checks), "run: make walkthrough"
    new = [check for check in checks if check not in recorded]
    if new:
        warnings.warn(f"new checks, not in docs/images yet (make walkthrough): {', '.join(new)}", stacklevel=1)


def test_the_recorded_report_has_no_failures(report: dict[str, Any]) -> None:
    assert {result["result"] for result in report["results"]} <= {"pass", "not_applicable"}


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        (["a", "b", "c"], False),
        (["new", "a", "b", "newer", "c", "newest"], False),
        (["a", "renamed", "c"], True),
        (["a", "c"], True),
        (["b", "a", "c"], True),
    ],
)
def test_an_outdated_report_is_found(checks: list[str], expected: bool) -> None:
    assert outdated(["a", "b", "c"], checks) is expected


def test_the_recording_is_of_todays_steps() -> None:
    script = (CHECKOUT / "scripts/walkthrough").read_text()
    steps = re.findall(r"^ {4}['\"](.*)['\"]$", script[: script.index("\n)")], re.MULTILINE)
    lines = (IMAGES / "walkthrough.cast").read_text().splitlines()[1:]
    shown = "".join(json.loads(line)[2] for line in lines)
    assert steps
    for step in steps:
        assert f"$ {step.replace('$tools', '.cache/walkthrough')}" in shown, "run: make walkthrough"
    assert "failed=0" in shown


def test_the_recording_is_short() -> None:
    last = json.loads((IMAGES / "walkthrough.cast").read_text().splitlines()[-1])
    assert 20 <= last[0] <= 30, "seconds"
    drawn = re.search(r"animation-duration: (\d+)ms", (IMAGES / "walkthrough.svg").read_text())
    assert drawn
    assert 20_000 <= int(drawn[1]) <= 30_000, "milliseconds"


def test_a_recording_is_paced() -> None:
    """Whatever the run took: the table passes slowly, and the result of each command stays."""
    events = [
        [0.1, "o", "\r\n$ make vm\r\n"],
        *([number, "o", f"TASK [{number}] {'*' * 60}\r\n"] for number in range(900)),
        [901.5, "o", "\x1b[0;32m        1 of 1 che"],
        [901.6, "o", "cks passed\x1b[0m\r\nPLAY RECAP\r\n"],
        [902, "o", "\r\n$ cat report.txt\r\nCHECK  RESULT\r\n        in words\r\n1 of 1 checks passed\r\n"],
        [990, "o", "\r\n$ touch mine\r\nRead-only file system\r\n"],
    ]
    recording = "\n".join(json.dumps(line) for line in [{"version": 2, "width": 80}, *events])
    paced = runpy.run_path(str(CHECKOUT / "scripts/pace-recording"))["paced"](recording)
    header, *shown = map(json.loads, paced.splitlines())
    assert header["width"] == 80
    seconds = {text: time for time, _kind, text in shown}
    assert "TASK [7] ***\r\n" in seconds
    assert seconds["PLAY RECAP\r\n"] - seconds["TASK [0] ***\r\n"] > 4
    assert "\x1b[0;32m1 of 1 checks passed\x1b[0m\r\n" in seconds
    checks = seconds["1 of 1 checks passed\r\n"]
    assert checks - seconds["CHECK  RESULT\r\n"] > 3
    assert "        in words\r\n" in seconds, "the table's own indentation"
    assert seconds["$ touch mine\r\n"] - checks > 2
    assert seconds["Read-only file system\r\n"] == shown[-1][0] < 20


def test_the_guide_shows_the_table_of_the_recorded_status(pictures: dict[str, Any]) -> None:
    recorded = json.loads((IMAGES / "status.json").read_text())
    assert f"```text\n{pictures['status_table'](recorded)}\n```\n" in (CHECKOUT / "docs/fleet.md").read_text()


def test_the_readme_shows_them() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    for name in ("architecture", "verification", "verification-narrow", "walkthrough"):
        assert re.search(rf'/main/docs/images/{name}\.svg[")]', readme)
        assert (IMAGES / f"{name}.svg").is_file()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["status", "site", "readme", "phone"])
def test_a_page_is_shown_in_both_colour_schemes(page: str, scheme: str) -> None:
    assert 10_000 < (IMAGES / f"{page}-{scheme}.png").stat().st_size < 150_000, "run: make pictures"
