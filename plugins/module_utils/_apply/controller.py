# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules do: observe, check, plan, execute, wait, describe.

One Controller is one connection; it serves a task with one domain as well as one with a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Callable

from .._domain import forwards, overlays, planner, validation
from .._domain.model import Action, Define, DetachShare, Observed, Options, Plan
from .._errors import GatewayError, InvalidInput, WaitTimeout
from .._host import lock, ports
from .._host.files import state
from .._host.gateway import Gateway
from .._untrusted import ssh_host_key
from .._waiting import wait_until
from .conflicts import Conflicts, OtherDomains
from .describe import SSH_HOST_KEY, describe
from .disk_files import bases_of, file_of
from .executor import Executor
from .guest_mount import GuestMount, add_to_result, check_mountable
from .networks import NetworkTask
from .preflight import Preflight

# libvirt serves five requests of a connection at a time by default (max_client_requests).
_ASKED_AT_ONCE = 5


def _defines(plan: Plan) -> bool:
    return any(isinstance(action, Define) for action in plan.actions)


class Controller:
    """Brings domains and shares to the wanted state over one connection to libvirt."""

    def __init__(self, uri: str, check_mode: bool) -> None:
        self._gateway = Gateway(uri)
        self._check_mode = check_mode
        root = state.state_root(self._gateway.is_session)
        others = OtherDomains(self._gateway)
        self._preflight = Preflight(self._gateway, root, others, check_mode)
        self._conflicts = Conflicts(self._gateway, root, others, self._preflight.limits)
        self._executor = Executor(self._gateway, root)

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *exception: object) -> None:
        self._gateway.__exit__(*exception)

    @property
    def warnings(self) -> list[str]:
        """What the user should know although nothing failed."""
        warnings = [*self._preflight.warnings, *self._conflicts.warnings, *self._executor.warnings]
        return list(dict.fromkeys(warnings))

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
        """Bring one share of an existing domain to the wanted state, and where the task says so its mount, too."""
        validation.check_share(options)
        plan, is_mounting = self._mount_share(options)
        result = self._result(plan)
        add_to_result(result, options, is_mounting)
        return result

    def _mount_share(self, options: Options) -> tuple[Plan, bool]:
        """Change the share, and its mount where the task names one; also whether the mount was, or would be, changed.

        The guest may take its time to answer, so no lock is held while it is asked.
        """
        if options["mount_point"] is None:
            return self._change_share(options), False
        plan = self._plan_share(options)
        observed = self._gateway.observe(options["domain"])
        if not observed.documents:
            return plan, False  # an absent share of an absent domain
        check_mountable(options, observed, plan)
        mount = GuestMount(self._gateway.agent(options["domain"]), options)
        is_unplugged = any(isinstance(action, DetachShare) for action in plan.actions)
        # A guest that is off cannot be asked. It is off only after a run that was killed, and the plan starts it.
        is_mounting = observed.run_state != "running" or mount.would_change() or is_unplugged
        if not self._check_mode:
            if is_unplugged or options["state"] == "absent":
                mount.unmount()
            plan = self._change_share(options)
            if options["state"] == "present":
                mount.mount()
        self._executor.warnings += mount.warnings
        return plan, is_mounting

    def _change_share(self, options: Options) -> Plan:
        name = options["domain"]
        with self._locked([name]):
            with self._host_locked():
                plan = self._plan_share(options)
                self._execute(plan, plan.claims())
            self._execute(plan, plan.actions[len(plan.claims()) :])
        self._confirm([plan], lambda _name: self._plan_share(options))
        return plan

    def _plan_share(self, options: Options) -> Plan:
        name = options["domain"]
        observed = self._gateway.observe(name)
        if options["state"] == "present":
            self._preflight.check_shares([options], name)
        plan = planner.plan_share(options, observed, self._preflight.host(name, options, observed))
        self._check(plan, observed)
        return plan

    def _check(self, plan: Plan, observed: Observed) -> None:
        """Refuse a plan that the host, or another domain on it, does not allow."""
        self._conflicts.check_conflicts(plan, observed)
        self._preflight.check_start(plan, observed)
        self._preflight.check_mounts(plan)

    def apply_network(self, options: Options) -> dict[str, Any]:
        """Bring one virtual network to the wanted state; the module's return values."""
        return NetworkTask(self._gateway, self._preflight.limits(), self._check_mode).apply(options)

    def describe_domains(self, names: Iterable[str] | None, host_keys: bool = False) -> dict[str, Any]:
        """Facts of the named domains, or of all; a domain that does not exist is left out."""
        observed = self._gateway.observe_all()
        chosen = observed if names is None else {name: observed[name] for name in names if name in observed}

        def facts(domain: Observed) -> dict[str, Any]:
            found = describe(self._gateway, domain)
            if not host_keys:
                return found
            return {**found, "ssh_host_key": self.ask_host_key(domain.name) if domain.is_active else None}

        from concurrent.futures import ThreadPoolExecutor  # only this needs it

        # A guest that does not answer costs seconds; asked side by side, it does not delay the others.
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            return dict(zip(chosen, pool.map(facts, chosen.values())))

    def ask_host_key(self, name: str) -> str | None:
        """The ssh host key of a running guest, as its agent reports it; None without a proper answer."""
        return ssh_host_key(self._gateway.agent(name).read_file(SSH_HOST_KEY))

    def _apply(self, wanted: list[Options], purge: bool) -> dict[str, dict[str, Any]]:
        for options in wanted:
            validation.check_domain(options)
        names = [options["name"] for options in wanted]
        unlisted = self._unlisted(names) if purge else []
        with self._locked([*names, *unlisted]):
            with self._host_locked():
                observed = self._observe(names, purge)
                plans = [self._plan(options, observed[options["name"]]) for options in wanted]
                plans += self._plan_purge({name: observed[name] for name in unlisted if name in observed})
                for plan in plans:
                    self._execute(plan, plan.claims())
            for plan in plans:
                self._execute(plan, plan.actions[len(plan.claims()) :])
        by_name = {options["name"]: options for options in wanted}
        self._confirm(plans, lambda name: self._plan(by_name[name], self._gateway.observe(name)))
        for options in wanted:
            if options.get("wait_for") and not self._check_mode:
                self._wait(options)
        return {plan.name: self._result(plan) for plan in plans}

    def _unlisted(self, names: list[str]) -> list[str]:
        """The domains that this collection created and that are not listed."""
        return [
            name
            for name, domain in sorted(self._gateway.observe_all().items())
            if name not in names and domain.persistent is not None and domain.persistent.is_managed
        ]

    def _observe(self, names: list[str], purge: bool) -> dict[str, Observed]:
        """The named domains; with purge, or when there are several, all at once."""
        if len(names) == 1 and not purge:
            return {names[0]: self._gateway.observe(names[0])}
        return {**{name: Observed(name) for name in names}, **self._gateway.observe_all()}

    @contextmanager
    def _locked(self, names: Iterable[str]) -> Iterator[None]:
        """Let one task at a time change these domains. Sorted, so that no two tasks wait for each other."""
        with ExitStack() as stack:
            for name in sorted(set(names)) if self._takes_locks() else ():
                stack.enter_context(lock.exclusive(f"domain:{name}"))
            yield

    def _host_locked(self) -> AbstractContextManager[None]:
        return lock.exclusive("host") if self._takes_locks() else nullcontext()

    def _takes_locks(self) -> bool:
        """Check mode changes nothing, so it waits for no lock; another machine's locks are out of reach."""
        return not (self._check_mode or self._gateway.is_remote)

    def _plan(self, options: Options, observed: Observed) -> Plan:
        name = options["name"]
        if options["state"] == "absent":
            self._conflicts.check_overlays(options, observed)
        else:
            self._preflight.check_domain(options)
            gateway = self._gateway
            options = overlays.resolve_overlays(
                options, observed, partial(file_of, gateway), partial(bases_of, gateway)
            )
            options = forwards.resolve_forwards(options, observed, partial(self._conflicts.is_port_taken, name))
        plan = planner.plan_domain(options, observed, self._preflight.host(name, options, observed))
        self._check(plan, observed)
        self._preflight.warnings += plan.warnings
        return plan

    def _plan_purge(self, domains: Mapping[str, Observed]) -> list[Plan]:
        absent = {"state": "absent", "remove_nvram": False, "remove_tpm_state": False}
        return [
            planner.plan_domain({"name": name, **absent}, domain, self._preflight.host(name, observed=domain))
            for name, domain in domains.items()
        ]

    def _execute(self, plan: Plan, actions: Iterable[Action]) -> None:
        if not self._check_mode:
            self._executor.execute(plan.name, actions, partial(self._conflicts.check_start, plan))

    def _confirm(self, plans: Iterable[Plan], plan_again: Callable[[str], Plan]) -> None:
        """Report a definition that another machine's task has overwritten; over a remote URI no lock prevents that."""
        if self._check_mode or not self._gateway.is_remote:
            return
        defined = [plan.name for plan in plans if _defines(plan)]
        if defined:
            self._gateway.settle()
        for name in defined:
            if _defines(plan_again(name)):
                raise GatewayError(
                    "another tool has overwritten the definition right after this task",
                    domain=name,
                    fix="Run the task again.",
                )

    def _wait(self, options: Options) -> None:
        name, goal, timeout = options["name"], options["wait_for"], options["wait_timeout"]

        def reached() -> bool | None:
            observed = self._gateway.observe(name)
            if not observed.is_active:
                raise timeout_error()
            return True if self._has_reached(goal, observed) else None

        def timeout_error() -> WaitTimeout:
            facts = describe(self._gateway, self._gateway.observe(name))
            return WaitTimeout(
                f"did not reach {goal} within {timeout} s; last seen: state {facts['state']},"
                f" addresses {', '.join(facts.get('addresses', ())) or 'none'}",
                fix=f"Inspect the console: virsh --connect {self._gateway.uri} console {name}"
                + (f", or read its log {facts['serial_log']}" if facts.get("serial_log") else ""),
                domain=name,
            )

        wait_until(reached, timeout, timeout_error)

    def _has_reached(self, goal: str, observed: Observed) -> bool:
        if goal == "running":
            return observed.run_state == "running"
        if goal == "agent":
            return self._gateway.agent(observed.name).answers()
        facts = describe(self._gateway, observed)
        if goal == "address":
            return bool(facts["addresses"])
        return facts["ssh"] is not None and ports.ssh_answers(facts["ssh"]["host"], facts["ssh"]["port"])

    def _result(self, plan: Plan) -> dict[str, Any]:
        return {
            "changed": plan.changed,
            "diff": {"before": plan.before, "after": plan.after},
            "actions": [type(action).__name__ for action in plan.actions],
            "restart_required": bool(plan.restart_reasons),
            "restart_reasons": plan.restart_reasons,
            "domain": describe(self._gateway, self._gateway.observe(plan.name)),
        }
