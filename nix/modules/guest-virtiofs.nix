# SPDX-License-Identifier: GPL-3.0-or-later
# A guest that runs from its host's /nix/store: an overlay of the guest's own store, the host's store as a virtiofs
# share, and a writable layer, mounted in stage 1.
{ config, lib, ... }:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  prefix = "keystone.virtualization.guest.virtiofs";

  ownStore = "/nix/store";

  # Without the characters that fstab and overlayfs read as separators or escapes.
  absolutePath = lib.types.strMatching "(/[A-Za-z0-9._@+-]+)+";

  # QEMU's limit for the tag of a virtiofs device.
  longestShareName = 36;

  # File systems that overlayfs refuses as its upper layer.
  unfitForUpperLayer = [
    "9p"
    "nfs"
    "nfs4"
    "virtiofs"
  ];

  # The layers are mounted before the store, so none of these may lie in another.
  places = [
    {
      name = "${prefix}.mountPoint";
      path = cfg.mountPoint;
    }
    {
      name = "${prefix}.roStoreMount";
      path = cfg.roStoreMount;
    }
    {
      name = "${prefix}.rwStoreMount";
      path = cfg.rwStoreMount;
    }
  ]
  ++ lib.optional (cfg.mountPoint != ownStore) {
    name = "the guest's own store";
    path = ownStore;
  };

  liesIn = inner: outer: lib.hasPrefix "${outer.path}/" "${inner.path}/";

  apart = inner: outer: {
    assertion = inner.name == outer.name || !liesIn inner outer;
    message = "${inner.name} (${inner.path}) lies in ${outer.name} (${outer.path}): neither could be mounted before the other. Choose directories outside of each other.";
  };

  writableLayer = config.fileSystems.${cfg.rwStoreMount};

  # What would write to every path of the host's, and with that copy or hide it in the writable layer.
  hostsBusiness = {
    "nix.gc.automatic" = config.nix.gc.automatic;
    "nix.optimise.automatic" = config.nix.optimise.automatic;
    "nix.settings.auto-optimise-store" = config.nix.settings.auto-optimise-store or false;
  };
in
{
  options.keystone.virtualization.guest.virtiofs = {
    enable = lib.mkEnableOption "running from the host's Nix store, shared over virtiofs";

    shareName = lib.mkOption {
      type = lib.types.nonEmptyStr;
      default = "nix-store-share";
      example = "store";
      description = "Tag of the virtiofs share, as the host's domain names it; at most ${toString longestShareName} bytes.";
    };

    mountPoint = lib.mkOption {
      type = absolutePath;
      default = "/nix/store";
      example = "/mnt/store";
      description = ''
        Where the combined store appears: the guest's own store above the host's, below what the guest has written.
        This and the other paths are those of the running guest.
      '';
    };

    roStoreMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.ro-store";
      example = "/nix/.ro-store";
      description = "Where the host's store is mounted, read-only.";
    };

    rwStoreMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.rw-store";
      example = "/nix/.rw-store";
      description = ''
        Where the writable layer is mounted: a tmpfs, unless {option}`${prefix}.persistentRwStore` is set.
        Limit its size with {option}`fileSystems.<rwStoreMount>.options`.
      '';
    };

    persistentRwStore = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether what the guest writes to its store survives a reboot. Declare the device that holds it:
        {option}`fileSystems.<rwStoreMount>.device` and `.fsType`.
      '';
    };

    readOnlyStore = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether the running guest's store is read-only for all but the Nix daemon, as NixOS has it otherwise. If not,
        root may write to it. Neither lets the guest write to the host's store.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    fileSystems = {
      ${cfg.roStoreMount} = {
        device = cfg.shareName;
        fsType = "virtiofs";
        options = [ "ro" ];
        noCheck = true; # a tag is no device that fsck could check
        neededForBoot = true;
      };
      ${cfg.rwStoreMount} = lib.mkMerge [
        { neededForBoot = true; }
        (lib.mkIf (!cfg.persistentRwStore) {
          fsType = "tmpfs";
          options = [ "mode=0755" ];
        })
      ];
      ${cfg.mountPoint} = {
        # NixOS puts stage 1's prefix before these, creates upper and work, and orders the mounts.
        overlay = {
          # The own store first: a system that is installed in the guest boots whatever the host has.
          lowerdir = [
            ownStore
            cfg.roStoreMount
          ];
          upperdir = "${cfg.rwStoreMount}/upper";
          workdir = "${cfg.rwStoreMount}/work";
        };
        neededForBoot = true;
      };
    };

    boot.initrd.availableKernelModules = [
      "overlay"
      "virtio_pci"
      "virtiofs"
    ];

    # NixOS's own options without "ro".
    boot.nixStoreMountOpts = lib.mkIf (!cfg.readOnlyStore) (
      lib.mkDefault [
        "nodev"
        "nosuid"
      ]
    );

    services.qemuGuest.enable = lib.mkDefault true;

    assertions = [
      {
        assertion = lib.stringLength cfg.shareName <= longestShareName;
        message = "${prefix}.shareName: '${cfg.shareName}' has ${toString (lib.stringLength cfg.shareName)} bytes, and QEMU takes ${toString longestShareName}. Choose a shorter tag, here and on the host.";
      }
      {
        assertion = cfg.persistentRwStore -> writableLayer.device != null;
        message = "${prefix}.persistentRwStore: there is no device to keep the writable layer on. Set fileSystems.\"${cfg.rwStoreMount}\".device and .fsType.";
      }
      {
        assertion = !lib.elem writableLayer.fsType unfitForUpperLayer;
        message = "${prefix}.rwStoreMount: overlayfs cannot write to ${writableLayer.fsType}. Set fileSystems.\"${cfg.rwStoreMount}\" to a file system on a disk, such as ext4.";
      }
    ]
    ++ lib.concatMap (inner: map (apart inner) places) places
    ++ lib.mapAttrsToList (name: isSet: {
      assertion = !isSet;
      message = "${name}: with ${prefix}.enable it would copy or hide the host's paths in the writable layer. Leave it to the host, and set it to false here.";
    }) hostsBusiness;
  };
}
