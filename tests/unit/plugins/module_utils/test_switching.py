# SPDX-License-Identifier: GPL-3.0-or-later
"""How a switch ends, as it is seen over connections that come and go; and the watchdog itself, run by sh."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils import switching
from ansible_collections.keystone.virtiofs.plugins.module_utils.ssh import Target, Unreachable
from ansible_collections.keystone.virtiofs.plugins.module_utils.switching import Abandoned, Seen, activate

NEW, OLD = "/nix/store/new", "/nix/store/old"


class Guest:
    """Answers each look with the next text; an exception is a look that does not get through."""

    target = Target(name="web", address="web")

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = ["boot-1\n", *answers]

    def check(self, _script: str, *_arguments: str, stdin: str = "", limit: float = 0) -> str:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def switch(*answers: str | Exception) -> Seen:
    return activate(Guest(*answers), NEW, OLD, 600, 60)  # type: ignore[arg-type]


def test_a_guest_that_is_cut_off_for_a_while_is_waited_for() -> None:
    seen = switch(f"boot-1\n{OLD}\n\n\n", Unreachable("gone"), f"boot-1\n{NEW}\n0\nkept 0\nall well\n")
    assert (seen.current_system, seen.log, seen.failed_units) == (NEW, "all well\n", "")


def test_failed_units_are_named() -> None:
    log = "warning: the following units failed: a.service, b.service\n"
    assert switch(f"boot-1\n{NEW}\n4\nkept 0\n{log}").failed_units == "a.service, b.service"


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (f"boot-1\n{OLD}\n0\nback\nlog", f"not reached within 60 s of the activation of {NEW}, and"),
        (f"boot-1\n{OLD}\n2\nback\nlog", f"{NEW}/bin/switch-to-configuration ended with 2, and it went back to {OLD}"),
        (f"boot-1\n{NEW}\n0\nkept 1\nlog", f"it runs {NEW}, which could not be made the one to boot next"),
        (f"boot-2\n{OLD}\n", f"it was restarted while {NEW} was activated, and runs {OLD}"),
    ],
)  # fmt: skip
def test_the_other_ends(last: str, said: str) -> None:
    with pytest.raises(Abandoned) as abandoned:
        switch(Unreachable("gone"), last)
    assert said in abandoned.value.problem


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A guest's directory, with two systems that note what is asked of them."""
    for name in ("new", "old"):
        program = tmp_path / name / "bin/switch-to-configuration"
        program.parent.mkdir(parents=True)
        status = f"$(cat {tmp_path}/{name}.status)"
        program.write_text(f'#!/bin/sh\necho "{name} $1" >>{tmp_path}/asked\n[ "$1" = boot ] || exit {status}\n')
        program.chmod(0o755)
        (tmp_path / f"{name}.status").write_text("0")
        (tmp_path / "state").mkdir(exist_ok=True)
    for name in ("nix-env", "systemctl"):
        program = tmp_path / "old/sw/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/asked\n')
        program.chmod(0o755)
    return tmp_path


def watch(run: Path) -> tuple[list[str], str]:
    """What the watchdog has asked for, and its own word."""
    script = switching._WATCHDOG.replace("/run/keystone-switch", str(run / "state"))
    subprocess.run(["sh", "-c", script, "sh", "PROFILE", f"{run}/new", f"{run}/old", "9", "1"], check=False)
    result = run / "state/result"
    return (run / "asked").read_text().splitlines(), result.read_text().strip() if result.exists() else ""


@pytest.mark.parametrize("status", ["0", "4"])
def test_the_watchdog_keeps_what_is_confirmed(run: Path, status: str) -> None:
    (run / "new.status").write_text(status)
    (run / "state/confirmed").touch()
    asked, word = watch(run)
    assert asked == ["new test", f"nix-env --profile PROFILE --set {run}/new", "new boot"]
    assert word == switching.KEPT


def test_the_watchdog_goes_back_when_nobody_comes(run: Path) -> None:
    assert watch(run) == (["new test", "old test"], "back")


def test_the_watchdog_goes_back_at_once_when_the_activation_fails(run: Path) -> None:
    (run / "new.status").write_text("2")
    (run / "state/confirmed").touch()
    assert watch(run) == (["new test", "old test"], "back")


def test_the_watchdog_restarts_the_guest_when_it_cannot_go_back(run: Path) -> None:
    (run / "old.status").write_text("1")
    assert watch(run) == (["new test", "old test", "systemctl reboot"], "")
