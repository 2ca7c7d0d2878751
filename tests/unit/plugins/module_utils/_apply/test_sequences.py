# SPDX-License-Identifier: GPL-3.0-or-later
"""Random sequences of tasks and outside events on a simulated host: what check mode foretells is what happens.

`make check` runs some hundred sequences, `pytest --hypothesis-profile=campaign` 20,000.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from ansible_collections.keystone.virtiofs.tests.unit.simulation.host import SimulatedHost, simulated_host
from ansible_collections.keystone.virtiofs.tests.unit.simulation.stories import STEPS, Event, Task

FORETOLD = ("changed", "actions", "diff", "restart_required", "restart_reasons")


@given(is_old=st.booleans(), steps=STEPS)
def test_any_sequence(is_old: bool, steps: list[Task | Event]) -> None:
    with simulated_host(is_old=is_old) as host:
        play(host, steps)


def play(host: SimulatedHost, steps: list[Task | Event]) -> None:
    for step in steps:
        note(f"{step!r},")
        if isinstance(step, Event):
            step.happen(host)
        else:
            check_task(host, step)


def check_task(host: SimulatedHost, task: Task) -> None:
    """Check mode, the task, and the task again."""
    options = task.options(host)
    before, foreign = host.snapshot(), host.foreign()
    foretold = host.run(task.kind, options, check=True)
    assert host.snapshot() == before, "check mode changed something"
    if task.killed_after is not None:
        host.run(task.kind, options, killed_after=task.killed_after)
    done = host.run(task.kind, options)
    assert host.foreign() == foreign, "something foreign was touched"
    assert host.unsafe_shares() == []
    if foretold.get("failed"):
        assert done == foretold
        assert host.snapshot() == before, "a refused task changed something"
        return
    if host.has_silent_guest():  # waiting for it fails, which no check mode can know
        host.wake_guests()
        done = host.run(task.kind, options)
    elif task.killed_after is None:
        check_foretold(foretold, done)
    assert not done.get("failed"), done["msg"]
    after = host.snapshot()
    again = host.run(task.kind, options)
    assert not again.get("failed"), again["msg"]
    assert host.snapshot() == after
    for name, second in results(again).items():
        assert (second["changed"], second["actions"]) == (False, [])
        assert second["diff"]["before"] == results(done)[name]["diff"]["after"], "diff.after is not what is there"


def check_foretold(foretold: dict[str, Any], done: dict[str, Any]) -> None:
    assert not done.get("failed"), done["msg"]
    for name, found in results(done).items():
        for key in FORETOLD:
            assert found[key] == results(foretold)[name][key], f"check mode foretold another {key}"


def results(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The results of the single domains."""
    return result.get("domains", {"": result})
