# SPDX-License-Identifier: GPL-3.0-or-later
"""How a switch ends, as seen over connections that come and go; and the watchdog itself, run by sh."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos import switch
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.ssh import OtherHostKey, Target, Unreachable
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.switch import (
    GuestStatus,
    Provided,
    RolledBack,
    Systems,
    Timeouts,
    activate,
    provide,
)

NEW, OLD = f"/nix/store/{'1' * 32}-new", f"/nix/store/{'0' * 32}-old"
TIMEOUTS = Timeouts(activation=600, confirmation=60)


class Guest:
    """Answers each command with the next text, or raises the next exception."""

    target = Target(name="web", address="web")

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = ["boot-1\n", *answers]

    def check(self, _script: str, *_arguments: str, stdin: str = "", timeout: float = 0) -> str:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def switch_to_new(*answers: str | Exception) -> GuestStatus:
    return activate(Guest(*answers), NEW, OLD, TIMEOUTS)  # type: ignore[arg-type]


def test_a_guest_that_is_cut_off_for_a_while_is_waited_for() -> None:
    status = switch_to_new(f"boot-1\n{OLD}\n\n\n", Unreachable("gone"), f"boot-1\n{NEW}\n0\nkept\nall well\n")
    assert (status.current_system, status.log, status.failed_units) == (NEW, "all well\n", "")


def test_a_guest_that_answers_but_cannot_run_anything_for_a_while_is_waited_for() -> None:
    assert switch_to_new(HostError("sudo is being replaced"), f"boot-1\n{NEW}\n0\nkept\n").result == "kept"


def test_failed_units_are_named() -> None:
    log = "warning: the following units failed: a.service, b.service\n"
    assert switch_to_new(f"boot-1\n{NEW}\n4\nkept\n{log}").failed_units == "a.service, b.service"


PROGRAM = f"{NEW}/bin/switch-to-configuration"


@pytest.mark.parametrize(
    ("last", "problem", "fix"),
    [
        (f"boot-1\n{OLD}\n0\nrolled-back\n", f"not reached within 60 s of the activation of {NEW}", "confirmation_"),
        (f"boot-1\n{OLD}\n4\nrolled-back\n", f"not reached within 60 s of the activation of {NEW}", "confirmation_"),
        (f"boot-1\n{OLD}\n2\nrolled-back\n", f"{PROGRAM} ended with 2, and the guest rolled back to {OLD}", "Correct"),
        (f"boot-1\n{OLD}\n124\nrolled-back\n", f"{PROGRAM} did not end within 600 s, and", "activation_timeout"),
        (f"boot-1\n{OLD}\n0\nunbootable\n", f"{NEW} could not be made the boot default, and the", "boot loader"),
        (f"boot-2\n{OLD}\n", f"the guest restarted while {NEW} was being activated, and runs {OLD}", "again"),
    ],
)  # fmt: skip
def test_the_other_ends(last: str, problem: str, fix: str) -> None:
    with pytest.raises(RolledBack) as rolled_back:
        switch_to_new(Unreachable("gone"), last)
    assert problem in rolled_back.value.problem
    assert fix in rolled_back.value.fix


def test_an_error_quotes_the_end_of_the_activations_output() -> None:
    log = f"{'x' * 9999} no such user\n"
    with pytest.raises(
        RolledBack, match=r"rolled back to /nix/store/0+-old; [^\n]*\nx{1,500} no such user"
    ) as rolled_back:
        switch_to_new(f"boot-1\n{OLD}\n2\nrolled-back\n{log}")
    assert rolled_back.value.as_result()["log"] == log


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A guest's directory, with two systems that note what is asked of them."""
    for name in ("new", "old"):
        program = tmp_path / name / "bin/switch-to-configuration"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\necho "{name} $1" >>{tmp_path}/asked\nexit $(cat {tmp_path}/{name}.$1)\n')
        program.chmod(0o755)
        for action in ("boot", "test"):
            (tmp_path / f"{name}.{action}").write_text("0")
        (tmp_path / "state").mkdir(exist_ok=True)
    for name in ("nix-env", "systemctl"):
        program = tmp_path / "old/sw/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/asked\n')
        program.chmod(0o755)
    return tmp_path


def watch(run: Path, program: str = switch._WATCHDOG) -> tuple[list[str], str]:
    """What the program has run, and its own result."""
    script = program.replace("/run/keystone-virtiofs/switch", str(run / "state"))
    subprocess.run(["sh", "-c", script, "sh", "PROFILE", f"{run}/new", f"{run}/old", "9", "1"], check=False)
    result = run / "state/result"
    return (run / "asked").read_text().splitlines(), result.read_text().strip() if result.exists() else ""


@pytest.mark.parametrize("status", ["0", "4"])
def test_the_watchdog_keeps_what_is_confirmed(run: Path, status: str) -> None:
    (run / "new.test").write_text(status)
    (run / "state/confirmed").touch()
    asked, word = watch(run)
    assert asked == ["new test", f"nix-env --profile PROFILE --set {run}/new", "new boot"]
    assert word == switch.KEPT


def test_the_watchdog_rolls_back_from_a_system_that_cannot_be_booted(run: Path) -> None:
    (run / "new.boot").write_text("1")
    (run / "state/confirmed").touch()
    asked, word = watch(run)
    again = [f"nix-env --profile PROFILE --set {run}/old", "old boot", "old test"]
    assert asked == ["new test", f"nix-env --profile PROFILE --set {run}/new", "new boot", *again]
    assert word == switch.UNBOOTABLE


def test_the_watchdog_rolls_back_without_confirmation(run: Path) -> None:
    assert watch(run) == (["new test", "old test"], "rolled-back")


def test_the_watchdog_rolls_back_at_once_when_the_activation_fails(run: Path) -> None:
    (run / "new.test").write_text("2")
    (run / "state/confirmed").touch()
    assert watch(run) == (["new test", "old test"], "rolled-back")


def test_the_watchdog_restarts_the_guest_when_it_cannot_roll_back(run: Path) -> None:
    (run / "old.test").write_text("1")
    assert watch(run) == (["new test", "old test", "systemctl reboot"], "")


def ask(run: Path, at_each_second: str = ":") -> list[str]:
    """What the guest answers about its switch, and at each second of waiting runs a command."""
    sleep = run / "bin/sleep"
    sleep.parent.mkdir()
    sleep.write_text(f"#!/bin/sh\necho waited >>{run}/waited\ncd {run}/state && {at_each_second}\n")
    sleep.chmod(0o755)
    script = switch._CONFIRM_AND_WAIT.replace("/run/keystone-virtiofs/switch", str(run / "state"))
    path = {"PATH": f"{sleep.parent}:{os.environ['PATH']}"}
    answer = subprocess.run(["sh", "-c", script], env=path, capture_output=True, text=True, check=True).stdout
    return answer.splitlines()[2:]


@pytest.mark.parametrize("status", ["0", "4"])
def test_a_connection_after_the_activation_confirms_and_waits_for_the_result(run: Path, status: str) -> None:
    (run / "state/status").write_text(status)
    assert ask(run, "test -e confirmed && echo kept >result") == [status, "kept"]


def test_a_connection_before_the_end_of_the_activation_only_waits(run: Path) -> None:
    assert ask(run, "echo 0 >status") == ["0", ""]
    assert not (run / "state/confirmed").exists()


def test_a_failed_activation_is_not_confirmed(run: Path) -> None:
    (run / "state/status").write_text("2")
    assert ask(run, "echo rolled-back >result") == ["2", "rolled-back"]
    assert not (run / "state/confirmed").exists()


def test_a_connection_does_not_wait_forever(run: Path) -> None:
    assert ask(run) == ["", ""]
    assert (run / "waited").read_text().count("waited") == 20


def test_a_restart_is_into_the_new_boot_default(run: Path) -> None:
    asked, word = watch(run, switch._RESTART)
    assert asked == [f"nix-env --profile PROFILE --set {run}/new", "new boot", "systemctl reboot"]
    assert word == ""


def test_there_is_no_restart_into_a_system_that_cannot_be_booted(run: Path) -> None:
    (run / "new.boot").write_text("1")
    asked, word = watch(run, switch._RESTART)
    assert asked[-2:] == [f"nix-env --profile PROFILE --set {run}/old", "old boot"]
    assert word == switch.UNBOOTABLE


def restart_into_new(*answers: str | Exception) -> GuestStatus:
    return switch.restart(Guest(*answers), NEW, OLD, TIMEOUTS)  # type: ignore[arg-type]


def test_a_restarted_guest_is_waited_for() -> None:
    status = restart_into_new(f"boot-1\n{OLD}\n\n\n", Unreachable("gone"), f"boot-2\n{NEW}\n")
    assert status.current_system == NEW


@pytest.mark.parametrize(
    ("last", "problem", "fix"),
    [
        (f"boot-2\n{OLD}\n", f"the guest was restarted into {NEW}, and runs {OLD}", "boot loader"),
        (f"boot-1\n{OLD}\n\nunbootable\n", f"{NEW} could not be made the boot default", "boot loader"),
    ],
)
def test_the_other_ends_of_a_restart(last: str, problem: str, fix: str) -> None:
    with pytest.raises(RolledBack) as rolled_back:
        restart_into_new(Unreachable("gone"), last)
    assert problem in rolled_back.value.problem
    assert fix in rolled_back.value.fix


def test_a_new_system_that_runs_already_is_rolled_back_to_the_boot_default() -> None:
    assert Systems(OLD, OLD, is_valid=False).rollback_target(NEW) == OLD
    assert Systems(NEW, OLD, is_valid=True).rollback_target(NEW) == OLD


def test_a_guest_that_answers_in_part_is_waited_for() -> None:
    status = switch_to_new("", "boot-1", f"boot-1\n{NEW}\n0\nkept\n")
    assert status.result == "kept"


def test_the_guest_cannot_write_to_a_terminal_through_its_log() -> None:
    log = "\x1b[2Jfollowing units failed: a\x1b[8m.service\n"
    status = switch_to_new(f"boot-1\n{NEW}\n4\nkept\n{log}")
    assert "\x1b" not in status.log + status.failed_units


@pytest.mark.parametrize(
    "answer",
    [
        "",
        OLD,
        f"{OLD}\n\nvalid",
        f"{OLD}\n/srv/project\nvalid",
        f"/srv/project\n{OLD}\nvalid",
        "\n\n",
        f"{OLD}/init\n{OLD}\n",
    ],
)
def test_systems_outside_the_store_are_refused(answer: str) -> None:
    with pytest.raises(HostError, match="web: the running system or the boot default is not in the guest's store"):
        Systems.of(Shared(WEB, current=answer), NEW)  # type: ignore[arg-type]


def test_systems_are_those_that_the_guest_reports() -> None:
    guest = Shared(WEB, current=f"{OLD}\n{NEW}\nvalid\ntmpfs / tmpfs\n")
    assert Systems.of(guest, NEW) == Systems(OLD, NEW, is_valid=True, booted_fstab="tmpfs / tmpfs\n")  # type: ignore[arg-type]


def test_a_guest_that_is_lost_before_the_activation_rolls_back_by_itself() -> None:
    class Lost(Guest):
        def check(self, *_arguments: str, **_options: object) -> str:
            raise Unreachable("the connection ended")

    with pytest.raises(
        Unreachable, match=f"lost while activating {NEW} .the connection ended.. .* the guest rolls back to {OLD}"
    ):
        activate(Lost(), NEW, OLD, TIMEOUTS)  # type: ignore[arg-type]


def test_a_guest_with_another_host_key_is_not_waited_for() -> None:
    with pytest.raises(Unreachable, match=f"lost while activating {NEW} .its key is another.. .* rolls back to {OLD}"):
        switch_to_new(Unreachable("gone"), OtherHostKey("its key is another"))


# What the guest gets of a system.


class Shared:
    """A guest whose answer to a script is found by a word of the script."""

    def __init__(self, target: Target, **answers: str) -> None:
        self.target = target
        self._answers = answers
        self.loaded = ""

    def check(self, script: str, *_arguments: str, stdin: str = "") -> str:
        if "load-db" in script:
            self.loaded = stdin
            return ""
        return next(answer for word, answer in self._answers.items() if word in script)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is run on the host. The closure has two paths."""
    commands: list[list[str]] = []

    def check(command: list[str], **_options: object) -> str:
        commands.append(command)
        return f"{NEW} /nix/store/library" if "--requisites" in command else "the registration"

    monkeypatch.setattr(switch._commands, "check", check)
    monkeypatch.setattr(switch, "_SHARE_TIMEOUT", 0.0)
    return commands


WEB, ALICE = Target(name="web", address="192.0.2.1"), Target(name="web", address="192.0.2.1", user="alice")


def test_what_the_share_shows_is_registered(asked: list[list[str]]) -> None:
    guest = Shared(WEB, virtiofs="1\n")
    assert provide(guest, NEW) == Provided(registered=2)  # type: ignore[arg-type]
    assert guest.loaded == "the registration"


@pytest.mark.parametrize(
    ("target", "to"),
    [(WEB, "ssh://root@192.0.2.1"), (ALICE, "ssh://alice@192.0.2.1?remote-program=sudo%20-n%20nix-store")],
)
def test_what_it_does_not_show_is_copied(asked: list[list[str]], target: Target, to: str) -> None:
    guest = Shared(target, virtiofs=f"1\n{NEW}\n", upperdir="ext2/ext3\next2/ext3\n")
    assert provide(guest, NEW) == Provided(copied=2)  # type: ignore[arg-type]
    assert asked[-1][-4:] == ["--to", to, "--", NEW]


def test_nothing_is_copied_to_a_store_that_is_lost_at_a_reboot(asked: list[list[str]]) -> None:
    guest = Shared(WEB, virtiofs=f"1\n{NEW}\n", upperdir="tmpfs\next2/ext3\n")
    with pytest.raises(InvalidInput, match=r"lost at the next reboot.*persistentRwStore"):
        provide(guest, NEW)  # type: ignore[arg-type]
    assert not [command for command in asked if "copy" in command]
