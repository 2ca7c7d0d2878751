# SPDX-License-Identifier: GPL-3.0-or-later
# A guest that keeps what it builds: the writable layer is on a separate disk.
{ config, ... }:

{
  imports = [ ../modules/guest-virtiofs.nix ];

  keystone.virtualization.guest.virtiofs = {
    enable = true;
    persistentRwStore = true;
  };

  fileSystems.${config.keystone.virtualization.guest.virtiofs.rwStoreMount} = {
    device = "/dev/disk/by-label/store";
    fsType = "ext4";
  };
}
