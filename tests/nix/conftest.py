# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import WORLDS, World


@pytest.fixture(params=WORLDS, ids=lambda world: world.name)
def world(request: pytest.FixtureRequest) -> World:
    """Every stand for NixOS that there is on this machine."""
    return request.param
