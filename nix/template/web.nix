# SPDX-License-Identifier: GPL-3.0-or-later
# A guest without a disk: its system comes from the host's store, and its state is lost when it stops.
{
  keystone.virtualization.guest.virtiofs.enable = true;

  boot.loader.grub.enable = false;
  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
    options = [ "mode=0755" ];
  };

  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [
    # "ssh-ed25519 ..."
  ];

  networking.hostName = "web";
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";
}
