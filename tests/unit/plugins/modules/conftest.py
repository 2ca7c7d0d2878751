# SPDX-License-Identifier: GPL-3.0-or-later
"""The real modules, in this process, against libvirt's own test driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import libvirt
import pytest
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import kvm, lock, probe
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import nosuid, state
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.gateway import Gateway
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.kvm import KvmProbe
from ansible_collections.keystone.virtiofs.tests.unit.support import TRIXIE

URI = "test:///default"
NO_URI = "no uri"  # for a module that has no such option
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[libvirt.virConnect]:
    """The test driver, alone in this process, on a host like Debian 13.

    Its state lives as long as a connection to it. It knows domains of type test only, takes two of the flags for
    undefining, does not read managed saves, and starts with a domain named test, which is removed.
    """
    monkeypatch.setattr(state, "state_root", lambda _session: str(tmp_path / ".local/share/keystone-virtiofs"))
    monkeypatch.setattr(probe, "find_virtiofsd", lambda _folders: TRIXIE.virtiofsd)
    monkeypatch.setattr(probe, "find_emulator", lambda: "/usr/bin/qemu-system-x86_64")
    monkeypatch.setattr(probe, "has_vsock", lambda: True)
    monkeypatch.setattr(kvm, "probe_kvm", lambda _emulator: KvmProbe(False, "this is a test"))
    monkeypatch.setattr(Gateway, "libvirt_version", lambda _gateway: TRIXIE.libvirt)
    # Nothing is mounted on this machine, and tasks that run on it have nothing to do with these tests.
    monkeypatch.setattr(nosuid, "is_nosuid_by_itself", lambda _path: True)
    monkeypatch.setattr(lock, "exclusive", lambda _name: nullcontext())
    real_define, real_read = libvirt.virConnect.defineXMLFlags, libvirt.virDomain.XMLDesc
    real_undefine = libvirt.virDomain.undefineFlags
    monkeypatch.setattr(
        libvirt.virConnect,
        "defineXMLFlags",
        lambda self, text, flags: real_define(self, text.replace('<domain type="qemu"', '<domain type="test"'), flags),
    )
    monkeypatch.setattr(
        libvirt.virDomain,
        "XMLDesc",
        lambda self, flags: real_read(self, flags).replace("<domain type='test'", "<domain type='qemu'"),
    )
    monkeypatch.setattr(libvirt.virDomain, "undefineFlags", lambda self, flags: real_undefine(self, flags & 3))
    monkeypatch.setattr(libvirt.virDomain, "managedSaveGetXMLDesc", lambda self, flags=0: self.XMLDesc(flags))
    driver = libvirt.open(URI)
    driver.lookupByName("test").destroy()
    driver.lookupByName("test").undefine()
    yield driver
    driver.close()


@pytest.fixture
def run(connection: libvirt.virConnect, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a module's main with options; its result."""
    # Tests of plugins in the same process turn it into a controller, which displays warnings instead.
    monkeypatch.setattr(_internal, "is_controller", False)

    def run_module(module: ModuleType, *, check: bool = False, **options: Any) -> dict[str, Any]:
        warnings._global_warnings.clear()  # of the run before: a module is not made to run twice in one process
        arguments = {"uri": URI, **options, "_ansible_check_mode": check, "_ansible_diff": True}
        if arguments["uri"] == NO_URI:
            del arguments["uri"]
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


class Seen(NamedTuple):
    """All that a module could have changed."""

    domains: dict[str, tuple[str, list[int], int]]
    files: dict[str, bytes | None]


@pytest.fixture
def look(connection: libvirt.virConnect, tmp_path: Path) -> Callable[[], Seen]:
    """What libvirt and the disk hold now."""

    def see() -> Seen:
        return Seen(
            {
                domain.name(): (domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), domain.state(), domain.autostart())
                for domain in connection.listAllDomains()
            },
            {str(path): path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")},
        )

    return see
