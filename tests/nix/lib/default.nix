# SPDX-License-Identifier: GPL-3.0-or-later
# As much of nixpkgs' lib as the modules of this project use, written for tests on machines without nixpkgs.
# test_stand_in.py holds it to the results of the real one.
let
  lib =
    import ./basics.nix
    // import ./options.nix { inherit lib; }
    // {
      types = import ./types.nix { inherit lib; };
      inherit (import ./modules.nix { inherit lib; }) evalModules mergeDefinitions;
    };
in
lib
