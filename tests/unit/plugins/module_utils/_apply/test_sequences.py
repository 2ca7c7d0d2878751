# SPDX-License-Identifier: GPL-3.0-or-later
"""Random sequences of tasks and outside events on a simulated host: what check mode predicts is what happens.

`make check` runs some hundred sequences, `pytest --hypothesis-profile=campaign` 20,000.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from ansible_collections.keystone.virtiofs.tests.unit.simulation.host import (
    SimulatedHost,
    simulated_host,
)
from ansible_collections.keystone.virtiofs.tests.unit.simulation.stories import STEPS, Event, Task

PREDICTED = ("changed", "actions", "diff", "restart_required", "restart_reasons")


@given(is_old=st.booleans(), steps=STEPS)
def test_any_sequence(is_old: bool, steps: list[Task | Event]) -> None:
    note("\n".join(map(repr, steps)))
    with simulated_host(is_old=is_old) as host:
        play(host, steps)


def play(host: SimulatedHost, steps: list[Task | Event]) -> None:
    for step in steps:
        if isinstance(step, Event):
            step.happen(host)
        else:
            check_task(host, step)


def check_task(host: SimulatedHost, task: Task) -> None:
    """Check mode, the task, and the task again."""
    options = task.options(host)
    before, foreign, has_silent_guest = host.snapshot(), host.foreign(), host.has_silent_guest()
    predicted = host.run(task.kind, options, check=True)
    assert host.snapshot() == before, "check mode changed something"
    if task.killed_after is not None:
        host.run(task.kind, options, killed_after=task.killed_after)
    done = host.run(task.kind, options)
    assert host.foreign() == foreign, "something foreign was touched"
    assert host.unsafe_shares() == []
    if predicted.get("failed"):
        assert done == predicted
        assert host.snapshot() == before, "a refused task changed something"
        return
    if has_silent_guest:  # waiting for it fails, which no check mode can know
        host.wake_guests()
        done = host.run(task.kind, options)
    elif task.killed_after is None:
        check_predicted(predicted, done)
    assert not done.get("failed"), done["msg"]
    after = host.snapshot()
    again = host.run(task.kind, options)
    assert not again.get("failed"), again["msg"]
    assert host.snapshot() == after
    for name, second in results(again).items():
        assert (second["changed"], second["actions"]) == (False, [])
        assert second["diff"]["before"] == results(done)[name]["diff"]["after"], "diff.after is not the domain's state"


def check_predicted(predicted: dict[str, Any], done: dict[str, Any]) -> None:
    assert not done.get("failed"), done["msg"]
    for name, found in results(done).items():
        for key in PREDICTED:
            assert found[key] == results(predicted)[name][key], f"check mode predicted another {key}"


def results(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The results of the single domains."""
    return result.get("domains", {"": result})


VM = {"name": "vm", "virt_type": "qemu"}
SHARED = [{"tag": "a", "source": "one", "read_only": True}]
WRITABLE = [{"tag": "a", "source": "one", "read_only": False}]
WRAPPED = [{"tag": "a", "source": "one", "inode_file_handles": "prefer"}]


def domain(**given: Any) -> Task:
    return Task("domain", {**VM, **given})


def event(what: str, detail: Any = None) -> Event:
    return Event(what, "vm", detail)


RUNNING = domain(state="running", shares=SHARED)
SAVED = [RUNNING, event("managed save")]
DISK = [{"path": "vm.img", "size": 1, "format": "raw"}]
REMOVE = domain(state="absent", remove_storage=["vm.img"])


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([*SAVED, domain(state="running", memory=256, restart="if_required")], id="saved, then restarted"),
        pytest.param([*SAVED, domain(state="running", memory=256)], id="saved, then resumed with an old definition"),
        pytest.param(
            [*SAVED, domain(state="running", shares=[{"tag": "b", "source": "two"}])], id="saved, then plugged"
        ),
        pytest.param([*SAVED, domain(shares=WRITABLE), event("start")], id="saved, and resumed by others"),
        pytest.param([RUNNING, event("suspend"), event("managed save"), RUNNING], id="saved while paused"),
        pytest.param([RUNNING, domain(state="stopped", shares=WRITABLE)], id="stopped, with another source"),
        pytest.param([RUNNING, event("suspend"), domain(memory=256, restart="if_required")], id="paused, restarted"),
        pytest.param([RUNNING, domain(memory=256, restart="if_required")], id="present, restarted"),
        pytest.param([RUNNING, event("undefine"), domain(memory=256)], id="transient"),
        pytest.param(
            [
                *(domain(state="running"), event("undefine")),
                Task("share", {"domain": "vm", "tag": "a", "source": "one", "read_only": True, "state": "present"}),
            ],
            id="transient, with private memory",
        ),
        pytest.param(
            [RUNNING, event("suspend"), Task("share", {"domain": "vm", "tag": "a", "state": "absent"})],
            id="unplugged while paused",
        ),
        pytest.param(
            [domain(disks=DISK), event("remove the image"), domain(state="running")], id="started without its image"
        ),
        *(
            pytest.param([domain(disks=DISK), event("break their disk", detail), REMOVE], id=f"their disk: {detail}")
            for detail in ("gone", "loop", "header", "pool")
        ),
    ],
)
def test_what_was_wrong_once(is_old: bool, steps: list[Task | Event]) -> None:
    with simulated_host(is_old=is_old) as host:
        play(host, steps)


def test_a_stopped_domain_needs_no_wrapper_that_it_no_longer_has() -> None:
    with simulated_host() as host:
        play(host, [domain(state="running", shares=WRAPPED)])
        play(host, [domain(state="stopped", shares=[{**WRAPPED[0], "inode_file_handles": "never"}])])


@pytest.mark.parametrize("name", ["a\u00a0b", "a\u2028b", "a\u3000b", "a\u0085b", "a b", "50%", "a\\040b", "#a"])
def test_odd_names(name: str) -> None:
    with simulated_host(is_old=True) as host:
        (host.root / "srv" / name).mkdir()
        shares = [{"tag": "a", "source": name, "read_only": True}, {"tag": "b", "source": "two", "nosuid": True}]
        play(host, [domain(state="running", shares=shares), domain(state="stopped", shares=WRITABLE)])
        play(host, [domain(state="absent")])
        assert [path.name for path in host.state.rglob("*")] == ["domains"]


@pytest.mark.parametrize("given", [{"nosuid": True}, {"read_only": True}])
def test_a_host_that_would_lose_a_mount_at_its_next_boot(given: dict[str, Any]) -> None:
    with simulated_host(is_old=True) as host:
        task = domain(state="stopped", shares=[{"tag": "a", "source": "one", **given}])
        before = host.snapshot()
        host.boot_program.rename(host.root / "aside")
        done = host.run(task.kind, task.options(host))
        host.boot_program.with_name("aside").rename(host.boot_program)
        assert "would lose the mount of the source at its next boot" in done["msg"]
        assert "Run the role keystone.virtiofs.host on the host" in done["msg"]
        assert host.snapshot() == before
