# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for libvirt-python's connections and domains: the methods that the gateway calls, and no others.

The gateway itself is the real one. A domain has a persistent definition, a live one, or both; a managed save keeps the
live one. A guest that does not respond neither powers off nor releases a device until it does again.
"""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any, Protocol

import libvirt

from ansible_collections.keystone.virtiofs.tests.unit.simulation import definitions
from ansible_collections.keystone.virtiofs.tests.unit.simulation.definitions import Element, error


class Programs(Protocol):
    """QEMU and virtiofsd; both raise when they would not start."""

    def may_start(self, live: Element) -> None: ...

    def may_share(self, share: Element) -> None: ...


class Libvirt:
    """libvirtd of one host."""

    def __init__(self, version: int, virtiofsd: str, programs: Programs) -> None:
        self.version = version
        self.virtiofsd = virtiofsd
        self.programs = programs
        self.domains: dict[str, Domain] = {}
        self.inactive_pools: set[str] = set()
        self.started = 0

    # virConnect

    def close(self) -> None:
        pass

    def getLibVersion(self) -> int:  # noqa: N802 - libvirt's name, like all below
        return self.version

    def getInfo(self) -> list[Any]:  # noqa: N802
        return ["x86_64", 16384, 4]

    def getMaxVcpus(self, _kind: str) -> int:  # noqa: N802
        return 288

    def getCPUModelNames(self, _architecture: str) -> list[str]:  # noqa: N802
        return ["qemu64"]

    def listAllNetworks(self) -> list[Network]:  # noqa: N802
        return [Network()]

    def listAllDomains(self) -> list[Domain]:  # noqa: N802
        return list(self.domains.values())

    def lookupByName(self, name: str) -> Domain:  # noqa: N802
        if name not in self.domains:
            raise error(definitions.NO_DOMAIN, f"Domain not found: no domain with matching name '{name}'")
        return self.domains[name]

    def defineXMLFlags(self, text: str, _flags: int) -> Domain:  # noqa: N802
        root = definitions.parse(text)
        name, uuid = root.findtext("name"), root.findtext("uuid")
        existing = self.domains.get(name)
        if existing and existing.uuid != uuid:
            raise error(definitions.OPERATION_FAILED, f"operation failed: domain '{name}' already exists with uuid")
        definition = definitions.complete(root, self.version)
        domain = self.domains.setdefault(name, existing or Domain(self, name, definition.findtext("uuid")))
        domain.persistent = definition
        return domain

    def storagePoolLookupByName(self, pool: str) -> Pool:  # noqa: N802
        if pool not in self.inactive_pools:
            raise error(libvirt.VIR_ERR_NO_STORAGE_POOL, f"no storage pool with matching name '{pool}'")
        return Pool(pool)


class Network:
    """libvirt's default network."""

    def name(self) -> str:
        return "default"

    def isActive(self) -> int:  # noqa: N802
        return 1


class Pool:
    """A storage pool that is not active; the simulated host has no others."""

    def __init__(self, name: str) -> None:
        self._name = name

    def storageVolLookupByName(self, _volume: str) -> None:  # noqa: N802
        raise error(
            definitions.OPERATION_INVALID,
            f"Requested operation is not valid: storage pool '{self._name}' is not active",
        )


class Domain:
    """A domain, and the guest in it."""

    def __init__(self, connection: Libvirt, name: str, uuid: str) -> None:
        self._connection = connection
        self._name = name
        self.uuid = uuid
        self.persistent: Element | None = None
        self.live: Element | None = None
        self.saved: Element | None = None
        self.is_paused = False
        self.starts_with_host = False
        self.responds = True
        self.releasing: set[str] = set()  # tags that the guest has been asked to release

    # virDomain: reading

    def name(self) -> str:
        return self._name

    def isActive(self) -> int:  # noqa: N802
        self._require_existence()
        return int(self.live is not None)

    def isPersistent(self) -> int:  # noqa: N802
        return int(self.persistent is not None)

    def autostart(self) -> int:
        return int(self.starts_with_host)

    def hasManagedSaveImage(self) -> int:  # noqa: N802
        return int(self.saved is not None)

    def state(self) -> list[int]:
        if self.live is None:
            return [libvirt.VIR_DOMAIN_SHUTOFF, 0]
        return [libvirt.VIR_DOMAIN_PAUSED if self.is_paused else libvirt.VIR_DOMAIN_RUNNING, 0]

    def XMLDesc(self, flags: int) -> str:  # noqa: N802
        self._require_existence()
        wants_persistent = flags & libvirt.VIR_DOMAIN_XML_INACTIVE or self.live is None
        root = self.persistent if wants_persistent and self.persistent is not None else self.live
        return definitions.text_of(root)

    def interfaceAddresses(self, _source: int) -> dict[str, Any]:  # noqa: N802
        return {}

    def agentSetResponseTimeout(self, _timeout: int, _flags: int) -> None:  # noqa: N802
        pass

    # virDomain: changing

    def create(self) -> None:
        self._require(self.live is None, "domain is already running")
        root = self.persistent if self.saved is None else self.saved
        live = definitions.start(root, self._connection.started + 1, self._connection.virtiofsd)
        self._connection.programs.may_start(live)
        self._connection.started += 1
        self.is_paused = self.saved is not None and self.is_paused
        self.live, self.saved, self.responds = live, None, True
        self.releasing = set()

    def suspend(self) -> None:
        self._require_running()
        self.is_paused = True

    def resume(self) -> None:
        self._require_running()
        self.is_paused = False
        self._release()

    def shutdown(self) -> None:
        self._require_running()
        if self.responds and not self.is_paused:
            self.destroy()

    def destroy(self) -> None:
        self._require_running()
        self.live = None
        self._forget_if_gone()

    def managedSave(self) -> None:  # noqa: N802
        self._require_running()
        self._require(self.persistent is not None, "cannot do managed save for transient domain")
        self.saved, self.live = self.live, None

    def managedSaveGetXMLDesc(self, _flags: int) -> str:  # noqa: N802
        return definitions.text_of(self.saved)

    def managedSaveRemove(self) -> None:  # noqa: N802
        self.saved = None

    def setAutostart(self, enabled: int) -> None:  # noqa: N802
        self._require(self.persistent is not None, "cannot set autostart for transient domain")
        self.starts_with_host = bool(enabled)

    def undefineFlags(self, flags: int) -> None:  # noqa: N802
        self._require(self.persistent is not None, "cannot undefine transient domain")
        discards = flags & libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        self._require(
            self.saved is None or bool(discards), "Refusing to undefine while domain managed save image exists"
        )
        self.persistent, self.saved, self.starts_with_host = None, None, False
        self._forget_if_gone()

    def attachDeviceFlags(self, text: str, flags: int) -> None:  # noqa: N802
        share = definitions.parse(text)
        if flags & libvirt.VIR_DOMAIN_AFFECT_CONFIG:
            self._require(self.persistent is not None, "cannot modify device on transient domain")
            changed = deepcopy(self.persistent)
            changed.find("devices").append(deepcopy(share))
            self.persistent = definitions.complete(changed, self._connection.version)
        if flags & libvirt.VIR_DOMAIN_AFFECT_LIVE:
            self._require_running()
            live = deepcopy(self.live)
            definitions.plug(live, share, self._connection.virtiofsd)
            definitions.check_shares(live, self._connection.version)
            self._connection.programs.may_share(share)
            self.live = live

    def detachDeviceFlags(self, text: str, flags: int) -> None:  # noqa: N802
        tag = definitions.parse(text).find("target").get("dir")
        if flags & libvirt.VIR_DOMAIN_AFFECT_CONFIG:
            self._require(self.persistent is not None, "cannot modify device on transient domain")
            self._remove(self.persistent, tag)
        if flags & libvirt.VIR_DOMAIN_AFFECT_LIVE:
            self._require_running()
            if tag not in definitions.virtiofs(self.live):
                raise error(definitions.DEVICE_MISSING, "device not found: matching filesystem device wasn't found")
            if tag in self.releasing:
                raise error(INTERNAL_UNPLUG, "device is already in the process of unplug")
            self.releasing.add(tag)
            self._release()

    def blockResize(self, target: str, size: int, _flags: int) -> None:  # noqa: N802
        self._require_running()
        disk = self.live.find(f"devices/disk/target[@dev='{target}']/../source")
        os.truncate(disk.get("file"), size)

    # What outside events need.

    def respond(self, responds: bool) -> None:
        """The guest stops responding, or goes on."""
        self.responds = responds
        if self.live is not None:
            self._release()

    def _release(self) -> None:
        if self.responds and not self.is_paused:
            for tag in self.releasing:
                self._remove(self.live, tag)
            self.releasing = set()

    def _remove(self, root: Element, tag: str) -> None:
        share = definitions.virtiofs(root).get(tag)
        if share is not None:
            root.find("devices").remove(share)

    def _forget_if_gone(self) -> None:
        if self.persistent is None and self.live is None:
            del self._connection.domains[self._name]

    def _require_existence(self) -> None:
        if self.persistent is None and self.live is None:
            raise error(definitions.NO_DOMAIN, f"Domain not found: no domain with matching uuid '{self.uuid}'")

    def _require_running(self) -> None:
        self._require(self.live is not None, "domain is not running")

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise error(definitions.OPERATION_INVALID, f"Requested operation is not valid: {message}")


INTERNAL_UNPLUG = definitions.INTERNAL
