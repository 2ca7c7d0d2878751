# SPDX-License-Identifier: GPL-3.0-or-later
{
  inputs.nixpkgs.url = "path:/srv/nixpkgs";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations.hypervisor = nixpkgs.lib.nixosSystem {
        modules = [ ./hosts/hypervisor.nix ];
      };
    };
}
