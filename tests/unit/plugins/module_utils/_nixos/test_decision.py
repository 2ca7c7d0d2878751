# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to which machine: the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.decision import (
    METHODS,
    Machine,
    Wanted,
    decide,
)

WANTED = "/nix/store/new-system"
OLD = "/nix/store/old-system"

ABSENT = Machine(domain="absent")
OFF = Machine(domain="off")
SILENT = Machine(problem="root@web port 22 is not reached by ssh: timed out", fix="Look at it.")
SILENT_VM = replace(SILENT, domain="running", boots_directly=True)
INSTALLER = Machine(reachable=True, os_id="nixos", variant_id="installer")
DEBIAN = Machine(reachable=True, os_id="debian")
DEBIAN_VM = replace(DEBIAN, domain="running")
NAMELESS = Machine(reachable=True)
SAME = Machine(reachable=True, os_id="nixos", current_system=WANTED, profile=WANTED)
OTHER = replace(SAME, current_system=OLD, profile=OLD)
# A power cut between activation and the change of what is booted next.
HALF_WAY = replace(SAME, profile=OLD)
# Booted from the host's store: its root is on tmpfs, so it has no profile.
DIRECT = Machine("running", boots_directly=True, reachable=True, os_id="nixos", current_system=WANTED)
DIRECT_OTHER = replace(DIRECT, current_system=OLD)

TABLE = {
    # what is found: what auto, install, switch and direct do; for a refusal, words of the message
    "absent": (ABSENT, "domain is absent", "domain is absent", "domain is absent", "boot"),
    "off": (OFF, "domain is off", "domain is off", "domain is off", "boot"),
    "off, booted directly before": (replace(OFF, boots_directly=True), "boot", "is off", "is off", "boot"),
    "silent": (SILENT, "timed out", "timed out", "timed out", "no VM of this host"),
    "silent VM": (SILENT_VM, "timed out", "timed out", "timed out", "timed out"),
    "installer": (INSTALLER, "install", "install", "no NixOS to switch", "no VM of this host"),
    "Debian": (DEBIAN, "runs debian, which", "runs debian, which", "runs debian: there is no", "no VM of this host"),
    "a VM with Debian": (DEBIAN_VM, "wipes with its", "wipes with its", "there is no NixOS", "boot"),
    "unknown": (NAMELESS, "an unknown system", "an unknown system", "an unknown system", "no VM of this host"),
    "same": (SAME, "none", "none", "none", "no VM of this host"),
    "other": (OTHER, "switch", "installed already", "switch", "no VM of this host"),
    "half-way": (HALF_WAY, "switch", "installed already", "switch", "no VM of this host"),
    "directly booted, same": (DIRECT, "none", "none", "none", "none"),
    "directly booted, other": (DIRECT_OTHER, "switch", "installed already", "switch", "switch"),
}


def outcome(machine: Machine, wanted: Wanted) -> str:
    """The action, or of a refusal all that is said."""
    try:
        return decide(machine, wanted).action
    except InvalidInput as error:
        return str(error)


@pytest.mark.parametrize("found", TABLE)
@pytest.mark.parametrize("method", METHODS)
def test_the_table(found: str, method: str) -> None:
    machine, *expected = TABLE[found]
    words = expected[METHODS.index(method)]
    said = outcome(machine, Wanted("web", WANTED, method))
    assert said == words or (" " in words and words in said)


@pytest.mark.parametrize("machine", [DEBIAN, NAMELESS])
@pytest.mark.parametrize("method", ["auto", "install"])
def test_another_system_is_wiped_with_consent_only(machine: Machine, method: str) -> None:
    assert "nixos_guest_wipe: [web]" in outcome(machine, Wanted("web", WANTED, method))
    assert outcome(machine, Wanted("web", WANTED, method, may_wipe=True)) == "install"


@pytest.mark.parametrize("machine", [SAME, OTHER, HALF_WAY])
@pytest.mark.parametrize("method", ["auto", "install"])
def test_an_installed_nixos_is_installed_anew_on_request_and_with_consent_only(machine: Machine, method: str) -> None:
    assert outcome(machine, Wanted("web", WANTED, method, may_wipe=True)) != "install"
    assert "nixos_guest_wipe: [web]" in outcome(machine, Wanted("web", WANTED, method, reinstall=True))
    assert outcome(machine, Wanted("web", WANTED, method, may_wipe=True, reinstall=True)) == "install"


@pytest.mark.parametrize("machine", [SILENT, SILENT_VM, ABSENT, OFF])
def test_no_consent_helps_where_nothing_is_known(machine: Machine) -> None:
    assert outcome(machine, Wanted("web", WANTED, "install", may_wipe=True, reinstall=True)) != "install"


@pytest.mark.parametrize("method", ["switch", "direct"])
@pytest.mark.parametrize("machine", [SAME, OTHER, DEBIAN, INSTALLER, DIRECT])
def test_switch_and_direct_never_install(machine: Machine, method: str) -> None:
    assert outcome(machine, Wanted("web", WANTED, method, may_wipe=True, reinstall=True)) != "install"
