# SPDX-License-Identifier: GPL-3.0-or-later
{
  description = "Stand-in for NixOS: Debian's kernel and programs in the shape of NixOS systems";

  outputs =
    { self }:
    let
      system = import ./system.nix;
    in
    {
      nixosConfigurations = {
        # Generations of one guest. Each brings a payload of its own, so that copying it would be seen.
        first = system { name = "first"; };
        second = system { name = "second"; };
        # The activation succeeds, and then the guest cannot be reached any more.
        mute = system {
          name = "mute";
          service = "ip link set eth0 down";
          undo = "ip link set eth0 up";
        };
        # A unit fails: switch-to-configuration ends with status 4, and the system is in use.
        degraded = system {
          name = "degraded";
          service = "exit 1";
        };
        # switch-to-configuration itself fails.
        broken = system {
          name = "broken";
          activation = "echo no such user; false";
        };
        # The boot loader cannot be installed.
        unbootable = system {
          name = "unbootable";
          boot = "false";
        };
        slow = system {
          name = "slow";
          activation = "sleep 300";
        };

        # Its stage 1 mounts a disk instead of the share.
        on_disk = system {
          name = "on_disk";
          root = "/dev/vda";
        };
        installer = system {
          name = "installer";
          variant = "installer";
        };
      };

      # As nix/installer/iso.nix, it has the keys of the environment.
      packages.x86_64-linux.installer-iso = derivation {
        name = "stand-in.iso";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [
          "-euc"
          "mkdir -p $out/iso; echo \"$keys\" > $out/iso/stand-in.iso"
        ];
        PATH = "/usr/bin:/bin";
        keys = builtins.getEnv "KEYSTONE_SSH_KEYS";
      };
    };
}
