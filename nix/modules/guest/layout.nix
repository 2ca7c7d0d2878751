# SPDX-License-Identifier: GPL-3.0-or-later
# The mount points of a guest, and what its modules say about them.
{ config, lib }:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
in
rec {
  prefix = "keystone.virtualization.guest.virtiofs";

  ownStore = "/nix/store";

  # What the image lacks is in a second one, which is above it.
  storeImageUpdateMount = "${cfg.storeImageMount}-update";

  # QEMU's limit for the tag of a virtiofs device.
  longestShareName = 36;

  isOverlayStore = cfg.storeRegistration == "overlay-store";
  isLive = cfg.storeRegistration == "live";
  # Nix then distinguishes the host's paths from its own.
  hasLowerStore = isOverlayStore || isLive;

  # The layers are mounted before the store, so no mount point may lie in another one.
  places = {
    "${prefix}.mountPoint" = cfg.mountPoint;
    "${prefix}.roStoreMount" = cfg.roStoreMount;
    "${prefix}.rwStoreMount" = cfg.rwStoreMount;
  }
  // lib.optionalAttrs isOverlayStore { "${prefix}.databaseMount" = cfg.databaseMount; }
  // lib.optionalAttrs cfg.storeImage {
    "${prefix}.storeImageMount" = cfg.storeImageMount;
    "the update of ${prefix}.storeImageMount" = storeImageUpdateMount;
  }
  // lib.optionalAttrs (cfg.mountPoint != ownStore) { "the guest's own store" = ownStore; };

  # With duplicate mount points, the module system would report conflicting definitions before these assertions.
  areDistinct = lib.allUnique (lib.attrValues places);

  # False where something else replaces all file systems, as the machine of `nixos-rebuild build-vm` does.
  isMounted = lib.elem cfg.roStoreMount (
    lib.toList (config.fileSystems.${cfg.mountPoint}.overlay.lowerdir or [ ])
  );
}
