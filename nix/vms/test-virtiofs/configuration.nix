# SPDX-License-Identifier: GPL-3.0-or-later
# A VM for trying out the share. Not for untrusted networks: the console logs in without a password.
{
  imports = [
    ../../modules/guest-virtiofs.nix
    ../../modules/ssh-keys.nix
    ./disko.nix
  ];

  keystone.virtualization.guest.virtiofs.enable = true;

  networking.hostName = "test-virtiofs";
  services.openssh.enable = true;
  services.getty.autologinUser = "root";

  boot.kernelParams = [
    "console=tty0"
    "console=ttyS0"
  ];
  boot.initrd.availableKernelModules = [ "virtio_blk" ];
  boot.loader.systemd-boot.enable = true;

  system.stateVersion = "26.05";
}
