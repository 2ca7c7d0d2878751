# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply import mount_texts

NAMES = {
    "/mnt": "mnt.mount",
    "//mnt/./data/": "mnt-data.mount",
    "/srv/a-b c.d/50%": r"srv-a\x2db\x20c.d-50\x25.mount",
    "/.hidden/.too": r"\x2ehidden-.too.mount",
    "/home/jörg": r"home-j\xc3\xb6rg.mount",
    "/-f/@x:y_z": r"\x2df-\x40x:y_z.mount",
}


@pytest.mark.parametrize(("mount_point", "name"), NAMES.items())
def test_a_unit_is_named_as_systemd_requires(mount_point: str, name: str) -> None:
    assert mount_texts.unit_name(mount_point) == name
    if shutil.which("systemd-escape"):
        command = ["systemd-escape", "--path", "--suffix=mount", mount_point]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == name


def test_a_unit_has_no_specifiers() -> None:
    lines = mount_texts.unit_text("data", "/mnt/50% of it/").splitlines()
    assert lines[0] == mount_texts.MARK
    assert "Where=/mnt/50%% of it" in lines
    assert "What=data" in lines


def test_instructions_quote_what_they_name() -> None:
    assert mount_texts.instructions("a b", "/mnt/it's ${x}") == {
        "command": """mkdir -p '/mnt/it'"'"'s ${x}' && mount -t virtiofs 'a b' '/mnt/it'"'"'s ${x}'""",
        "fstab": r"a\040b /mnt/it's\040${x} virtiofs nofail 0 0",
        "nixos": 'fileSystems."/mnt/it\'s \\${x}" = { device = "a b"; fsType = "virtiofs"; options = [ "nofail" ]; };',
    }
