# SPDX-License-Identifier: GPL-3.0-or-later
{
  description = "NixOS guests that run straight from their libvirt host's /nix/store over virtiofs";

  inputs = {
    disko = {
      url = "github:nix-community/disko";
      inputs.nixpkgs.follows = "nixpkgs";
    };
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  };

  outputs =
    {
      disko,
      nixpkgs,
      self,
    }:
    let
      forEachSystem = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      nixosSystem =
        system: modules:
        nixpkgs.lib.nixosSystem { modules = modules ++ [ { nixpkgs.hostPlatform = system; } ]; };
    in
    {
      nixosModules = {
        virtiofs-guest = ./nix/modules/guest-virtiofs.nix;
        virtiofs-host = ./nix/modules/host-virtiofs.nix;
        default.imports = [
          self.nixosModules.virtiofs-guest
          self.nixosModules.virtiofs-host
        ];
      };

      lib = import ./nix/modules/direct-boot.nix;

      templates.default = {
        path = ./nix/template;
        description = "A libvirt host with a NixOS guest that boots directly from the host's store";
      };

      nixosConfigurations.test-virtiofs = nixosSystem "x86_64-linux" [
        disko.nixosModules.disko
        ./nix/vms/test-virtiofs/configuration.nix
      ];

      # With keys to log in: KEYSTONE_SSH_KEYS="$(cat ~/.ssh/*.pub)" nix build --impure .#installer-iso
      packages = forEachSystem (system: {
        default = import ./nix/collection.nix {
          pkgs = nixpkgs.legacyPackages.${system};
          collection = ./.;
        };
        installer-iso = (nixosSystem system [ ./nix/installer/iso.nix ]).config.system.build.isoImage;
      });

      checks = forEachSystem (
        system:
        import ./nix/checks.nix {
          pkgs = nixpkgs.legacyPackages.${system};
          nixosSystem = nixosSystem system;
        }
      );

      apps = forEachSystem (
        system:
        import ./nix/apps.nix {
          pkgs = nixpkgs.legacyPackages.${system};
          collection = ./.;
        }
      );

      formatter = forEachSystem (system: nixpkgs.legacyPackages.${system}.nixfmt-tree);

      # What scripts/setup looks for, and Ansible for those who want no .venv. Python finds libvirt and lxml through
      # PYTHONPATH, in a .venv as well. nixpkgs has no mmdebstrap, which builds the embedded test guest.
      devShells = forEachSystem (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          default = pkgs.mkShell {
            packages = [
              pkgs.ansible
              pkgs.git
              pkgs.gnumake
              pkgs.libvirt
              pkgs.molecule
              pkgs.nix
              pkgs.nixos-anywhere
              pkgs.openssh
              pkgs.python3
              pkgs.python3Packages.libvirt
              pkgs.python3Packages.lxml
              pkgs.qemu-utils
              pkgs.shellcheck
            ];
          };
        }
      );
    };
}
