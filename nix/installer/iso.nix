# SPDX-License-Identifier: GPL-3.0-or-later
# NixOS's minimal installer, which accepts the keys in KEYSTONE_SSH_KEYS for root.
{ modulesPath, ... }:

{
  imports = [
    (modulesPath + "/installer/cd-dvd/installation-cd-minimal.nix")
    ../modules/ssh-keys.nix
  ];

  # The guest agent reports the address to the host.
  services.qemuGuest.enable = true;

  # A serial console in addition to the screen, which the host can log.
  boot.kernelParams = [
    "console=ttyS0"
    "console=tty0"
  ];
}
