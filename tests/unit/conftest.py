# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of hypothesis, and private mounts."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

CLONE_NEWNS = 0x20000

# No file among the sources, and no failure because the machine is busy.
set_hypothesis_home_dir(str(Path(__file__).parents[2] / ".cache/hypothesis"))
settings.register_profile("project", database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("campaign", settings.get_profile("project"), max_examples=20_000)
settings.load_profile("project")


@pytest.fixture(scope="module")
def private_mounts() -> None:
    """Mounts of these tests are seen by this process only, and end with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        pytest.skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
