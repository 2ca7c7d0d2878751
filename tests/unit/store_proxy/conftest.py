# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.support import DERIVATION, LIBRARY, SYSTEM, Proxy


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """Shows everything."""
    proxy = Proxy(tmp_path)
    proxy.daemon.start()
    yield proxy
    proxy.daemon.listener.close()


@pytest.fixture
def closure_only(tmp_path: Path) -> Iterator[Proxy]:
    """Shows the closure of a system, with the system's derivation."""
    proxy = Proxy(tmp_path, [LIBRARY, SYSTEM, DERIVATION])
    proxy.daemon.start()
    yield proxy
    proxy.daemon.listener.close()
