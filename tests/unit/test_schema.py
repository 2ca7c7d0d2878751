# SPDX-License-Identifier: GPL-3.0-or-later
"""Adding an option cannot be forgotten in one of its places: documentation, features, examples, rules of sockets."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import schema, validation
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.schema import Field
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._features import FEATURES
from ansible_collections.keystone.virtiofs.tests.unit.support import options, share

TABLES = {name: fields for name, fields in vars(schema).items() if name.isupper() and isinstance(fields, tuple)}
FIELDS = {
    f"{name}.{field.option}": field
    for name, fields in TABLES.items()
    for field in fields
    if isinstance(field, Field) and not name.startswith("OF_")
}
LEFT_TO_LIBVIRT = set(validation.WITH_SOCKET)


def sample(field: Field) -> Any:
    """A value that is set and different from false."""
    if field.choices:
        return field.choices[0]
    return {"bool": True, "int": 64, "dict": {}, "list": []}.get(field.type, "/a/path")


@pytest.mark.parametrize("name", FIELDS)
def test_the_feature_of_an_option_is_known(name: str) -> None:
    field = FIELDS[name]
    assert {field.feature, *dict(field.value_features).values()} <= {"", *(feature.id for feature in FEATURES)}
    assert set(dict(field.value_features)) <= set(field.choices)


@pytest.mark.parametrize("field", schema.SHARE, ids=lambda field: field.option)
def test_an_option_of_virtiofsd_cannot_be_combined_with_socket(field: Field) -> None:
    if field.option in LEFT_TO_LIBVIRT:
        assert not field.place.startswith("binary/"), "libvirt passes what is below <binary> to the daemon"
        return
    wanted = share(**{"socket": "/run/socket", field.option: sample(field)})
    with pytest.raises(InvalidInput, match=rf"{field.option}: cannot be combined|exactly one of source and socket"):
        validation.check_share(wanted)


def test_test_data_does_not_exceed_the_choices() -> None:
    with pytest.raises(ValueError, match="bus: 'scsi' is not one of virtio, sata"):
        options(schema.DISK, {"path": "/a", "bus": "scsi"})
