# SPDX-License-Identifier: GPL-3.0-or-later
{
  description = "NixOS guests that run straight from their libvirt host's /nix/store over virtiofs";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { nixpkgs, ... }:
    let
      forEachSystem = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
    in
    {
      # What scripts/setup looks for. It makes .venv itself: the shell's Python finds libvirt and lxml through PYTHONPATH.
      devShells = forEachSystem (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          default = pkgs.mkShell {
            packages = [
              pkgs.git
              pkgs.gnumake
              pkgs.libvirt
              pkgs.mmdebstrap
              pkgs.nix
              pkgs.openssh
              pkgs.python3
              pkgs.python3Packages.libvirt
              pkgs.python3Packages.lxml
              pkgs.shellcheck
            ];
          };
        }
      );
    };
}
