# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules do: observe, plan, execute the plan, wait, describe.

One Controller is one connection; it serves a task with one domain as well as one with a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Callable

from . import hostfs, planner, probe
from .domain_xml import DomainXml
from .errors import HostError, InvalidInput, VirtiofsError, WaitTimeout
from .features import Virtiofsd
from .gateway import Gateway, wait_until
from .planner import DiskImage, Host, Observed, Plan, disk_key

Options = Mapping[str, Any]
SSH_PORT = 22


class Controller:
    """Brings domains and shares to the wanted state over one connection to libvirt."""

    def __init__(self, uri: str, check_mode: bool) -> None:
        self._gateway = Gateway(uri)
        self._check_mode = check_mode
        self._state = hostfs.state_root(self._gateway.is_session)
        self._virtiofsd: Virtiofsd | None = None
        self._virtiofsd_sought = False
        self.warnings: list[str] = []

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *exception: object) -> None:
        self._gateway.__exit__(*exception)

    # What the modules call.

    def apply_domain(self, options: Options) -> dict[str, Any]:
        """Bring one domain to the wanted state; the module's return values."""
        return self._apply([options], purge=False)[options["name"]]

    def apply_domains(self, wanted: list[Options], purge: bool) -> dict[str, Any]:
        """Bring many domains to the wanted state. All are checked and planned before the first is touched."""
        names = [options["name"] for options in wanted]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidInput(f"listed twice: {', '.join(repeated)}", fix="List every domain once.")
        results = self._apply(wanted, purge)
        return {
            "changed": any(result["changed"] for result in results.values()),
            "restart_required": any(result["restart_required"] for result in results.values()),
            "diff": [result["diff"] for result in results.values() if result["changed"]],
            "domains": results,
        }

    def apply_share(self, options: Options) -> dict[str, Any]:
        """Bring one share of an existing domain to the wanted state."""
        planner.check_share(options)
        name = options["domain"]
        with self._exclusive():
            observed = self._gateway.observe(name)
            if options["state"] == "present":
                self._check_sources([options], name)
            plan = planner.plan_share(options, observed, self._host(name))
            self._execute(plan)
        return {**_outcome(plan), "domain": self._describe(name)}

    def describe_domains(self, names: Iterable[str] | None) -> dict[str, Any]:
        """Facts of the named domains, or of all; a domain that does not exist is left out."""
        observed = self._gateway.observe_all()
        chosen = observed if names is None else {name: observed[name] for name in names if name in observed}
        return {name: self._facts(domain) for name, domain in chosen.items()}

    # Planning.

    def _apply(self, wanted: list[Options], purge: bool) -> dict[str, dict[str, Any]]:
        for options in wanted:
            planner.check_domain(options)
        with self._exclusive():
            observed = self._observe([options["name"] for options in wanted], purge)
            plans = [self._plan_domain(options, observed[options["name"]]) for options in wanted]
            if purge:
                plans += self._plan_purge(observed, {options["name"] for options in wanted})
            for plan in plans:
                self._execute(plan)
        if not self._check_mode:
            for options in wanted:
                if options.get("wait_for"):
                    self._wait(options)
        return {plan.name: {**_outcome(plan), "domain": self._describe(plan.name)} for plan in plans}

    def _observe(self, names: list[str], purge: bool) -> dict[str, Observed]:
        """The named domains; with purge, or when there are several, all at once."""
        if len(names) == 1 and not purge:
            return {names[0]: self._gateway.observe(names[0])}
        return {**{name: Observed(name) for name in names}, **self._gateway.observe_all()}

    def _exclusive(self) -> AbstractContextManager[None]:
        """Check mode changes nothing, so it waits for nobody; another machine's lock is out of reach."""
        return nullcontext() if self._check_mode or self._gateway.is_remote else hostfs.exclusive()

    def _plan_domain(self, options: Options, observed: Observed) -> Plan:
        if options["state"] != "absent":
            self._check_files(options)
            options = planner.resolve_forwards(options, observed, self._port_is_taken(options["name"]))
        plan = planner.plan_domain(options, observed, self._host(options["name"], options, observed))
        self._check_conflicts(plan)
        self.warnings += plan.warnings
        return plan

    def _port_is_taken(self, name: str) -> Callable[[str, int], bool]:
        """Whether a port is in use, or promised to another domain."""
        promised: set[tuple[str, int]] | None = None

        def is_taken(address: str, port: int) -> bool:
            nonlocal promised
            if promised is None:
                promised = {
                    (forward["address"], forward["host_port"])
                    for other in self._gateway.observe_all().values()
                    for interface in (other.persistent.interfaces() if other.persistent else ())
                    for forward in interface["forwards"]
                    if other.name != name
                }
            taken = not self._gateway.is_remote and hostfs.is_port_taken(address, port)
            return taken or (address, port) in promised

        return is_taken

    def _plan_purge(self, observed: Mapping[str, Observed], listed: set[str]) -> list[Plan]:
        """Plans that remove the domains which this collection made and which are no longer listed."""
        return [
            planner.plan_domain(
                {"name": name, "state": "absent", "remove_nvram": False, "remove_tpm_state": False},
                domain,
                self._host(name),
            )
            for name, domain in sorted(observed.items())
            if name not in listed and domain.persistent is not None and domain.persistent.is_marked
        ]

    def _host(self, name: str, options: Options | None = None, observed: Observed | None = None) -> Host:
        options = options or {}
        local = not self._gateway.is_remote
        return Host(
            libvirt=self._gateway.libvirt_version(),
            virtiofsd=self._find_virtiofsd(),
            local=local,
            session=self._gateway.is_session,
            state=self._state,
            binds=hostfs.list_binds(self._state, name) if local else {},
            wrappers=hostfs.list_wrappers(self._state, name) if local else frozenset(),
            images=self._images(options),
            virt_type=self._virt_type(options, observed),
        )

    def _find_virtiofsd(self) -> Virtiofsd | None:
        if not self._virtiofsd_sought:
            self._virtiofsd_sought = True
            if self._gateway.is_remote:
                self._virtiofsd = Virtiofsd("virtiofsd", None)  # out of reach: libvirt itself will tell
            else:
                self._virtiofsd = probe.find_virtiofsd(probe.descriptor_dirs("vhost-user", self._gateway.is_session))
        return self._virtiofsd

    def _virt_type(self, options: Options, observed: Observed | None) -> str:
        """What virt_type auto means for a new domain: KVM where a QEMU really runs with it."""
        asked = options.get("virt_type") or "auto"
        if asked != "auto" or observed is None or observed.persistent is not None or options["state"] == "absent":
            return "qemu" if asked == "auto" else str(asked)
        if self._gateway.is_remote:
            return "kvm"
        emulator = probe.find_emulator()
        usable = probe.probe_kvm(emulator) if emulator else probe.KvmProbe(False, "there is no QEMU")
        if not usable.usable:
            self.warnings.append(
                f"domain {options['name']}: KVM is not usable ({usable.reason}), the guest is emulated (TCG) and slow"
            )
        return "kvm" if usable.usable else "qemu"

    def _images(self, options: Options) -> dict[str, DiskImage]:
        images = {}
        for disk in options.get("disks") or ():
            images[disk_key(disk)] = self._image(disk)
        for key in options.get("remove_storage") or ():
            pool, _slash, volume = key.partition("/")
            images[key] = self._image({"pool": pool, "volume": volume} if pool else {"path": key})
        return {key: image for key, image in images.items() if image is not None}

    def _image(self, disk: Options) -> DiskImage | None:
        if disk.get("pool"):
            return self._gateway.volume(disk["pool"], disk["volume"])
        # Files of another machine cannot be looked at: QEMU there will tell when one is missing.
        return (
            DiskImage(disk.get("size") or 0, disk.get("format") or "qcow2")
            if self._gateway.is_remote
            else hostfs.read_image(disk["path"])
        )

    # Checks that need the host.

    def _check_files(self, options: Options) -> None:
        name = options["name"]
        memory = self._gateway.memory()
        if options.get("memory") and options["memory"] > memory:
            raise InvalidInput(
                f"memory: {options['memory']} MiB is more than the host has ({memory} MiB)",
                fix="Give less.",
                domain=name,
            )
        vcpus = self._gateway.max_vcpus()
        if options.get("vcpus") and vcpus and options["vcpus"] > vcpus:
            raise InvalidInput(
                f"vcpus: {options['vcpus']} is more than QEMU gives a guest here ({vcpus})",
                fix="Give fewer.",
                domain=name,
            )
        self._check_sources(options.get("shares") or (), name)
        if self._gateway.is_remote:
            return
        for option in ("kernel", "initrd", "iso"):
            if options.get(option) and not hostfs.is_file(options[option]):
                raise InvalidInput(f"{option}: {options[option]} is not a file", fix="Correct the path.", domain=name)

    def _check_sources(self, shares: Iterable[Options], name: str) -> None:
        if self._gateway.is_remote:
            return
        for share in shares:
            if share.get("source"):
                try:
                    hostfs.check_source(share["source"])
                except VirtiofsError as error:
                    error.domain, error.share = name, share["tag"]
                    raise

    def _check_conflicts(self, plan: Plan) -> None:
        """Refuse to take, or to remove, what belongs to another domain."""
        defined = next((action.document for action in plan.actions if isinstance(action, planner.Define)), None)
        removed = {action.key for action in plan.actions if isinstance(action, planner.RemoveDisk)}
        if defined is None and not removed:
            return
        macs = set(defined.macs()) if defined else set()
        disks = {self._file(key): key for key in removed | (_disk_keys(defined) if defined else set())}
        for name, other in self._gateway.observe_all().items():
            theirs = other.persistent or other.live
            if name == plan.name or theirs is None:
                continue
            for mac in sorted(macs & set(theirs.macs())):
                problem = f"MAC address {mac} belongs to domain {name}"
                raise InvalidInput(problem, fix="Give another mac, or none.", domain=plan.name)
            for file in sorted(set(disks) & {self._file(key) for key in _disk_keys(theirs)}):
                problem = f"disk {disks[file]} belongs to domain {name}"
                raise InvalidInput(problem, fix="Give a disk of the domain's own.", domain=plan.name)

    def _file(self, key: str) -> str:
        """The file behind a disk's key; many paths lead to one file, and so may a pool and a volume."""
        pool, _slash, volume = key.partition("/")
        path = self._gateway.volume_path(pool, volume) if pool else key
        if path is None or self._gateway.is_remote:
            return path or key
        return hostfs.real_path(path)

    # Executing.

    def _execute(self, plan: Plan) -> None:
        if self._check_mode:
            return
        for action in plan.actions:
            try:
                self._step(plan.name, action)
            except OSError as error:
                problem = f"{type(action).__name__} failed: {error}"
                raise HostError(problem, fix="Correct this and run the task again.", domain=plan.name) from error

    def _step(self, name: str, action: planner.Action) -> None:
        steps: dict[type, Callable[[Any], None]] = {
            planner.BindReadOnly: lambda a: hostfs.bind_read_only(a.source, a.target),
            planner.Unbind: lambda a: hostfs.unbind(a.target),
            planner.WriteWrapper: lambda a: hostfs.write_wrapper(a.path, a.virtiofsd, a.flags),
            planner.RemoveWrapper: lambda a: hostfs.remove_wrapper(a.path),
            planner.RemoveState: lambda _a: hostfs.remove_state(self._state, name),
            planner.RemoveDisk: lambda a: self._remove_disk(a.key),
            planner.CreateDisk: lambda a: self._create_disk(a.disk),
            planner.GrowDisk: lambda a: self._grow_disk(name, a),
            planner.Define: self._define,
            planner.ReservePorts: lambda a: self._reserve_ports(name, a.count),
            planner.Undefine: lambda a: self._gateway.undefine(name, a.remove_nvram, a.remove_tpm_state),
            planner.Start: lambda _a: self._gateway.start(name),
            planner.Resume: lambda _a: self._gateway.resume(name),
            planner.Shutdown: lambda a: self._gateway.shutdown(name, a.timeout, a.force),
            planner.Destroy: lambda _a: self._gateway.destroy(name),
            planner.SetAutostart: lambda a: self._gateway.set_autostart(name, a.enabled),
            planner.AttachShare: lambda a: self._gateway.attach(name, a.xml),
            planner.DetachShare: lambda a: self._gateway.detach_share(name, a.tag, a.xml, a.timeout),
            planner.ChangeMedium: lambda a: self._gateway.change_medium(name, a.path),
        }
        steps[type(action)](action)

    def _define(self, action: planner.Define) -> None:
        defined = self._gateway.define(action.document, action.expected)
        lost = _lost_options(action.document, defined)
        if lost:
            self.warnings.append(f"domain {defined.name}: this libvirt dropped {', '.join(lost)}")

    def _reserve_ports(self, name: str, count: int) -> None:
        defined = self._gateway.observe(name).persistent
        if defined is not None:
            wider = defined.copy()
            wider.reserve_ports(count)
            self._gateway.define(wider, defined)

    def _remove_disk(self, key: str) -> None:
        pool, _slash, volume = key.partition("/")
        if pool:
            self._gateway.remove_volume(pool, volume)
        else:
            hostfs.remove_image(key)

    def _create_disk(self, disk: Options) -> None:
        image_format = disk.get("format") or "qcow2"
        if disk.get("pool"):
            self._gateway.create_volume(disk["pool"], disk["volume"], disk["size"], image_format, disk.get("backing"))
        else:
            hostfs.create_image(disk["path"], image_format, disk.get("size"), disk.get("backing"))

    def _grow_disk(self, name: str, action: planner.GrowDisk) -> None:
        disk = action.disk
        if action.target:
            self._gateway.resize_disk(name, action.target, disk["size"])
        elif disk.get("pool"):
            self._gateway.resize_volume(disk["pool"], disk["volume"], disk["size"])
        else:
            hostfs.grow_image(disk["path"], disk["size"])

    # Waiting.

    def _wait(self, options: Options) -> None:
        name, goal, timeout = options["name"], options["wait_for"], options["wait_timeout"]
        reached = {
            "running": self._is_running,
            "address": self._has_address,
            "agent": self._gateway.agent_answers,
            "ssh": self._has_ssh,
        }[goal]

        def complaint() -> WaitTimeout:
            facts = self._describe(name)
            return WaitTimeout(
                f"did not reach {goal} within {timeout} s; last seen: state {facts['state']},"
                f" addresses {', '.join(facts['addresses']) or 'none'}",
                fix=f"Look at the console: virsh --connect {self._gateway.uri} console {name}"
                + (f", or at its log {facts['serial_log']}" if facts["serial_log"] else ""),
                domain=name,
            )

        wait_until(lambda: True if reached(name) else None, timeout, complaint)

    def _is_running(self, name: str) -> bool:
        return self._gateway.observe(name).run_state == "running"

    def _has_address(self, name: str) -> bool:
        return bool(self._describe(name)["addresses"])

    def _has_ssh(self, name: str) -> bool:
        facts = self._describe(name)
        return facts["ssh"] is not None and hostfs.ssh_answers(facts["ssh"]["host"], facts["ssh"]["port"])

    # Describing.

    def _describe(self, name: str) -> dict[str, Any]:
        return self._facts(self._gateway.observe(name))

    def _facts(self, observed: Observed) -> dict[str, Any]:
        """A domain as return value; the same for every module."""
        document = observed.live or observed.persistent
        facts: dict[str, Any] = {
            "name": observed.name,
            "state": observed.run_state,
            "addresses": [],
            "ssh": None,
            "serial_log": None,
        }
        if document is None:
            return facts
        addresses = self._gateway.addresses(observed.name) if observed.is_active else []
        interfaces = document.interfaces()
        forward = next(
            (
                forward
                for interface in interfaces
                for forward in interface["forwards"]
                if forward["guest_port"] == SSH_PORT
            ),
            None,
        )
        ssh = None
        if forward:
            ssh = {"host": forward["address"] or "127.0.0.1", "port": forward["host_port"]}
        elif addresses:
            ssh = {"host": addresses[0], "port": SSH_PORT}
        facts.update({option: value for option, value in document.options().items() if value is not None})
        facts.update(
            uuid=document.uuid,
            autostart=observed.autostart,
            persistent=observed.persistent is not None,
            managed_save=observed.managed_save,
            made_by_collection=document.is_marked,
            created_disks=(observed.persistent or document).created_disks(),
            shared_memory=document.has_shared_memory(),
            free_ports=document.free_ports(),
            shares=[planner.given(share) for share in document.shares().values()],
            persistent_shares=[planner.given(share) for share in (observed.persistent or document).shares().values()],
            disks=document.disks(),
            nvram=document.nvram(),
            interfaces=interfaces,
            addresses=addresses or ([forward["address"]] if forward and observed.is_active else []),
            ssh=ssh,
            virtiofsd_logs=[]
            if self._gateway.is_remote
            else hostfs.virtiofsd_logs(observed.name, self._gateway.is_session),
        )
        return facts


def _disk_keys(document: DomainXml) -> set[str]:
    return {disk_key(disk) for disk in document.disks() if disk_key(disk) != "None/None"}


def _lost_options(wanted: DomainXml, defined: DomainXml) -> list[str]:
    """Options that libvirt silently dropped: elements it does not know."""
    after = defined.shares()
    return [
        f"{option} of share {tag}"
        for tag, share in wanted.shares().items()
        for option in planner.differences(share, after.get(tag))
    ]


def _outcome(plan: Plan) -> dict[str, Any]:
    return {
        "changed": plan.changed,
        "diff": {"before": plan.before, "after": plan.after},
        "actions": [type(action).__name__ for action in plan.actions],
        "restart_required": bool(plan.restart_reasons),
        "restart_reasons": plan.restart_reasons,
    }
