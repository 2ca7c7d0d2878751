# SPDX-License-Identifier: GPL-3.0-or-later
# A whole NixOS of a nixpkgs, for modules that say nothing about their machine.
nixpkgs: modules:
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  system = null;
  modules = [
    (
      { lib, ... }:
      {
        boot.loader.grub.enable = lib.mkDefault false;
        documentation.enable = false; # takes half of the time
        fileSystems."/" = lib.mkDefault {
          device = "/dev/vda2";
          fsType = "ext4";
        };
        nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
        system.stateVersion = lib.mkDefault lib.trivial.release;
      }
    )
  ]
  ++ modules;
}
