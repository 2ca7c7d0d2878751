# SPDX-License-Identifier: GPL-3.0-or-later
"""The option mount_point of module share on libvirt's test driver, with a stand-in for the guest agent.

The stand-in checks the exact questions and answers as a guest would; molecule/shares runs the script in a real one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils import _waiting
from ansible_collections.keystone.virtiofs.plugins.module_utils._apply import guest_mount
from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.executor import Executor
from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.mount_texts import unit_text
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import DetachShare
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.agent import GuestAgent
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.gateway import Gateway
from ansible_collections.keystone.virtiofs.plugins.modules import domain, share

Run = Callable[..., dict[str, Any]]
POINT, UNIT = "/mnt/project", "mnt-project.mount"
MOUNTED = {"domain": "vm", "tag": "data", "mount_point": POINT}


class Guest:
    """Mounts and unmounts share data at /mnt/project as the script would."""

    def __init__(self) -> None:
        self.is_mounted = False
        self.log: list[str] = []
        self.failures: list[tuple[int, str]] = []  # exit code and error of the next runs
        self.words: list[str] = []
        self.answers: dict[str, Any] = {}  # other answers than the proper ones, by command
        self._ended: dict[int, dict[str, Any]] = {}

    def agent(self, name: str) -> GuestAgent:
        assert name == "vm"
        return GuestAgent(self._ask)

    def _ask(self, question: str) -> str | None:
        asked = json.loads(question)
        command, arguments = asked.pop("execute"), asked.pop("arguments", {})
        assert asked == {}
        if command in self.answers:
            return json.dumps({"return": self.answers[command]}) if self.answers[command] is not None else None
        answer = {"guest-ping": self._ping, "guest-exec": self._exec, "guest-exec-status": self._status}[command]
        return json.dumps({"return": answer(**{name.replace("-", "_"): value for name, value in arguments.items()})})

    def _ping(self) -> dict[str, Any]:
        return {}

    def _exec(self, path: str, arg: list[str], capture_output: bool) -> dict[str, Any]:
        option, script, name, state, step, unit, tag, text = arg
        assert (path, option, script, name, capture_output) == ("/bin/sh", "-c", guest_mount._SCRIPT, "sh", True)
        assert (unit, tag, text) == (UNIT, "data", unit_text("data", POINT))
        self.log.append(f"{state} {step}")
        code, error = self.failures.pop(0) if self.failures else (0, "")
        differs = self.is_mounted != (state == "present")
        if code == 0 and step == "apply":
            self.is_mounted = state == "present"
        words = " ".join(self.words + (["changed"] if differs else []))
        texts = {"out-data": words, "err-data": error}
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items() if text}
        self._ended[7] = {"exited": True, "exitcode": code, **encoded}
        return {"pid": 7}

    def _status(self, pid: int) -> dict[str, Any]:
        return self._ended.pop(pid)  # an agent, too, forgets a program with its answer


@pytest.fixture
def guest(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Guest:
    """The guest of a running domain that has the share data."""
    (tmp_path / "source").mkdir()
    (tmp_path / ".local/share/keystone-virtiofs/domains").mkdir(parents=True)
    stand_in = Guest()
    monkeypatch.setattr(Gateway, "agent", stand_in.agent)
    run(domain, name="vm", memory=128, state="running", shares=[{"tag": "data", "source": f"{tmp_path}/source"}])
    return stand_in


@pytest.fixture
def mounted(tmp_path: Path) -> dict[str, Any]:
    return {**MOUNTED, "source": f"{tmp_path}/source"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every wait is over at once."""
    times = iter(range(0, 10**9, 10))
    with monkeypatch.context() as patch:
        patch.setattr(_waiting.time, "monotonic", lambda: next(times))
        patch.setattr(_waiting.time, "sleep", lambda _seconds: None)
        yield


@pytest.mark.parametrize("state", ["present", "absent"])
def test_check_mode_predicts_the_run_and_a_second_run_changes_nothing(
    run: Run, guest: Guest, mounted: dict[str, Any], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test driver cannot unplug a share: what matters here is that the guest has unmounted before.
    monkeypatch.setattr(Executor, "_step", lambda _executor, _name, action: guest.log.append(type(action).__name__))
    guest.is_mounted = state == "absent"
    options = mounted if state == "present" else {**MOUNTED, "state": "absent"}
    predicted = run(share, check=True, **options)
    assert guest.log == [f"{state} check"]
    assert guest.is_mounted is (state == "absent")
    done = run(share, **options)
    assert [predicted[key] for key in ("changed", "actions", "diff")] == [
        done[key] for key in ("changed", "actions", "diff")
    ]
    assert guest.is_mounted is (state == "present")
    if state == "present":
        assert (done["actions"], done["diff"]["after"]["mount_point"]) == (["MountShare"], POINT)
        again = run(share, **options)
        assert (again["changed"], again["actions"]) == (False, [])
    else:
        assert done["actions"] == ["Define", "DetachShare", "UnmountShare"]
        assert guest.log[1:] == ["absent check", "absent apply", "Define", "DetachShare"]


def test_a_replugged_share_is_mounted_again(
    run: Run, guest: Guest, mounted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Executor, "_step", lambda _executor, _name, action: guest.log.append(type(action).__name__))
    guest.is_mounted = True
    done = run(share, **mounted, cache="none", replug=True)
    steps = [step for step in guest.log if step in ("absent apply", "present apply", DetachShare.__name__)]
    assert steps == ["absent apply", "DetachShare", "present apply"]
    assert done["actions"][-1] == "MountShare"
    assert guest.is_mounted


def test_the_result_says_how_to_mount_by_hand(run: Run, guest: Guest, mounted: dict[str, Any]) -> None:
    del mounted["mount_point"]
    assert run(share, **mounted)["mount"] == {
        "command": "mkdir -p /mnt/data && mount -t virtiofs data /mnt/data",
        "fstab": "data /mnt/data virtiofs nofail 0 0",
        "nixos": 'fileSystems."/mnt/data" = { device = "data"; fsType = "virtiofs"; options = [ "nofail" ]; };',
    }
    assert guest.log == []


def test_a_mount_that_does_not_last_is_a_warning(run: Run, guest: Guest, mounted: dict[str, Any]) -> None:
    guest.words = ["temporary"]
    (warning,) = run(share, **mounted)["warnings"]
    assert 'add to the guest\'s configuration: fileSystems."/mnt/project"' in warning["event"]["msg"]


def test_a_share_that_is_still_being_plugged_in_is_mounted_when_it_appears(
    run: Run, guest: Guest, mounted: dict[str, Any]
) -> None:
    guest.failures = [(0, ""), (6, "tag not found"), (6, "tag not found")]
    assert run(share, **mounted)["changed"]
    assert guest.log == ["present check", *["present apply"] * 3]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ((3, ""), "the guest does not run systemd. Omit mount_point"),
        ((4, ""), "the guest mounts something else at /mnt/project. Choose another mount_point"),
        ((1, "no\x1b[31m space"), "the guest reports: no\ufffd[31m space"),
        ((127, ""), "the guest reports: exit code 127"),
    ],
)
def test_what_the_guest_cannot_do_is_found_before_anything_is_changed(
    run: Run, guest: Guest, mounted: dict[str, Any], failure: tuple[int, str], message: str, look: Callable[[], Any]
) -> None:
    before = look()
    guest.failures = [failure]
    result = run(share, **mounted, cache="none")
    assert result["failed"]
    assert result["msg"].startswith(f"domain vm, share data: {message}")
    assert (look(), guest.log) == (before, ["present check"])


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"guest-ping": None}, "the guest agent did not answer within 60 s. Install and start qemu-guest-agent"),
        ({"guest-exec": None}, "the guest agent does not run commands (guest-exec). Permit guest-exec"),
        ({"guest-exec": {"pid": "7; reboot"}}, "the guest agent does not run commands"),
        (
            {"guest-exec-status": None},
            "the guest did not run the command within 60 s. Correct mount_point, or increase",
        ),
        ({"guest-exec-status": {"exited": "yes"}}, "the guest did not run the command within 60 s"),
        ({"guest-exec-status": {"exited": True}}, "the guest reports: exit code -1"),
        ({"guest-exec-status": {"exited": True, "exitcode": "0"}}, "the guest reports: exit code -1"),
        ({"guest-exec-status": {"exited": True, "exitcode": 9, "err-data": 7}}, "the guest reports: exit code 9"),
    ],
)
def test_an_agent_that_does_not_do_its_work(
    run: Run, guest: Guest, mounted: dict[str, Any], answers: dict[str, Any], message: str
) -> None:
    guest.answers = answers
    result = run(share, **mounted)
    assert result["failed"]
    assert f"domain vm, share data: {message}" in result["msg"]


@pytest.mark.usefixtures("clock")
def test_a_share_that_never_appears_is_reported_with_the_guests_words(
    run: Run, guest: Guest, mounted: dict[str, Any]
) -> None:
    guest.failures = [(0, "")] + [(6, "wrong fs type")] * 100
    assert "did not mount the share within 60 s; the guest reports: wrong fs type" in run(share, **mounted)["msg"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("stopped", "the domain is stopped, so its guest cannot"),
        ("paused", "the domain is paused, so its guest cannot"),
    ],
)
def test_a_guest_that_does_not_run_is_not_asked(
    run: Run, guest: Guest, mounted: dict[str, Any], connection: libvirt.virConnect, state: str, message: str
) -> None:
    machine = connection.lookupByName("vm")
    machine.destroy() if state == "stopped" else machine.suspend()
    for options in (mounted, {**MOUNTED, "state": "absent"}):
        assert message in run(share, **options)["msg"]
    assert guest.log == []


def test_a_guest_without_a_channel_is_not_asked(run: Run, guest: Guest, mounted: dict[str, Any]) -> None:
    run(domain, name="vm", guest_agent=False, state="running", restart="if_required", shutdown_timeout=5)
    assert "has no channel for a guest agent" in run(share, **mounted)["msg"]
    assert guest.log == []


def test_a_share_that_waits_for_a_restart_is_not_mounted(
    run: Run, guest: Guest, mounted: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    run(domain, name="vm", state="running", hotplug_ports=0)
    result = run(share, **{**mounted, "tag": "other", "source": f"{tmp_path}/other"})
    assert "the guest cannot mount the share before a restart: share other: " in result["msg"]
    assert "Set restart to if_required" in result["msg"]
    assert guest.log == []


def test_a_domain_that_does_not_exist_has_nothing_mounted(run: Run, guest: Guest) -> None:
    result = run(share, **{**MOUNTED, "domain": "gone", "state": "absent"})
    assert (result["changed"], guest.log) == (False, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mount_point": "mnt"}, "mount_point: 'mnt' is not an absolute path"),
        ({"mount_point": "//"}, "mount_point: '//' is not a directory below /"),
        ({"mount_point": "/mnt/../etc"}, "without .."),
        ({"mount_point": "/mnt/a\\"}, "contains a backslash, or ends with a blank"),
        ({"mount_point": "/mnt/a "}, "contains a backslash, or ends with a blank"),
        ({"mount_point": "/mnt\nType=ext4"}, "contains a control character"),
        ({"tag": "a b"}, "tag: 'a b' cannot be mounted with mount_point"),
        ({"tag": "-o"}, "tag: '-o' cannot be mounted with mount_point"),
        ({"mount_timeout": 0}, "mount_timeout: 0 is not between 1 and 3600 seconds"),
    ],
)
def test_what_systemd_would_misread_is_refused(
    run: Run, guest: Guest, mounted: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    assert message in run(share, **{**mounted, **changes})["msg"]
    assert guest.log == []
