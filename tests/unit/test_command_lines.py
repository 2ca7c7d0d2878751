# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines of roles and playbooks: a word that they did not choose is never read as an option or a format."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = {"nix", "nix-env", "nix-store", "nixos-anywhere", "qemu-img", "scp", "ssh", "ssh-keyscan", "virsh"}
# Options of these programs that take no value.
FLAGS = {"-l", "-c", "-a", "-d", "-q", "--force-share", "--reset-nvram", "--image-opts"}


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Every task of a file, those of blocks included."""
    if isinstance(node, list):
        for item in node:
            yield from tasks(item)
    elif isinstance(node, dict):
        yield node
        for value in node.values():
            yield from tasks(value)


def command_lines() -> dict[str, Any]:
    """The argv of every task that runs a command, by file and name."""
    found = {}
    for path in sorted([*CHECKOUT.glob("roles/*/tasks/**/*.yml"), *CHECKOUT.glob("playbooks/**/*.yml")]):
        for task in tasks(yaml.safe_load(path.read_text())):
            command = task.get("ansible.builtin.command")
            if isinstance(command, dict) and "argv" in command:
                argv = command["argv"]
                # Parts of an expression may be variables of the task.
                whole = argv if isinstance(argv, list) else " ".join([argv, *map(str, task.get("vars", {}).values())])
                found[f"{path.relative_to(CHECKOUT)}: {task['name']}"] = whole
    return found


def is_guarded(argv: Any) -> bool:
    """Each variable word follows a lone double dash, or is the value of an option."""
    if isinstance(argv, str):  # an expression; its words are not known here
        return not re.search(rf"(\b({'|'.join(PROGRAMS)})|_nix|_snapshot)\b", argv) or "'--'" in argv
    if not PROGRAMS & set(argv):
        return True
    before = argv[: argv.index("--")] if "--" in argv else argv
    return all(
        not word.startswith("{{") or (previous.startswith("-") and previous not in FLAGS)
        for previous, word in itertools.pairwise(before)
        if isinstance(word, str)
    )


@pytest.mark.parametrize("argv", command_lines().values(), ids=command_lines())
def test_no_variable_word_is_an_option(argv: Any) -> None:
    assert is_guarded(argv)


def test_qemu_img_always_knows_the_format() -> None:
    for path in [*CHECKOUT.glob("roles/**/*.yml"), *CHECKOUT.glob("playbooks/**/*.yml")]:
        for line in path.read_text().splitlines():
            if re.search(r"[\[ ]qemu-img[, ]+(snapshot|info|resize|convert|check)", line):
                assert "--image-opts" in line or " -f" in line, f"{path}: {line}"


def test_a_snapshot_may_be_of_a_block_device() -> None:
    """QEMU's driver "file" refuses block devices; without a driver, QEMU chooses one that fits."""
    assert "file.driver" not in (CHECKOUT / "playbooks/tasks/post_install.yml").read_text()
