# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import settings

# No file in the checkout, and no failure because the machine is busy.
settings.register_profile("project", database=None, deadline=None)
settings.load_profile("project")
