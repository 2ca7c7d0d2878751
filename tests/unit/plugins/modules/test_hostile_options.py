# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of every module with hostile values: a clean refusal, or a value that is rightly accepted.

The options come from the argument specs, so a new option is covered without being named here.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple

import libvirt
import pytest
from ansible.module_utils._internal._json import _profiles
from ansible.module_utils.basic import AnsibleModule
from hypothesis import settings

from ansible_collections.keystone.virtiofs.plugins.module_utils import _commands
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import schema
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.places import QEMU_NAMESPACE as QEMU
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import kvm, probe
from ansible_collections.keystone.virtiofs.tests.unit.hostile import TREE, VALUES, label, tree
from ansible_collections.keystone.virtiofs.tests.unit.plugins.modules.conftest import NO_URI

Run = Callable[..., dict[str, Any]]
Options = dict[str, Any]
PACKAGE = "ansible_collections.keystone.virtiofs.plugins.modules"
FOLDER = Path(__file__).parents[4] / "plugins/modules"
LIMIT = 10  # seconds for one run
# `make check` tries every SHARE-th value with an option, another one with the next option; a campaign tries all.
SHARE = 20
CAMPAIGN = 1000  # examples

PATH = f"/nix/store/{'0' * 32}-system"
GUEST = {"name": "web", "address": "192.0.2.1"}
# A task of each module that succeeds.
TASKS: dict[str, Options] = {
    "domain": {"name": "vm", "state": "running", "memory": 128, "virt_type": "qemu"},
    "domain_info": {},
    "domains": {"domains": [{"name": "vm", "state": "running", "memory": 128, "virt_type": "qemu"}]},
    "files": {"files": [{"path": f"{TREE}/file", "content": "text"}]},
    "host_info": {},
    "network": {"name": "net", "firewall": False},
    "nixos_anywhere": {**GUEST, "command": ["true"], "flake": "/etc/nixos#web", "log": f"{TREE}/log"},
    "nixos_guest_info": {**GUEST, "toplevel": PATH},
    "nixos_switch": {**GUEST, "toplevel": PATH},
    "share": {"domain": "other", "tag": "data", "source": f"{TREE}/folder"},
    "store_image": {"path": f"{TREE}/image", "state": "absent"},
    "store_info": {},
}
# What an element of a list of options needs, beyond what the spec says.
ELEMENTS: dict[str, Options] = {
    "shares": {"tag": "data", "source": f"{TREE}/folder"},
    "disks": {"path": f"{TREE}/disk", "size": 1, "format": "raw"},
    "interfaces": {"type": "network"},
}
# What an option needs next to it.
COMPANIONS: dict[str, Options] = {
    "cmdline": {"kernel": f"{TREE}/file"},
    "initrd": {"kernel": f"{TREE}/file"},
    "forwards": {"type": "user"},
    "restrict": {"type": "user"},
    "disko_script": {"flake": None, "toplevel": PATH},
    "store_paths": {"state": "present"},
    "pool": {"path": None, "volume": "example"},
    "volume": {"path": None, "pool": "example"},
}
# Of the module domains the options of each domain are those of module domain.
HIDDEN = {"domains": {"domains": schema.argument_spec(schema.OF_DOMAIN)}}


# Elements that the schema of an old libvirt on the machine that runs the tests does not have.
TOO_OLD = re.compile("failed to validate against schema")
NEWER_THAN_LIBVIRT = (
    ("idmap", "uid", "gid", "start", "target", "count", "open_files") if libvirt.getVersion() < 10006000 else ()
)


class Captured(Exception):
    pass


def spec_of(name: str, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The argument spec with which a module is started."""
    seen: list[dict[str, Any]] = []

    def capture(_module: AnsibleModule, argument_spec: dict[str, Any], **_settings: Any) -> None:
        seen.append(argument_spec)
        raise Captured

    with patch.context() as inner:
        inner.setattr(AnsibleModule, "__init__", capture)
        with pytest.raises(Captured):
            module_of(name).main()
    return seen[0]


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


class Option(NamedTuple):
    """An option of a module, perhaps within others: ``place`` is the way to it."""

    module: str
    place: tuple[str, ...]
    type: str
    container: tuple[str, ...] = ()  # the types of what is around it

    def task(self, value: Any) -> Options:
        """The module's task with a value for the option."""
        task = deepcopy(TASKS[self.module])
        if task.get(self.place[0]) and len(self.place) > 1 and isinstance(task[self.place[0]], list):
            elements = task[self.place[0]][0]
            _put(elements, self.place[1:], self.container[1:], value)
        else:
            _put(task, self.place, self.container, value)
        return task


def _put(options: Options, place: tuple[str, ...], container: tuple[str, ...], value: Any) -> None:
    first, *rest = place
    for name, example in COMPANIONS.get(first, {}).items():
        options[name] = example
        if example is None:
            del options[name]
    if not rest:
        options[first] = value
        return
    inner: Options = deepcopy(ELEMENTS.get(first, {}))
    inner.update({name: example for name, example in _REQUIRED.get(first, {}).items() if name not in inner})
    _put(inner, tuple(rest), container[1:], value)
    options[first] = [inner] if container[0] == "list" else inner


# Examples for required options inside others, by the name of the outer one; filled from the specs.
_REQUIRED: dict[str, Options] = {}
_EXAMPLES = {"int": 1, "bool": True, "path": f"{TREE}/new", "str": "example"}


def options_of(
    module: str, spec: Mapping[str, Any], place: tuple[str, ...] = (), around: tuple[str, ...] = ()
) -> Iterator[Option]:
    """All options of an argument spec."""
    for name, entry in spec.items():
        here, kind = (*place, name), entry.get("type", "str")
        inner = entry.get("options") or (HIDDEN.get(module, {}).get(name) if not place else None)
        yield Option(module, here, kind, around)
        if inner:
            _REQUIRED[name] = {option: _example(entry) for option, entry in inner.items() if entry.get("required")}
            yield from options_of(module, inner, here, (*around, kind))


def _example(entry: Mapping[str, Any]) -> Any:
    return entry["choices"][0] if "choices" in entry else _EXAMPLES.get(entry.get("type", "str"))


def every_option() -> list[Option]:
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    with pytest.MonkeyPatch.context() as patch:
        return [option for name in names for option in options_of(name, spec_of(name, patch))]


def with_tree(value: Any, root: Path) -> Any:
    if isinstance(value, str):
        return value.replace(TREE, str(root))
    if isinstance(value, list):
        return [with_tree(item, root) for item in value]
    if isinstance(value, dict):
        return {with_tree(key, root): with_tree(item, root) for key, item in value.items()}
    return value


@contextmanager
def limit() -> Iterator[None]:
    """Raise TimeoutError in what takes too long; end all of pytest when even that does not help."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    faulthandler.dump_traceback_later(3 * LIMIT, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: libvirt.virConnect) -> Path:
    """The host tree, which is also the working directory and the home."""
    root = tmp_path / "tree"
    root.mkdir()
    monkeypatch.chdir(root)
    tree(root)
    monkeypatch.setenv("HOME", str(root))
    # The controller checks text, a module on a managed host does not; other tests have loaded the controller's part.
    monkeypatch.setattr(_profiles, "_string_encoding_check_enabled", lambda: False)
    monkeypatch.setattr(kvm, "is_inaccessible_to_libvirt", lambda: False)
    monkeypatch.setattr(_commands, "stream", answer)
    monkeypatch.setattr(probe, "find_firmware", lambda _folders: [])
    _keep_command_lines(monkeypatch)
    return root


def _keep_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test driver drops what is for QEMU's command line."""
    define, read = libvirt.virConnect.defineXMLFlags, libvirt.virDomain.XMLDesc
    kept: dict[str, str] = {}

    def defineXMLFlags(connection: libvirt.virConnect, text: str, flags: int) -> libvirt.virDomain:  # noqa: N802
        domain = define(connection, text, flags)
        kept[domain.name()] = "".join(re.findall(r"<qemu:commandline.*</qemu:commandline>", text, re.DOTALL))
        return domain

    def XMLDesc(domain: libvirt.virDomain, flags: int) -> str:  # noqa: N802
        text = read(domain, flags).replace("</domain>", f"{kept.get(domain.name(), '')}</domain>")
        return text if QEMU in text else text.replace("<domain ", f"<domain xmlns:qemu='{QEMU}' ", 1)

    monkeypatch.setattr(libvirt.virConnect, "defineXMLFlags", defineXMLFlags)
    monkeypatch.setattr(libvirt.virDomain, "XMLDesc", XMLDesc)


def answer(command: Sequence[str], receive: _commands.Receiver, **_settings: Any) -> int:
    """What other programs answer: ssh as a guest that runs the system already, all others nothing."""
    if "check-validity" in command[-1]:
        receive("stdout", f"{PATH}\n{PATH}\nvalid\n".encode())
    elif "os-release" in command[-1]:
        receive("stdout", f"\nnixos \n\n{PATH}\n{PATH}\n{PATH}\n\n".encode())
    return 0


def judge(option: Option, value: Any, run: Run, look: Callable[[], Any], root: Path) -> tuple[str, str]:
    """What becomes of a value: refused, accepted, or what is wrong."""
    task = with_tree(option.task(value), root)
    if option.module not in {other.module for other in OPTIONS if other.place == ("uri",)}:
        task["uri"] = NO_URI
    module, before = module_of(option.module), look()
    try:
        with limit():
            done = run(module, **task)
        if done.get("failed"):
            return judge_refusal(option, done, look() == before)
        with limit():
            again = run(module, **task)
        if again.get("failed") or (again.get("changed") and option.module != "nixos_anywhere"):
            return "not idempotent", str(again.get("msg") or again.get("actions"))
        with limit():
            undo(option, task, run)
            for path in done.get("paths", ()):  # what the module files has installed
                Path(path).unlink()
            restore(root)
        return ("accepted", "") if look() == before else ("left something", difference(before, look()))
    except TimeoutError:
        return "hang", ""
    except BaseException as error:  # a traceback of the module
        return "traceback", f"{type(error).__name__}: {error!s:.300}"


def judge_refusal(option: Option, result: dict[str, Any], untouched: bool) -> tuple[str, str]:
    text = f"{result.get('msg')} {result.get('fix')}"
    if TOO_OLD.search(text) and option.place[-1] in NEWER_THAN_LIBVIRT:
        return "refused", "this machine's libvirt does not know the element yet"
    if not untouched:
        return "refused too late", text[:300]
    if not result.get("fix"):
        return "no fix", text[:300]
    # What a switch asks for may be refused because of another option.
    named = OPTIONS if option.type == "bool" else [option]
    if not any(name in text for other in named for name in other.place):
        return "option not named", text[:300]
    return "refused", text[:300]


def difference(before: Any, after: Any) -> str:
    pairs = zip(before, after, strict=True)
    return str([name for one, other in pairs for name in {*one, *other} if one.get(name) != other.get(name)])[:300]


def undo(option: Option, task: Options, run: Run) -> None:
    """Remove what the task has made."""
    if option.module in ("domain", "domains"):
        for one in task.get("domains", [task]):
            if isinstance(one, dict):
                created = run(module_of("domain_info"))["domains"][str(one["name"])]["created_disks"]
                run(module_of("domain"), name=one["name"], state="absent", remove_storage=created)
    elif option.module == "share":
        run(module_of("share"), domain=task["domain"], tag=task["tag"], state="absent")


def restore(root: Path) -> None:
    """Remove logs; what else a module has left is a fault."""
    for path in root.iterdir():
        if path.is_file() and not path.is_symlink() and path.stat().st_size == 0:
            path.unlink()
    if not (root / "file").exists():
        (root / "file").write_bytes(bytes(2**20))


OPTIONS = every_option()


def test_there_is_a_task_for_every_module() -> None:
    assert {option.module for option in OPTIONS} == set(TASKS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.module}-{'.'.join(option.place)}")
def test_hostile_values(option: Option, run: Run, look: Callable[[], Any], root: Path) -> None:
    if option.module == "share":
        run(module_of("domain"), name="other", memory=128, state="running")
        for state in ("present", "absent"):  # the domain keeps shared memory
            run(module_of("share"), **with_tree(TASKS["share"], root), state=state)
    first, step = (0, 1) if settings().max_examples >= CAMPAIGN else (OPTIONS.index(option) % SHARE, SHARE)
    chosen = list(enumerate(VALUES))[first::step]
    outcomes = {f"{index} {label(value)}": judge(option, value, run, look, root) for index, value in chosen}
    if os.environ.get("HOSTILE_LOG"):
        with Path(os.environ["HOSTILE_LOG"]).open("a") as log:
            for value, outcome in outcomes.items():
                log.write(json.dumps([option.module, ".".join(option.place), value, *outcome]) + "\n")
    wrong = {value: outcome for value, outcome in outcomes.items() if outcome[0] not in ("refused", "accepted")}
    assert wrong == {}
