# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

# No file among the sources, and no failure because the machine is busy.
set_hypothesis_home_dir(str(Path(__file__).parents[2] / ".cache/hypothesis"))
settings.register_profile("project", database=None, deadline=None)
settings.load_profile("project")
