# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules do: observe, plan, execute the plan, wait, describe.

One Controller is one connection; it serves a task with one domain as well as one with a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable

from . import hostfs, planner, probe
from .domain_xml import DomainXml
from .errors import InvalidInput, VirtiofsError, WaitTimeout
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
        planner.check_domain(options)
        return self._apply_domain(options, self._gateway.observe(options["name"]))

    def apply_domains(self, wanted: list[Options], purge: bool) -> dict[str, Any]:
        """Bring many domains to the wanted state. All are checked before the first is touched."""
        names = [options["name"] for options in wanted]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidInput(f"listed twice: {', '.join(repeated)}", fix="List every domain once.")
        for options in wanted:
            planner.check_domain(options)
        observed = self._gateway.observe_all()
        plans = [
            (options, self._plan_domain(options, observed.get(options["name"], Observed(options["name"]))))
            for options in wanted
        ]
        if purge:
            plans += self._plan_purge(observed, set(names))
        results = [self._carry_out(options, plan) for options, plan in plans]
        return {
            "changed": any(result["changed"] for result in results),
            "restart_required": any(result["restart_required"] for result in results),
            "diff": [result["diff"] for result in results if result["changed"]],
            "domains": {plan.name: result for (_options, plan), result in zip(plans, results)},
        }

    def apply_share(self, options: Options) -> dict[str, Any]:
        """Bring one share of an existing domain to the wanted state."""
        planner.check_share(options)
        name = options["domain"]
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

    def _apply_domain(self, options: Options, observed: Observed) -> dict[str, Any]:
        return self._carry_out(options, self._plan_domain(options, observed))

    def _plan_domain(self, options: Options, observed: Observed) -> Plan:
        if options["state"] != "absent":
            self._check_files(options)
            options = planner.resolve_forwards(options, observed, hostfs.is_port_taken)
        plan = planner.plan_domain(options, observed, self._host(options["name"], options, observed))
        self._check_conflicts(plan)
        return plan

    def _plan_purge(self, observed: Mapping[str, Observed], listed: set[str]) -> list[tuple[Options, Plan]]:
        """Plans that remove the domains which this collection made and which are no longer listed."""
        unlisted = [
            domain
            for name, domain in sorted(observed.items())
            if name not in listed and domain.persistent is not None and domain.persistent.is_marked
        ]
        plans: list[tuple[Options, Plan]] = []
        for domain in unlisted:
            options = {
                "name": domain.name,
                "state": "absent",
                "remove_nvram": False,
                "remove_tpm_state": False,
            }
            plans.append((options, planner.plan_domain(options, domain, self._host(domain.name))))
        return plans

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
        for path in options.get("remove_storage") or ():
            images[path] = self._image({"path": path})
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
        """Refuse a definition that takes a MAC address or a disk of another domain."""
        defined = next((action.document for action in plan.actions if isinstance(action, planner.Define)), None)
        if defined is None:
            return
        for name, other in self._gateway.observe_all().items():
            theirs = other.persistent or other.live
            if name == plan.name or theirs is None:
                continue
            for mac in sorted(set(defined.macs()) & set(theirs.macs())):
                raise InvalidInput(
                    f"MAC address {mac} belongs to domain {name}",
                    fix="Give another mac, or none.",
                    domain=plan.name,
                )
            for key in sorted(_writable_disks(defined) & _writable_disks(theirs)):
                raise InvalidInput(
                    f"disk {key} belongs to domain {name}", fix="Give a disk of its own.", domain=plan.name
                )

    # Executing.

    def _carry_out(self, options: Options, plan: Plan) -> dict[str, Any]:
        self.warnings += plan.warnings
        self._execute(plan)
        if options.get("wait_for") and not self._check_mode:
            self._wait(options)
        return {**_outcome(plan), "domain": self._describe(plan.name)}

    def _execute(self, plan: Plan) -> None:
        if self._check_mode:
            return
        for action in plan.actions:
            self._step(plan.name, action)

    def _step(self, name: str, action: planner.Action) -> None:
        steps: dict[type, Callable[[Any], None]] = {
            planner.BindReadOnly: lambda a: hostfs.bind_read_only(a.source, a.target),
            planner.Unbind: lambda a: hostfs.unbind(a.target),
            planner.WriteWrapper: lambda a: hostfs.write_wrapper(a.path, a.virtiofsd, a.flags),
            planner.RemoveState: lambda _a: hostfs.remove_state(self._state, name),
            planner.RemoveFile: lambda a: hostfs.remove_file(a.path),
            planner.CreateDisk: lambda a: self._create_disk(a.disk),
            planner.GrowDisk: lambda a: self._grow_disk(name, a),
            planner.Define: self._define,
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
        # Only now, with every device in its place, are the spare ports known.
        missing = action.spare_ports - defined.free_ports()
        if missing > 0 and defined.has_pcie():
            wider = defined.copy()
            wider.add_ports(missing)
            self._gateway.define(wider, defined)

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


def _writable_disks(document: DomainXml) -> set[str]:
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
