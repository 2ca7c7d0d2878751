# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of the options of the modules for NixOS guests."""

from __future__ import annotations

from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.options import check_options


def test_a_host_key_may_have_the_comment_of_a_pub_file() -> None:
    check_options({"name": "web", "host_key": "ssh-ed25519 AAAA root@web"})
