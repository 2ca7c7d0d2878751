# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx's settings for the documentation site, which scripts/docs builds."""

from __future__ import annotations

from typing import Any

from docutils import nodes

project = "keystone.virtiofs"
author = copyright = "keystone contributors (@ncrmro)"  # noqa: A001  # Sphinx's name for it

extensions = ["myst_parser", "sphinx_antsibull_ext"]
# Headings can be linked to, as on GitHub.
myst_heading_anchors = 3
root_doc = "docs/index"
default_role = "any"

html_theme = "furo"  # light and dark
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = project
html_copy_source = False
html_show_sphinx = False
html_use_index = False

# Link targets of antsibull-docs in Ansible's own documentation, which is out of reach when this is built.
ANSIBLE = "https://docs.ansible.com/ansible/latest"
ELSEWHERE = {
    "action_plugins": f"{ANSIBLE}/plugins/action.html",
    "callback_plugins": f"{ANSIBLE}/plugins/callback.html",
    "ansible_configuration_settings": f"{ANSIBLE}/reference_appendices/config.html",
    "common_return_values": f"{ANSIBLE}/reference_appendices/common_return_values.html",
}


def link_elsewhere(_app: Any, _environment: Any, target: Any, text: Any) -> nodes.reference | None:
    """A link to a page of Ansible's own documentation; None for any other target."""
    address = ELSEWHERE.get(target.get("reftarget"))
    return nodes.reference("", "", text, refuri=address) if address else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", link_elsewhere)
