# SPDX-License-Identifier: GPL-3.0-or-later
# In the place of file-systems.nix: nixpkgs' own modules for the same, and the options that they need.
{
  config,
  lib,
  nixpkgs,
  pkgs,
  ...
}:

let
  inherit (lib) types;
  anything = lib.mkOption {
    type = types.anything;
    default = { };
  };
in
{
  imports = [
    (nixpkgs + "/nixos/modules/tasks/filesystems.nix")
    (nixpkgs + "/nixos/modules/tasks/filesystems/overlayfs.nix")
  ];

  options = {
    # Of stage-1.nix.
    fileSystems = lib.mkOption {
      type = types.attrsOf (
        types.submodule {
          options.neededForBoot = lib.mkOption {
            type = types.bool;
            default = false;
          };
        }
      );
    };
    boot = {
      initrd = {
        checkJournalingFS = lib.mkOption {
          type = types.bool;
          default = true;
        };
        systemd = {
          managerEnvironment = anything;
          storePaths = lib.mkOption { type = types.listOf types.anything; };
        };
      };
    };
    ids = anything;
    swapDevices = lib.mkOption {
      type = types.listOf types.anything;
      default = [ ];
    };
  };

  config = {
    _module.args.utils = import (nixpkgs + "/nixos/lib/utils.nix") { inherit config lib pkgs; };
    ids.gids.keys = 96;
    system.build.initrdFstab = config.boot.initrd.systemd.managerEnvironment.SYSTEMD_SYSROOT_FSTAB;
  };
}
