# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import daemons

ALIASES = {"store": "fs0", "data": "fs1", "more": "fs10"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Domain 7 with three shares: one daemon lives, one has ended, another program has the number of the third."""
    run, proc = tmp_path / "run", tmp_path / "proc"
    run.mkdir()
    for number, (alias, comm) in enumerate({"fs0": "virtiofsd", "fs1": "", "fs10": "bash"}.items(), 100):
        (run / f"7-my-vm-{alias}-fs.pid").write_text(f"{number}\n")
        if comm:
            (proc / str(number)).mkdir(parents=True)
            (proc / str(number) / "comm").write_text(f"{comm}\n")
    monkeypatch.setattr(daemons, "_SYSTEM", run)
    monkeypatch.setattr(daemons, "_PROC", proc)
    return run


def test_a_daemon_that_has_ended_is_noticed(host: Path) -> None:
    assert daemons.dead_shares("7", ALIASES, session=False) == ["data", "more"]


def test_other_domains_and_unknown_daemons_are_none_of_its_business(host: Path) -> None:
    assert daemons.dead_shares("70", ALIASES, session=False) == []
    assert daemons.dead_shares("7", {"external": "fs2"}, session=False) == []
    assert daemons.dead_shares(None, ALIASES, session=False) == []


def test_a_damaged_file_is_no_daemon(host: Path) -> None:
    (host / "7-my-vm-fs0-fs.pid").write_text("x")
    assert "store" in daemons.dead_shares("7", ALIASES, session=False)
