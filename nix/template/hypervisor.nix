# SPDX-License-Identifier: GPL-3.0-or-later
# The host. Its hardware, boot loader and file systems belong into hardware-configuration.nix, as `nixos-generate-config`
# writes it.
{
  # imports = [ ./hardware-configuration.nix ];

  keystone.virtualization.host.virtiofs = {
    enable = true;
    users = [ "alice" ];
  };

  users.users.alice.isNormalUser = true;

  networking.hostName = "hypervisor";
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";
}
