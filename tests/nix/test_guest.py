# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest module: what it evaluates to, and what it refuses."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import GUEST_MODULE, ROOT, EvaluationError, World

RO = "/sysroot/nix/.ro-store"
RW = "/sysroot/nix/.rw-store"
DISK = '{ device = "/dev/vdb"; fsType = "ext4"; }'


def nix_package(name: str, version: str) -> str:
    """A module that chooses another Nix."""
    package = (
        f'type = "derivation"; name = "{name}-{version}"; pname = "{name}"; version = "{version}"; outPath = "/x";'
    )
    return f"{{ nix.package = {{ {package} }}; }}"


PERSISTENT = ("persistentRwStore = true;", f'{{ fileSystems."{RW}" = {DISK}; }}')


def test_nothing_happens_unless_enabled(world: World) -> None:
    assert list(world.config("fileSystems", GUEST_MODULE, ROOT)) == ["/"]


def test_the_share_is_read_only_and_never_checked(world: World) -> None:
    share = world.guest(f'fileSystems."{RO}"')
    assert (share["device"], share["fsType"]) == ("nix-store-share", "virtiofs")
    assert "ro" in share["options"]
    assert share["noCheck"] is True
    assert share["neededForBoot"] is True


def test_the_writable_layer_is_a_tmpfs(world: World) -> None:
    layer = world.guest(f'fileSystems."{RW}"')
    assert (layer["device"], layer["fsType"]) == ("tmpfs", "tmpfs")
    assert "mode=0755" in layer["options"]
    assert layer["neededForBoot"] is True


def test_the_store_is_an_overlay_with_the_own_store_first(world: World) -> None:
    store = world.guest('fileSystems."/nix/store"')
    assert (store["device"], store["fsType"]) == ("overlay", "overlay")
    assert store["neededForBoot"] is True
    layers = store["overlay"]
    assert layers["lowerdir"] == ["/nix/store", RO]
    assert (layers["upperdir"], layers["workdir"]) == (f"{RW}/upper", f"{RW}/work")


def test_a_persistent_layer_is_the_device_that_the_user_declares(world: World) -> None:
    layer = world.guest(f'fileSystems."{RW}"', *PERSISTENT)
    assert (layer["device"], layer["fsType"], layer["neededForBoot"]) == ("/dev/vdb", "ext4", True)
    assert "mode=0755" not in layer["options"]
    assert world.guest("system.build.toplevel", *PERSISTENT)


def test_the_size_of_the_tmpfs_can_be_limited(world: World) -> None:
    options = world.guest(f'fileSystems."{RW}".options', "", f'{{ fileSystems."{RW}".options = [ "size=2G" ]; }}')
    assert {"mode=0755", "size=2G"} <= set(options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param("", ["nodev", "nosuid"], id="root may write by default"),
        pytest.param("readOnlyStore = true;", ["ro", "nodev", "nosuid"], id="as NixOS has it otherwise"),
    ],
)
def test_root_may_write_to_the_running_store(world: World, options: str, expected: list[str]) -> None:
    assert world.guest("boot.nixStoreMountOpts", options) == expected


def test_the_users_own_mount_options_win(world: World) -> None:
    own = '{ boot.nixStoreMountOpts = [ "ro" ]; }'
    assert world.guest("boot.nixStoreMountOpts", "", own) == ["ro"]


def test_stage_1_has_the_modules(world: World) -> None:
    assert {"overlay", "virtio_pci", "virtiofs"} <= set(world.guest("boot.initrd.availableKernelModules"))


def test_the_guest_agent_runs_unless_the_user_says_no(world: World) -> None:
    assert world.guest("services.qemuGuest.enable") is True
    assert world.guest("services.qemuGuest.enable", "", "{ services.qemuGuest.enable = false; }") is False


def test_the_defaults_are_accepted(world: World) -> None:
    assert world.guest("system.build.toplevel")


def test_a_tag_of_36_bytes_is_accepted(world: World) -> None:
    assert world.guest("system.build.toplevel", f'shareName = "{"a" * 36}";')


@pytest.mark.parametrize("other", ["rwStoreMount", "mountPoint"])
def test_two_file_systems_in_one_place_leave_the_word_to_the_assertion(world: World, other: str) -> None:
    # NixOS's own assertions look at the file systems, too, and would meet a conflict of definitions there.
    assert list(world.guest("fileSystems", f'roStoreMount = "/a"; {other} = "/a";')) == ["/"]


def test_an_overlay_store_may_collect_its_own_garbage(world: World) -> None:
    own = "{ nix.gc.automatic = true; }"
    assert world.guest("system.build.toplevel", 'storeRegistration = "overlay-store";', own)


@pytest.mark.parametrize(
    ("options", "module", "named", "fix"),
    [
        pytest.param(f'shareName = "{"a" * 37}";', "{ }", ["shareName", "37 bytes"], "shorter tag", id="long tag"),
        pytest.param(f'shareName = "{"ü" * 19}";', "{ }", ["shareName", "38 bytes"], "shorter tag", id="bytes count"),
        pytest.param(
            'rwStoreMount = "/nix/store/.rw";',
            "{ }",
            ["rwStoreMount", "mountPoint"],
            "contain each other",
            id="upper in the store",
        ),
        pytest.param(
            'roStoreMount = "/nix/store/.ro";',
            "{ }",
            ["roStoreMount", "mountPoint"],
            "contain each other",
            id="lower in the store",
        ),
        pytest.param(
            'rwStoreMount = "/a"; roStoreMount = "/a/b";',
            "{ }",
            ["roStoreMount", "rwStoreMount"],
            "contain each other",
            id="layer in layer",
        ),
        pytest.param(
            'mountPoint = "/nix";',
            "{ }",
            ["own store", "mountPoint"],
            "contain each other",
            id="store in mount point",
        ),
        pytest.param(
            'mountPoint = "/mnt"; rwStoreMount = "/nix/store/.rw";',
            "{ }",
            ["rwStoreMount", "own store"],
            "contain each other",
            id="upper in the own store",
        ),
        pytest.param(
            'roStoreMount = "/mnt/store"; rwStoreMount = "/mnt/store";',
            "{ }",
            ["roStoreMount and", "rwStoreMount are both /mnt/store"],
            "another directory",
            id="two layers in one place",
        ),
        pytest.param(
            'storeRegistration = "none"; roStoreMount = "/mnt"; mountPoint = "/mnt";',
            "{ }",
            ["mountPoint and", "roStoreMount are both /mnt"],
            "another directory",
            id="layer in the place of the store",
        ),
        pytest.param("persistentRwStore = true;", "{ }", ["persistentRwStore"], f'"{RW}".device', id="no device"),
        pytest.param(
            "persistentRwStore = true;",
            f'{{ fileSystems."{RW}" = {{ device = "data"; fsType = "virtiofs"; }}; }}',
            ["rwStoreMount", "virtiofs"],
            "ext4",
            id="upper on virtiofs",
        ),
        pytest.param("", "{ nix.gc.automatic = true; }", ["nix.gc.automatic"], "false", id="collects garbage"),
        pytest.param("", "{ nix.settings.min-free = 1024; }", ["nix.settings.min-free"], "false", id="min-free"),
        pytest.param("", '{ nix.settings.min-free = "1G"; }', ["nix.settings.min-free"], "false", id="min-free, text"),
        pytest.param("", "{ nix.optimise.automatic = true; }", ["nix.optimise.automatic"], "false", id="optimises"),
        pytest.param(
            "",
            "{ nix.settings.auto-optimise-store = true; }",
            ["nix.settings.auto-optimise-store"],
            "false",
            id="optimises always",
        ),
        pytest.param(
            'mountPoint = "/mnt";',
            "{ }",
            ["storeRegistration", "in /mnt"],
            'Registration to "none"',
            id="store elsewhere",
        ),
        pytest.param(
            f'storeRegistration = "overlay-store"; databaseShareName = "{"d" * 37}";',
            "{ }",
            ["databaseShareName", "37 bytes"],
            "shorter tag",
            id="long tag of the database",
        ),
        pytest.param(
            'storeRegistration = "overlay-store"; databaseMount = "/nix/store/.db";',
            "{ }",
            ["databaseMount", "mountPoint"],
            "contain each other",
            id="database in the store",
        ),
        pytest.param(
            'storeRegistration = "overlay-store";',
            "{ nix.optimise.automatic = true; }",
            ["nix.optimise.automatic"],
            "false",
            id="optimises an overlay store",
        ),
        pytest.param("persistentRwStore = true;", "{ }", ["persistentRwStore", "no device"], ".fsType", id="no device"),
        pytest.param(
            'storeRegistration = "overlay-store";',
            "{ nix.enable = false; }",
            ["storeRegistration", "needs Nix"],
            "nix.enable",
            id="overlay store without Nix",
        ),
        pytest.param(
            'storeRegistration = "overlay-store";',
            nix_package("lix", "2.93"),
            ["storeRegistration", "lix-2.93"],
            "nix.package",
            id="overlay store with Lix",
        ),
        pytest.param(
            'storeRegistration = "overlay-store";',
            nix_package("nix", "2.18"),
            ["storeRegistration", "2.22 or later"],
            "nix.package",
            id="overlay store with an old Nix",
        ),
        pytest.param(
            'storeRegistration = "overlay-store";',
            '{ nix.daemonUser = "nix"; }',
            ["storeRegistration", "must run as root"],
            "Remove nix.daemonUser",
            id="overlay store with another user",
        ),
    ],
)
def test_a_failed_assertion_names_the_option_and_the_fix(
    world: World, options: str, module: str, named: list[str], fix: str
) -> None:
    with pytest.raises(EvaluationError, match="Failed assertions") as caught:
        world.guest("system.build.toplevel", options, module)
    message = str(caught.value)
    assert all(name in message for name in [*named, fix]), message


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("enable", '"yes"', "boolean"),
        ("shareName", '""', "non-empty string"),
        ("shareName", "[ ]", "non-empty string"),
        ("mountPoint", '"nix/store"', "string matching"),
        ("mountPoint", '"/"', "string matching"),
        ("roStoreMount", '"/mnt/ro/"', "string matching"),
        ("roStoreMount", '"/mnt/a:b"', "string matching"),
        ("rwStoreMount", '"/mnt/a b"', "string matching"),
        ("rwStoreMount", "null", "string matching"),
        ("persistentRwStore", "1", "boolean"),
        ("readOnlyStore", '"false"', "boolean"),
        ("storeRegistration", '"overlay"', "one of "),
        ("storeRegistration", "null", "one of "),
        ("databaseShareName", '""', "non-empty string"),
        ("databaseMount", '"nix/db"', "string matching"),
    ],
)
def test_a_value_of_another_type_is_refused(world: World, option: str, value: str, expected: str) -> None:
    name = f"keystone.virtualization.guest.virtiofs.{option}"
    with pytest.raises(EvaluationError, match=f"{name}' is not of type `{expected}"):
        world.config(name, GUEST_MODULE, f"{{ {name} = {value}; }}")


def test_an_unknown_option_is_refused(world: World) -> None:
    with pytest.raises(EvaluationError, match=r"virtiofs\.shareNam' does not exist"):
        world.guest("system.build.toplevel", 'shareNam = "x";')


# What else there may be in a guest's configuration.


def test_where_something_else_mounts_everything_the_module_stays_away(world: World) -> None:
    """As the machine of `nixos-rebuild build-vm` does, which overrides fileSystems."""
    others = f'({{ lib, ... }}: {{ fileSystems = lib.mkForce {{ "/" = {DISK}; "/nix/store" = {DISK}; }}; }})'
    for mode in ("closure", "overlay-store"):
        guest = (f'storeRegistration = "{mode}";', others)
        assert world.guest("system.build.toplevel", *guest)
        assert world.guest("systemd.services", *guest) == {}
        assert world.guest("systemd.paths", *guest) == {}
        assert world.guest("system.preSwitchChecks", *guest) == {}


def test_without_nix_there_is_nothing_of_nix(world: World) -> None:
    without = ("", "{ nix.enable = false; }")
    assert list(world.guest("systemd.services", *without)) == ["keystone-store-recovery"]
    assert world.guest("system.build.toplevel", *without)


def test_new_mount_options_of_nixos_are_kept(world: World) -> None:
    default = world.config("boot.nixStoreMountOpts", ROOT)
    assert "ro" in default
    assert world.guest("boot.nixStoreMountOpts") == [option for option in default if option != "ro"]


def test_a_check_of_the_database_that_finds_something_does_not_fail_the_switch(world: World) -> None:
    settings = world.guest("systemd.services.keystone-store-verification.serviceConfig")
    assert settings["SuccessExitStatus"] == 1


@pytest.mark.parametrize("name", ["registration", "verification"])
def test_a_switch_does_not_register_and_verify_again(world: World, name: str) -> None:
    assert world.guest(f"systemd.services.keystone-store-{name}.serviceConfig.RemainAfterExit") is True
