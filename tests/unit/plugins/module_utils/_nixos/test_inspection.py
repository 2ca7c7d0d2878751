# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine says about itself, honest or hostile."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos import inspection
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.decision import Machine
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.inspection import inspect, parse
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.ssh import Target, Unreachable
from ansible_collections.keystone.virtiofs.plugins.module_utils._untrusted import store_path
from ansible_collections.keystone.virtiofs.tests.unit.hostile import TEXTS, label

SYSTEM = f"/nix/store/{'0' * 32}-nixos-system-web"
UUID = "11111111-2222-3333-4444-55555555aaaa"
REGISTRATION = f"/nix/store/{'1' * 32}-registration"


class Guest:
    """Answers with a text, or raises."""

    target = Target(name="web", address="web")

    def __init__(self, answer: str | Exception) -> None:
        self._answer = answer

    def check(self, _script: str) -> str:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "machine"),
    [
        (
            f"{UUID.upper()}\nnixos \n\n{SYSTEM}\n{SYSTEM}\n\n{REGISTRATION}\n",
            Machine(True, "", "", "nixos", "", SYSTEM, SYSTEM, None, REGISTRATION, UUID),
        ),
        (f"\nnixos \n\n{SYSTEM}\n{SYSTEM}\n{SYSTEM}\n", Machine(True, "", "", "nixos", "", SYSTEM, SYSTEM, SYSTEM)),
        ("\nnixos \ninstaller\n\n\n\n", Machine(True, "", "", "nixos", "installer")),
        (f"\nkeystone nixos\n\n{SYSTEM}\n\n\n", Machine(True, "", "", "nixos", "", SYSTEM)),
        ("\nubuntu debian\n\n\n\n\n", Machine(True, "", "", "ubuntu")),
        (" \n\n\n\n\n", Machine(True)),
        ("", Machine(True)),
        ("\nnixos", Machine(True, "", "", "nixos")),
        (f"{UUID}x\nnixos \n\n/srv/project\n/etc\n/nix/store\n/nix/store/../etc\n", Machine(True, "", "", "nixos")),
    ],
)
def test_an_answer(answer: str, machine: Machine) -> None:
    assert inspect(Guest(answer), SYSTEM) == machine  # type: ignore[arg-type]


FSTAB = "nix-store-share /sysroot/nix/.ro-store virtiofs x-initrd.mount,ro 0 0\n"


@pytest.mark.parametrize(
    ("os_id", "booted", "expected"),
    [
        ("nixos", "/dev/vda / ext4 x-initrd.mount 0 1\n", True),
        ("nixos", FSTAB, False),
        ("nixos", "", False),
        ("debian", "/dev/vda / ext4 defaults 0 1\n", False),
    ],
    ids=["other mounts", "same mounts", "unknown", "not NixOS"],
)
def test_a_system_with_other_mounts_needs_a_restart(tmp_path: Path, os_id: str, booted: str, expected: bool) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text(FSTAB)
    guest = Guest(f"\n{os_id} \n\n\n\n\n\n{booted}")
    assert inspect(guest, str(tmp_path)).needs_restart is expected  # type: ignore[arg-type]


def test_of_a_system_that_is_not_built_nothing_is_known(tmp_path: Path) -> None:
    assert not inspection.needs_restart(FSTAB, str(tmp_path))


def test_a_machine_that_is_not_reached() -> None:
    guest = Guest(Unreachable("timed out", fix="Check the console."))
    assert inspect(guest, SYSTEM) == Machine(problem="timed out", fix="Check the console.")  # type: ignore[arg-type]


def test_the_script_itself() -> None:
    """On this machine, which is not NixOS."""
    done = subprocess.run(["sh", "-c", inspection._INSPECT], capture_output=True, text=True, check=True)
    assert len(done.stdout.split("\n")) == 8
    machine, booted_fstab = parse(done.stdout)
    assert machine.reachable
    assert booted_fstab == ""


def check_is_harmless(machine: Machine) -> None:
    paths = (machine.current_system, machine.booted_system, machine.profile, machine.registration)
    assert all(path is None or store_path(path) for path in paths)
    assert all(character.isalnum() or character in "._-" for character in machine.os_id + machine.variant_id)
    assert set(map(type, asdict(machine).values())) <= {bool, str, type(None)}


@pytest.mark.parametrize("text", TEXTS, ids=label)
def test_a_hostile_value_counts_as_missing(text: str) -> None:
    for line in range(7):
        lines = [UUID, "debian", "", SYSTEM, SYSTEM, SYSTEM, REGISTRATION]
        lines[line] = text
        check_is_harmless(parse("\n".join(lines))[0])


@given(st.text())
def test_any_answer_is_harmless(text: str) -> None:
    check_is_harmless(parse(text)[0])
