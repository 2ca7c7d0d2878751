# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file of the host in a document, with who writes to it."""

from __future__ import annotations

import re

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.files import File
from ansible_collections.keystone.virtiofs.tests.unit.support import FIXTURES, GENERATIONS, dumped_names, observed

CHAIN = "<backingStore><source file='/b'/><backingStore><source file='/c'/></backingStore></backingStore>"
STATE = "/var/lib/keystone-virtiofs/domains/vm"


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (
            "<os><kernel>/k</kernel><initrd>/i</initrd><cmdline>/no</cmdline></os>",
            [File("kernel", "/k"), File("initrd", "/i")],
        ),
        (
            "<os><loader readonly='yes'>/l</loader><nvram template='/t'>/n</nvram></os>",
            [File("loader", "/l"), File("nvram", "/t"), File("nvram", "/n", is_written=True)],
        ),
        ("<os><nvram><source file='/n'/></nvram></os>", [File("nvram", "/n", is_written=True)]),
        (
            "<devices><disk device='cdrom'><source file='/a//b/'/></disk></devices>",
            [File("iso", "/a/b", is_shared=True)],
        ),
        ("<devices><disk><source file='/a'/></disk></devices>", [File("disk", "/a", is_written=True)]),
        ("<devices><disk><source dev='/a'/><readonly/></disk></devices>", [File("disk", "/a", is_shared=True)]),
        (
            f"<devices><disk><source file='/a'/><shareable/>{CHAIN}</disk></devices>",
            [File("disk", "/a", is_written=True, is_shared=True), File("backing", "/b"), File("backing", "/c")],
        ),
        (
            "<devices><disk type='volume'><source pool='p' volume='v'/></disk></devices>",
            [File("disk", "p/v", is_written=True)],
        ),
        (
            "<devices><serial type='pty'><log file='/a'/></serial></devices>",
            [File("serial_log", "/a", is_written=True)],
        ),
        (
            "<devices><channel type='file'><source path='/a'/></channel></devices>",
            [File("serial_log", "/a", is_written=True)],
        ),
        (
            "<devices><filesystem><source dir='/a'/><target dir='/t'/></filesystem></devices>",
            [File("source", "/a", "/t", is_written=True)],
        ),
        (
            f"<devices><filesystem><source dir='{STATE}/ro/%2Fa'/><target dir='t'/></filesystem></devices>",
            [File("source", "/a", "t")],
        ),
        (
            "<devices><filesystem><source socket='/s'/><target dir='t'/></filesystem></devices>",
            [File("socket", "/s", "t")],
        ),
        ("<devices><memory><source><path>/a</path></source></memory></devices>", [File("path", "/a")]),
        ("<!-- /c --><description>/d</description><devices><rng><backend>/dev/urandom</backend></rng></devices>", []),
    ],
)
def test_kinds(xml: str, expected: list[File]) -> None:
    assert DomainXml(f"<domain>{xml}</domain>").files() == expected


@pytest.mark.parametrize("generation", GENERATIONS)
def test_no_path_of_a_real_domain_is_missed(generation: str) -> None:
    for name in dumped_names(generation):
        is_running = (FIXTURES / generation / f"{name}.live.xml").exists()
        for document in observed(generation, name, running=is_running).documents:
            paths = re.findall(r"""(?:file|path|dev|template|socket)=["'](/[^"']+)""", document.text())
            assert set(paths) <= {file.path for file in document.files()}
