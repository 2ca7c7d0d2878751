# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import daemons

SHARES = {
    "store": daemons.Share("fs0", "/nix/store"),
    "data": daemons.Share("fs1", "/srv/data"),
    "more": daemons.Share("fs10", "/srv/more"),
}


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
    assert daemons.dead_shares("7", SHARES, session=False) == ["data", "more"]


def test_other_domains_and_unknown_daemons_are_none_of_its_business(host: Path) -> None:
    assert daemons.dead_shares("70", SHARES, session=False) == []
    assert daemons.dead_shares("7", {"external": daemons.Share("fs2", "")}, session=False) == []
    assert daemons.dead_shares(None, SHARES, session=False) == []


def test_a_domain_runs_since_its_first_daemon(host: Path) -> None:
    now = time.time()
    for alias, age in {"fs0": 100, "fs1": 40, "fs10": 70}.items():
        os.utime(host / f"7-my-vm-{alias}-fs.pid", (now - age, now - age))
    assert daemons.running_for("7", SHARES.values(), session=False) in (100, 101)
    assert daemons.running_for("70", SHARES.values(), session=False) is None
    assert daemons.running_for(None, SHARES.values(), session=False) is None


def test_a_damaged_file_is_no_daemon(host: Path) -> None:
    (host / "7-my-vm-fs0-fs.pid").write_text("x")
    assert "store" in daemons.dead_shares("7", SHARES, session=False)


@pytest.fixture
def source(host: Path, tmp_path: Path) -> Path:
    """A directory that the living daemon serves from its sandbox, in which its child runs."""
    source = tmp_path / "source"
    source.mkdir()
    serve(tmp_path / "proc/100", source, child="200")
    return source


def serve(process: Path, directory: Path, child: str) -> None:
    """In sandbox namespace of the older virtiofsd, only the child has the directory as its root."""
    (process / "root").symlink_to("/")
    (process / f"task/{process.name}").mkdir(parents=True)
    (process / f"task/{process.name}/children").write_text(f"{child} ")
    inner = process.parent / child
    inner.mkdir()
    (inner / "root").symlink_to(directory)


def stale(source: Path) -> list[str]:
    return daemons.stale_shares("7", {"store": daemons.Share("fs0", str(source))}, session=False)


def test_a_daemon_serves_its_source(source: Path) -> None:
    assert stale(source) == []


def test_a_source_that_was_replaced_is_noticed(source: Path) -> None:
    source.rename(source.with_name("old"))
    source.symlink_to("old")
    assert stale(source) == []
    source.unlink()
    source.mkdir()
    (source.parent / "proc/200/root").unlink()
    (source.parent / "proc/200/root").symlink_to(source.with_name("old"))
    assert stale(source) == ["store"]
    source.rmdir()
    assert stale(source) == ["store"]


def test_without_a_sandbox_nothing_is_known(host: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "proc/200/root").unlink()
    assert stale(tmp_path) == []
    assert daemons.stale_shares("7", {"external": daemons.Share("fs2", "")}, session=False) == []
