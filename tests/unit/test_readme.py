# SPDX-License-Identifier: GPL-3.0-or-later
"""The README as Galaxy shows it, with absolute links to existing files, and the page of playbooks: both complete."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PLAYBOOKS = sorted({path.stem for path in CHECKOUT.glob("playbooks/*.yml") if "-" not in path.stem} - {"inventory"})
README = (CHECKOUT / "README.md").read_text()
PROJECT = re.compile(
    r"https://(?:github\.com/ncrmro/keystone/blob|raw\.githubusercontent\.com/ncrmro/keystone)/main/(.+)"
)


def test_links_lead_to_existing_files() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    files = [found[1] for link in links if (found := PROJECT.fullmatch(link))]
    assert [link for link in links if not link.startswith("https://")] == []
    assert len(files) > 20
    assert [name for name in files if not (CHECKOUT / name).is_file()] == []


def test_every_role_module_and_playbook_is_listed() -> None:
    modules = (path.stem for path in CHECKOUT.glob("plugins/modules/*.py"))
    roles = (path.name for path in CHECKOUT.glob("roles/*"))
    assert [name for name in (*PLAYBOOKS, *modules, *roles) if f"`{name}`" not in README] == []


def test_every_playbook_has_a_section() -> None:
    headings = re.findall(r"^## `(\w+)`$", (CHECKOUT / "docs/playbooks.md").read_text(), re.MULTILINE)
    assert sorted(headings) == PLAYBOOKS
