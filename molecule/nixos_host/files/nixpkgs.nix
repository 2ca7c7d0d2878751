# SPDX-License-Identifier: GPL-3.0-or-later
# A stand-in for nixpkgs' flake, made of the stand-ins of tests/nix.
{
  outputs = _: {
    lib = import ./lib // {
      nixosSystem = { modules }: import ./nixos { } modules;
    };
  };
}
