# SPDX-License-Identifier: GPL-3.0-or-later
{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    keystone-virtiofs = {
      url = "git+file:///home/me/keystone-virtiofs"; # a clone of the collection's repository
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      keystone-virtiofs,
      nixpkgs,
      self,
    }:
    {
      nixosConfigurations.hypervisor = nixpkgs.lib.nixosSystem {
        modules = [
          keystone-virtiofs.nixosModules.virtiofs-host
          { keystone.virtualization.host.virtiofs.guests.web.nixos = self.nixosConfigurations.web; }
          ./hypervisor.nix
        ];
      };

      nixosConfigurations.web = nixpkgs.lib.nixosSystem {
        modules = [
          keystone-virtiofs.nixosModules.virtiofs-guest
          ./web.nix
        ];
      };
    };
}
