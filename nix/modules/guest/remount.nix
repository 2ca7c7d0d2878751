# SPDX-License-Identifier: GPL-3.0-or-later
# A program that makes the overlay forget what it has looked up. Its callers have no util-linux in their PATH.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; }) isMounted;
in
{
  config = lib.mkIf (cfg.enable && isMounted) {
    environment.etc."keystone/remount-store" = {
      mode = "0755";
      text = ''
        #!/bin/sh
        # remount-store [MOUNT POINT]
        store=''${1:-${cfg.mountPoint}}
        options=$(${pkgs.util-linux}/bin/findmnt --noheadings --output VFS-OPTIONS --mountpoint "$store" |
          ${pkgs.coreutils}/bin/tail -n 1)
        # Without the source, mount would add the layers from fstab, which the kernel refuses as a change.
        ${pkgs.util-linux}/bin/mount -o remount overlay "$store" || exit
        # The first remount has dropped the options of this mount, nosuid and ro among them.
        ${pkgs.util-linux}/bin/mount -o "remount,bind,$options" "$store"
      '';
    };
  };
}
