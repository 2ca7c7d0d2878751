# SPDX-License-Identifier: GPL-3.0-or-later
# The outputs of the project's flake, with stand-ins for its inputs.
#   nixos     makes a configuration of modules
#   lib       nixpkgs' lib or the stand-in
{ lib, nixos }:

let
  inputs = {
    self = outputs;
    nixpkgs = {
      lib = lib // {
        nixosSystem = { modules }: nixos modules // { pkgs = import ./nixos/packages.nix; };
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: import ./nixos/packages.nix);
    };
    # What disko makes of the test VM's disk.
    disko.nixosModules.disko.fileSystems."/" = {
      device = "/dev/disk/by-partlabel/disk-main-root";
      fsType = "ext4";
    };
  };
  outputs = (import ../../flake.nix).outputs inputs;

  # What `nix flake init -t` gives.
  template = (import ../../nix/template/flake.nix).outputs {
    inherit (inputs) nixpkgs;
    keystone-virtiofs = outputs;
    self = template;
  };
in
outputs // { inherit template; }
