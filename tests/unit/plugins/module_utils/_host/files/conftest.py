# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtiofsd that can be run, and the table of mounts with what mounts it at boot."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import lock
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import mount_table

MOUNTS = Path(__file__).parents[6] / "roles/host/files/keystone-mounts"


@pytest.fixture
def daemon(tmp_path: Path) -> Path:
    """A virtiofsd that prints its arguments, in a place that needs quoting."""
    file = tmp_path / "lib exec'/virtiofsd"
    file.parent.mkdir()
    file.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture(autouse=True)
def _locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests have nothing to do with tasks that run on this host."""
    directory = tmp_path_factory.mktemp("locks")
    monkeypatch.setattr(lock, "_directory", lambda: directory)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "state/mounts"
    monkeypatch.setattr(mount_table, "TABLE", file)
    return file


@pytest.fixture
def boot(table: Path) -> Callable[[], int]:
    """Runs the program of the boot service; returns its exit status."""
    loader = SourceFileLoader("keystone_mounts", str(MOUNTS))
    specification = spec_from_loader(loader.name, loader)
    assert specification is not None
    program: Any = module_from_spec(specification)
    loader.exec_module(program)
    program.TABLE = table
    run: Callable[[], int] = program.main
    return run
