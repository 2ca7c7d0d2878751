# SPDX-License-Identifier: GPL-3.0-or-later
"""What the users of the roles see is what the schema says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import schema

CHECKOUT = Path(__file__).parents[2]
# Options of the role that carry a domain option's name after the prefix.
FIELDS = {f"vm_{field.option}": field for field in (*schema.OF_DOMAIN, schema.URI)}
SPEC: dict[str, Any] = yaml.safe_load((CHECKOUT / "roles/vm/meta/argument_specs.yml").read_text())["argument_specs"][
    "main"
]["options"]


@pytest.mark.parametrize("name", sorted(FIELDS.keys() & SPEC.keys()))
def test_a_role_option_is_of_the_modules_type_and_choices(name: str) -> None:
    argument, option = FIELDS[name].argument(), SPEC[name]
    assert option["type"] == argument["type"]
    assert option.get("choices") == argument.get("choices")
    assert option.get("elements") == argument.get("elements")


def test_the_role_knows_every_part_of_a_domain() -> None:
    parts = {f"vm_{field.option}" for field in schema.DOMAIN}
    assert parts - SPEC.keys() == {"vm_guest_agent"}, "the channel of the guest agent is there by default"


@pytest.mark.parametrize("name", ["vm_share_tag", "verify_share_tag"])
def test_the_default_tag_is_one_that_qemu_takes(name: str) -> None:
    role = name.partition("_")[0]
    defaults = yaml.safe_load((CHECKOUT / f"roles/{role}/defaults/main.yml").read_text())
    assert schema.check_tag(defaults[name]) is None


def options(kinds: set[str]) -> set[str]:
    """The options of these types, of all roles."""
    files = CHECKOUT.glob("roles/*/meta/argument_specs.yml")
    specs = itertools.chain.from_iterable(yaml.safe_load(path.read_text())["argument_specs"].values() for path in files)
    return {name for spec in specs for name, option in spec.get("options", {}).items() if option["type"] in kinds}


def expressions(node: Any, *, bare: bool = False) -> Iterator[str]:
    """What Jinja evaluates in a file of tasks or variables. ``bare``: without braces, as in conditions."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from expressions(value, bare=key in {"when", "that", "until", "failed_when", "changed_when"})
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value, bare=bare)
    elif isinstance(node, str):
        yield from [node] if bare else re.findall(r"\{[{%]-?\s*(.*?)\s*-?[%}]\}", node, re.DOTALL)


FILES = sorted(path for part in ("tasks", "vars", "defaults") for path in CHECKOUT.glob(f"roles/*/{part}/**/*.yml"))
FLAG = re.compile(
    rf"\b({'|'.join(options({'bool'}))})\b(?! *\| *bool| *\| *default\(false\) *\| *bool| is (not )?(un)?defined)"
)
NUMBER = f"({'|'.join(options({'int', 'float'}))})"
COUNTED = re.compile(rf"\b{NUMBER} *([<>*+/-]|==|!=)|([<>*+/-]|[<>=!]=) *{NUMBER}\b(?! *\|)|range\({NUMBER}\)")


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_an_option_may_come_as_text(file: Path) -> None:
    """From ``-e vm_live_store=false`` and from an inventory in INI, every value is a string, and this one is true."""
    found = list(expressions(yaml.safe_load(file.read_text())))
    passed_on = re.compile(r"\w+( *\| *default\(.*\))?")
    assert [text for text in found if FLAG.search(text) and not passed_on.fullmatch(text)] == []
    assert [text for text in found if COUNTED.search(text)] == []
