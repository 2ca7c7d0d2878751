# SPDX-License-Identifier: GPL-3.0-or-later
# A hypervisor. Add this to the machine's configuration.nix, or import this file there.
{
  imports = [ ../modules/host-virtiofs.nix ];

  keystone.virtualization.host.virtiofs = {
    enable = true;
    users = [ "alice" ];
  };

  users.users.alice.isNormalUser = true;
}
