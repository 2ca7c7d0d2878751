# SPDX-License-Identifier: GPL-3.0-or-later
# A NixOS that has the options which this project's modules set, and of its behaviour what becomes of file systems.
#   lib       the stand-in, or nixpkgs' own
#   nixpkgs   if given, the file systems are those of its own NixOS modules instead of the stand-in's
{
  lib ? import ../lib,
  nixpkgs ? null,
}:
modules:
lib.evalModules {
  modules = [
    ./options.nix
    (if nixpkgs == null then ./file-systems.nix else ./nixpkgs-file-systems.nix)
  ]
  ++ modules;
  specialArgs = {
    inherit nixpkgs;
    pkgs = import ./packages.nix;
    # As nixpkgs' own: the modules that configurations may import from there.
    modulesPath = ./modules;
  };
}
