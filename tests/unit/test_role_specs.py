# SPDX-License-Identifier: GPL-3.0-or-later
"""What the users of the roles see is what the schema says."""

from __future__ import annotations

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
