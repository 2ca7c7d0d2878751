# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's pictures are those that the project draws now, and show what the project does now."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
IMAGES = CHECKOUT / "docs/images"


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


def test_the_architecture_is_drawn_anew(pictures: dict[str, Any]) -> None:
    assert (IMAGES / "architecture.svg").read_text() == pictures["architecture"](), "run: make pictures"


def test_the_table_is_drawn_from_the_report(pictures: dict[str, Any], report: dict[str, Any]) -> None:
    drawn = (IMAGES / "verification.svg").read_text()
    assert words(drawn) == words(pictures["verification"](report)), "run: make pictures"


def test_the_report_is_of_todays_checks_and_all_is_well(report: dict[str, Any]) -> None:
    checks = yaml.safe_load((CHECKOUT / "roles/verify/vars/main.yml").read_text())["verify_checks"]
    assert [result["id"] for result in report["results"]] == [check["id"] for check in checks], "run: make walkthrough"
    assert {result["result"] for result in report["results"]} <= {"pass", "not_applicable"}


def test_the_recording_is_of_todays_steps() -> None:
    script = (CHECKOUT / "scripts/walkthrough").read_text()
    steps = re.findall(r"^ {4}['\"](.*)['\"]$", script[: script.index("\n)")], re.MULTILINE)
    lines = (IMAGES / "walkthrough.cast").read_text().splitlines()[1:]
    shown = "".join(json.loads(line)[2] for line in lines)
    assert steps
    for step in steps:
        assert f"$ {step.replace('$tools', '.cache/walkthrough')}" in shown, "run: make walkthrough"
    assert "failed=0" in shown


def test_the_readme_shows_them() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    for name in ("architecture", "verification", "walkthrough"):
        assert f"(docs/images/{name}.svg)" in readme
        assert (IMAGES / f"{name}.svg").is_file()
