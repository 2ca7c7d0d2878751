# SPDX-License-Identifier: GPL-3.0-or-later
# Stands for nixpkgs' flake: the stand-ins of tests/nix.
{
  outputs = _: {
    lib = import ./lib // {
      nixosSystem = { modules }: import ./nixos { } modules;
    };
  };
}
