# SPDX-License-Identifier: GPL-3.0-or-later
# What a guest refuses.
{
  config,
  lib,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; })
    areDistinct
    isLive
    isOverlayStore
    longestShareName
    ownStore
    places
    prefix
    ;

  # File systems that overlayfs refuses as its upper layer.
  unfitForUpperLayer = [
    "9p"
    "nfs"
    "nfs4"
    "virtiofs"
  ];

  tags = {
    "${prefix}.shareName" = cfg.shareName;
  }
  // lib.optionalAttrs isOverlayStore { "${prefix}.databaseShareName" = cfg.databaseShareName; };

  tooLong = lib.mapAttrsToList (name: tag: {
    assertion = lib.stringLength tag <= longestShareName;
    message = "${name}: '${tag}' has ${toString (lib.stringLength tag)} bytes, and QEMU takes ${toString longestShareName}. Choose a shorter tag, here and on the host.";
  }) tags;

  liesIn = inner: outer: lib.hasPrefix "${places.${outer}}/" "${places.${inner}}/";

  apart = inner: outer: {
    assertion = inner == outer || !liesIn inner outer;
    message =
      if places.${inner} == places.${outer} then
        "${inner} and ${outer} are both ${places.${inner}}. Choose another directory for one of them."
      else
        "${inner} (${places.${inner}}) lies in ${outer} (${places.${outer}}): neither could be mounted before the other. Choose directories that do not contain each other.";
  };

  allApart = lib.concatMap (inner: map (apart inner) (lib.attrNames places)) (lib.attrNames places);

  writableLayer = config.fileSystems.${cfg.rwStoreMount};

  unfitLayer = [
    {
      assertion = cfg.persistentRwStore -> writableLayer.device != null;
      message = "${prefix}.persistentRwStore: the writable layer has no device. Set fileSystems.\"${cfg.rwStoreMount}\".device and .fsType.";
    }
    {
      assertion = !lib.elem writableLayer.fsType unfitForUpperLayer;
      message = "${prefix}.rwStoreMount: overlayfs cannot write to ${writableLayer.fsType}. Set fileSystems.\"${cfg.rwStoreMount}\" to a file system on a disk, such as ext4.";
    }
  ];

  # Options that would write to host paths and thereby copy or hide them in the writable layer.
  hostOnlyOptions = {
    # An overlay store distinguishes host paths and leaves them alone.
    "nix.gc.automatic" = config.nix.gc.automatic && !(isOverlayStore || isLive);
    "nix.optimise.automatic" = config.nix.optimise.automatic;
    "nix.settings.auto-optimise-store" = config.nix.settings.auto-optimise-store or false;
  };
in
{
  config = lib.mkIf cfg.enable {
    assertions =
      tooLong
      ++ allApart
      ++ lib.optionals areDistinct unfitLayer
      ++ lib.mapAttrsToList (name: isSet: {
        assertion = !isSet;
        message = "${name}: with ${prefix}.enable it would copy or hide the host's paths in the writable layer. Leave it to the host, and set it to false here.";
      }) hostOnlyOptions
      ++ [
        {
          assertion = cfg.mountPoint == ownStore || cfg.storeRegistration == "none";
          message = "${prefix}.storeRegistration: Nix looks for valid paths in ${ownStore}, and the host's are in ${cfg.mountPoint}. Set ${prefix}.mountPoint to ${ownStore}, or ${prefix}.storeRegistration to \"none\".";
        }
      ];
  };
}
