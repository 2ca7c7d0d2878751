# SPDX-License-Identifier: GPL-3.0-or-later
# The checks of `nix flake check`, in addition to nixosConfigurations.
{ pkgs, nixosSystem }:

let
  # Options that the examples leave to the machine.
  machine = {
    boot.loader.grub.enable = false;
    fileSystems."/" = {
      device = "/dev/disk/by-label/nixos";
      fsType = "ext4";
    };
    system.stateVersion = "26.05";
  };
  toplevel =
    example:
    (nixosSystem [
      example
      machine
    ]).config.system.build.toplevel;
in
{
  example-guest = toplevel ./examples/guest.nix;
  example-host = toplevel ./examples/host.nix;

  virtiofs = pkgs.testers.runNixOSTest (
    import ./tests/virtiofs.nix { inherit pkgs nixosSystem; }
  );

  formatting = pkgs.runCommand "formatting" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
    find ${./.} ${../flake.nix} -name '*.nix' -exec nixfmt --check {} +
    touch $out
  '';
}
