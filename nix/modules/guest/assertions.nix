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
    hasLowerStore
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

  # Something else may replace all file systems, as the machine of `nixos-rebuild build-vm` does.
  unfitLayers = lib.optionals (config.fileSystems ? ${cfg.rwStoreMount}) (unfitLayer config.fileSystems.${cfg.rwStoreMount});

  unfitLayer = writableLayer: [
    {
      assertion = cfg.persistentRwStore -> writableLayer.device != null;
      message = "${prefix}.persistentRwStore: the writable layer has no device. Set fileSystems.\"${cfg.rwStoreMount}\".device and .fsType.";
    }
    {
      assertion = !lib.elem writableLayer.fsType unfitForUpperLayer;
      message = "${prefix}.rwStoreMount: overlayfs cannot write to ${writableLayer.fsType}. Set fileSystems.\"${cfg.rwStoreMount}\" to a file system on a disk, such as ext4.";
    }
  ];

  # Options that would write to host paths and thereby copy or hide them in the writable layer. An overlay store
  # distinguishes host paths, so that garbage collection leaves them alone.
  hostOnlyOptions = {
    "nix.gc.automatic" = config.nix.gc.automatic && !hasLowerStore;
    "nix.settings.min-free" =
      !lib.elem (toString (config.nix.settings.min-free or 0)) [
        ""
        "0"
      ]
      && !hasLowerStore;
    "nix.optimise.automatic" = config.nix.optimise.automatic;
    "nix.settings.auto-optimise-store" = config.nix.settings.auto-optimise-store or false;
    "programs.nh.clean.enable" = config.programs.nh.clean.enable or false && !hasLowerStore;
  };

  nix = config.nix.package;

  # What a store with the host's as its lower store needs.
  unfitNix = [
    {
      assertion = config.nix.enable;
      message = "${prefix}.storeRegistration: \"${cfg.storeRegistration}\" needs Nix. Set nix.enable to true, or ${prefix}.storeRegistration to \"none\".";
    }
    {
      assertion = nix.pname or "nix" != "lix" && builtins.compareVersions (nix.version or "2.22") "2.22" >= 0;
      message = "${prefix}.storeRegistration: \"${cfg.storeRegistration}\" needs Nix 2.22 or later, and nix.package is ${nix.name}. Set nix.package, or ${prefix}.storeRegistration to \"closure\".";
    }
    {
      assertion = config.nix.daemonUser or "root" == "root";
      message = "${prefix}.storeRegistration: with \"${cfg.storeRegistration}\", the Nix daemon must run as root. Remove nix.daemonUser, or set ${prefix}.storeRegistration to \"closure\".";
    }
  ];
in
{
  config = lib.mkIf cfg.enable {
    assertions =
      tooLong
      ++ allApart
      ++ lib.optionals areDistinct unfitLayers
      ++ lib.mapAttrsToList (name: isSet: {
        assertion = !isSet;
        message = "${name}: with ${prefix}.enable it would copy or hide the host's paths in the writable layer. Leave it to the host, and set it to false here.";
      }) hostOnlyOptions
      ++ lib.optionals hasLowerStore unfitNix
      ++ [
        {
          assertion = !cfg.hostBuilds || cfg.storeRegistration == "live";
          message = "${prefix}.hostBuilds: what the host builds is valid in the guest only with the store registration live. Set ${prefix}.storeRegistration to \"live\", or ${prefix}.hostBuilds to false.";
        }
        {
          assertion = cfg.mountPoint == ownStore || cfg.storeRegistration == "none";
          message = "${prefix}.storeRegistration: Nix looks for valid paths in ${ownStore}, and the host's are in ${cfg.mountPoint}. Set ${prefix}.mountPoint to ${ownStore}, or ${prefix}.storeRegistration to \"none\".";
        }
      ];
  };
}
