# SPDX-License-Identifier: GPL-3.0-or-later
# NixOS's minimal installer that root can log in to with the keys of KEYSTONE_SSH_KEYS.
{ modulesPath, ... }:

{
  imports = [
    (modulesPath + "/installer/cd-dvd/installation-cd-minimal.nix")
    ../modules/ssh-keys.nix
  ];

  # Tells the host its address.
  services.qemuGuest.enable = true;

  # A serial console beside the screen, which the host can log.
  boot.kernelParams = [
    "console=ttyS0"
    "console=tty0"
  ];
}
