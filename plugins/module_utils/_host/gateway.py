# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains and storage volumes of libvirt: read, change, wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from .._domain.model import Observed
from .._domain.xml.document import DomainXml
from .._domain.xml.storage import pool_file, volume_xml
from .._errors import GatewayError, WaitTimeout
from .._untrusted import MOST_ADDRESSES, address
from .._waiting import wait_until
from . import libvirt_fixes, ports
from .agent import AGENT_TIMEOUT, GuestAgent
from .connection import observe_each, translated
from .networks import Networks

with suppress(ImportError):  # _apply/task.py reports a missing libvirt
    import libvirt

# A booting guest ignores the ACPI power button, so the request is repeated at this interval (seconds).
SHUTDOWN_INTERVAL = 10.0

# No lock keeps the tasks of other machines out (remote URI). A task defines within this time (seconds) after it has
# compared, or reports the delay, so a definition that is unchanged after this time was not overwritten.
SETTLING = 3.0

# Of virErrorNumber.
NO_DOMAIN = 42
INVALID = 92


def _addresses(domain: Any, source: int, order: Callable[[list[Any]], list[Any]] = list) -> list[str]:
    """What another machine may be reached at; the guest's agent and DHCP client say what they like."""
    try:
        interfaces = domain.interfaceAddresses(source)
    except libvirt.libvirtError:
        return []
    entries = (entry for values in interfaces.values() for entry in order(values["addrs"] or []))
    reported = (address(entry["addr"]) for entry in islice(entries, MOST_ADDRESSES))
    return list(dict.fromkeys(found for found in reported if found))


def _newest_first(leases: list[Any]) -> list[Any]:
    """IPv4 first. libvirt appends a new lease; that of a system which was installed over stays until it expires."""
    newest_first = leases[::-1]
    return sorted(newest_first, key=lambda lease: int(lease["type"]))


class Gateway(Networks):
    """The domains, storage volumes and virtual networks of one connection."""

    # Reading.

    def observe(self, name: str) -> Observed:
        """The domain as it is now."""
        domain = self._find(name)
        return Observed(name) if domain is None else self._observe(domain)

    def observe_all(self) -> dict[str, Observed]:
        """All domains by name."""
        with translated("cannot list domains"):
            domains = self._connection.listAllDomains()
        return observe_each(domains, self._observe, NO_DOMAIN)

    def _observe(self, domain: Any) -> Observed:
        name = domain.name()
        with translated("cannot read the domain", name):
            active = bool(domain.isActive())
            live = DomainXml(domain.XMLDesc(0)) if active else None
            persistent = bool(domain.isPersistent())
            return Observed(
                name,
                persistent=DomainXml(self._persistent_text(domain)) if persistent else None,
                live=live,
                run_state=self._run_state(domain),
                autostart=persistent and bool(domain.autostart()),
                saved=DomainXml(domain.managedSaveGetXMLDesc(0)) if domain.hasManagedSaveImage() else None,
            )

    @staticmethod
    def _persistent_text(domain: Any) -> str:
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))

    @staticmethod
    def _run_state(domain: Any) -> str:
        state = domain.state()[0]
        if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
            return "paused"
        return "running" if domain.isActive() else "stopped"

    def volume(self, pool: str, name: str) -> tuple[int, bool] | None:
        """Size of a storage volume in MiB and whether it looks like qcow2 to libvirt; None when it does not exist."""
        volume = self._find_volume(pool, name)
        if volume is None:
            return None
        with translated(f"cannot read volume {pool}/{name}"):
            return int(volume.info()[1]) // 2**20, "<format type='qcow2'/>" in volume.XMLDesc(0)

    def volume_path(self, pool: str, name: str) -> str | None:
        """The file of a storage volume, which need not exist yet; None where libvirt does not know it."""
        with suppress(GatewayError, libvirt.libvirtError):
            volume, found = self._find_volume(pool, name), self._connection.storagePoolLookupByName(pool)
            return str(volume.path()) if volume else pool_file(found.XMLDesc(0), name)
        return None

    def addresses(self, name: str) -> list[str]:
        """The IP addresses of a running domain, from DHCP leases (the newest first), else from the guest agent.

        The agent may name another machine: the addresses of this one and those that other guests have leased are left
        out.
        """
        domain = self._find(name)
        if domain is None:
            return []
        leased = _addresses(domain, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, _newest_first)
        if leased:
            return leased
        self._limit_agent(domain)
        reported = _addresses(domain, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
        others = self._leased() if reported else set()
        return [found for found in reported if found not in others and (self.is_remote or not ports.is_own(found))]

    def _leased(self) -> set[str]:
        """All addresses that libvirt's networks have leased."""
        with suppress(libvirt.libvirtError):  # a driver without networks
            networks = self._connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
            return {lease["ipaddr"] for network in networks for lease in network.DHCPLeases()}
        return set()

    def agent(self, name: str) -> GuestAgent:
        """The guest agent of a domain."""
        import libvirt_qemu  # only this call needs it

        def ask(question: str) -> Any:
            try:
                domain = self._find(name)
                return domain and libvirt_qemu.qemuAgentCommand(domain, question, AGENT_TIMEOUT, 0)
            except libvirt.libvirtError:
                return None

        return GuestAgent(ask)

    @staticmethod
    def _limit_agent(domain: Any) -> None:
        """Have libvirt itself give up on a silent agent (libvirt 5.10; it waits indefinitely otherwise)."""
        with suppress(libvirt.libvirtError):  # no agent, or not running any more
            domain.agentSetResponseTimeout(AGENT_TIMEOUT, 0)

    # Changing.

    def define(self, document: DomainXml, expected: DomainXml | None) -> DomainXml:
        """Define a domain, validated against libvirt's schema; returns what libvirt made of it.

        ``expected`` is the definition the change was planned on; when another tool has changed it since, nothing is
        overwritten.
        """
        name = document.name or ""
        began = time.monotonic()
        current = self.observe(name).persistent
        if (current and current.digest()) != (expected and expected.digest()):
            raise GatewayError(
                "the definition was changed by another tool while this task was running",
                domain=name,
                fix="Run the task again.",
            )
        with translated("cannot define the domain", name, libvirt_fixes.DEFINE):
            try:
                domain = self._define_valid(document)
            except libvirt.libvirtError as error:
                if not expected or error.get_error_code() != INVALID or self._is_valid(expected):
                    raise
                domain = self._connection.defineXMLFlags(document.text(), 0)
            defined = DomainXml(self._persistent_text(domain))
        if self.is_remote and time.monotonic() - began > SETTLING:
            raise GatewayError(
                f"libvirt took more than {SETTLING:g} s to define the domain, which may have overwritten the definition"
                " of another machine's task",
                domain=name,
                fix="Run the task again, and then the tasks of other machines that change the domain.",
            )
        return defined

    def settle(self) -> None:
        """Wait until every task that has compared a definition before this one's last change has defined its own."""
        time.sleep(SETTLING)

    def _define_valid(self, document: DomainXml) -> Any:
        return self._connection.defineXMLFlags(document.text(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def _is_valid(self, definition: DomainXml) -> bool:
        """Whether libvirt's schema takes a definition that libvirt has: only another tool's may lack that."""
        try:
            self._define_valid(definition)
        except libvirt.libvirtError as error:
            if error.get_error_code() != INVALID:
                raise
            return False
        return True

    def undefine(self, name: str, remove_nvram: bool, remove_tpm_state: bool) -> None:
        """Undefine, together with what only libvirt knows of: managed save and the metadata of snapshots."""
        flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        )
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM if remove_nvram else libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        if self.libvirt_version() >= 8009000:  # before, the TPM state was always removed together with the domain
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_TPM if remove_tpm_state else libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
        with translated("cannot undefine the domain", name):
            self._domain(name).undefineFlags(flags)

    def start(self, name: str) -> None:
        with translated("cannot start the domain", name):
            domain = self._domain(name)
            domain.create()
            if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:  # as it was when it was saved
                domain.resume()

    def resume(self, name: str) -> None:
        with translated("cannot resume the domain", name):
            domain = self._domain(name)
            if domain.state()[0] == libvirt.VIR_DOMAIN_PMSUSPENDED:
                domain.pMWakeup()
            else:
                domain.resume()

    def destroy(self, name: str) -> None:
        """Pull the plug."""
        with translated("cannot stop the domain", name):
            self._domain(name).destroy()

    def shutdown(self, name: str, timeout: float, force: bool) -> None:
        """Ask the guest to power off and wait until it did; with ``force``, pull the plug after the timeout."""
        if self.observe(name).run_state == "paused":
            self.resume(name)
        asked = -SHUTDOWN_INTERVAL

        def is_off() -> bool | None:
            nonlocal asked
            if not self.observe(name).is_active:
                return True
            if time.monotonic() - asked >= SHUTDOWN_INTERVAL:
                self._ask_to_power_off(name)
                asked = time.monotonic()
            return None

        timeout_error = WaitTimeout(
            f"the guest did not power off within {timeout:g} s",
            domain=name,
            fix="Increase shutdown_timeout, or set force_stop to power the domain off.",
        )
        try:
            wait_until(is_off, timeout, lambda: timeout_error)
        except WaitTimeout:
            if not force:
                raise
            self.destroy(name)

    def _ask_to_power_off(self, name: str) -> None:
        try:
            self._domain(name).shutdown()
        except libvirt.libvirtError as error:
            # The guest has powered off since, or QEMU is about to end: the domain is active, and not running.
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID and self.observe(name).is_active:
                raise GatewayError(f"cannot shut the domain down: {error}", domain=name) from error

    def set_autostart(self, name: str, enabled: bool) -> None:
        with translated("cannot set autostart", name):
            self._domain(name).setAutostart(int(enabled))

    def attach(self, name: str, xml: str) -> None:
        """Hot plug a device into the running domain."""
        with translated("cannot attach the share to the running domain", name):
            self._domain(name).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def detach_share(self, name: str, tag: str, xml: str, timeout: float) -> None:
        """Hot unplug a share and wait until it is gone: libvirt returns while the guest still has to let go."""
        with translated("cannot detach the share from the running domain", name):
            try:
                self._domain(name).detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            except libvirt.libvirtError as error:
                if "already in the process of unplug" not in str(error.get_error_message()):
                    raise  # otherwise the guest has been asked by an earlier run, and may still answer

        def gone() -> bool | None:
            live = self.observe(name).live
            return True if live is None or tag not in live.shares() else None

        wait_until(
            gone,
            timeout,
            lambda: WaitTimeout(
                f"the guest did not release the share within {timeout:g} s",
                domain=name,
                share=tag,
                fix="Unmount the share in the guest (a booting guest cannot answer), then run the task again.",
            ),
        )

    def change_medium(self, name: str, path: str) -> None:
        """Change the medium of the running domain's CD-ROM drive; an empty path ejects it."""
        live = self.observe(name).live
        if live is not None:
            live.set_medium(path)
            with translated("cannot change the medium", name):
                self._domain(name).updateDeviceFlags(live.medium_text(), libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def resize_disk(self, name: str, target: str, size: int) -> None:
        """Grow a disk of the running domain to ``size`` MiB."""
        with translated(f"cannot grow disk {target}", name):
            self._domain(name).blockResize(target, size * 2**20, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def create_volume(self, pool: str, name: str, size: int, image_format: str, *base: str | None) -> None:
        """Create a volume of ``size`` MiB; ``base`` is a backing image and its format."""
        with translated(f"cannot create volume {pool}/{name}"):
            text = volume_xml(name, size, image_format, *base)
            self._connection.storagePoolLookupByName(pool).createXML(text)

    def resize_volume(self, pool: str, name: str, size: int) -> None:
        """Grow a volume to ``size`` MiB."""
        with translated(f"cannot grow volume {pool}/{name}"):
            self._connection.storagePoolLookupByName(pool).storageVolLookupByName(name).resize(size * 2**20)

    def remove_volume(self, pool: str, name: str) -> None:
        with translated(f"cannot remove volume {pool}/{name}"):
            self._connection.storagePoolLookupByName(pool).storageVolLookupByName(name).delete()

    def _find(self, name: str) -> Any:
        try:
            return self._connection.lookupByName(name)
        except libvirt.libvirtError as error:
            code = error.get_error_code() or 0
            if code == NO_DOMAIN:
                return None
            raise GatewayError(f"cannot find the domain: {error}", code=code, domain=name) from error

    def _domain(self, name: str) -> Any:
        return self._connection.lookupByName(name)

    def _find_volume(self, pool: str, name: str) -> Any:
        with translated(f"cannot open storage pool {pool}"):
            found = self._connection.storagePoolLookupByName(pool)
        with translated(f"cannot look volume {pool}/{name} up"):
            try:
                return found.storageVolLookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise
        return None
