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

  # The module store_image gives it to every image.
  storeImageUuid = "6b657973-746f-6e65-7374-6f7265696d67";

  # QEMU's limit for the tag of a virtiofs device.
  longestShareName = 36;

  # File systems that overlayfs refuses as its upper layer.
  unfitForUpperLayer = [
    "9p"
    "nfs"
    "nfs4"
    "virtiofs"
  ];

  isOverlayStore = cfg.storeRegistration == "overlay-store";

  tags = {
    "${prefix}.shareName" = cfg.shareName;
  }
  // lib.optionalAttrs isOverlayStore { "${prefix}.databaseShareName" = cfg.databaseShareName; };

  tooLong = lib.mapAttrsToList (name: tag: {
    assertion = lib.stringLength tag <= longestShareName;
    message = "${name}: '${tag}' has ${toString (lib.stringLength tag)} bytes, and QEMU takes ${toString longestShareName}. Choose a shorter tag, here and on the host.";
  }) tags;

  # The layers are mounted before the store, so none of these may lie in another.
  places = {
    "${prefix}.mountPoint" = cfg.mountPoint;
    "${prefix}.roStoreMount" = cfg.roStoreMount;
    "${prefix}.rwStoreMount" = cfg.rwStoreMount;
  }
  // lib.optionalAttrs isOverlayStore { "${prefix}.databaseMount" = cfg.databaseMount; }
  // lib.optionalAttrs cfg.storeImage { "${prefix}.storeImageMount" = cfg.storeImageMount; }
  // lib.optionalAttrs (cfg.mountPoint != ownStore) { "the guest's own store" = ownStore; };

  liesIn = inner: outer: lib.hasPrefix "${places.${outer}}/" "${places.${inner}}/";

  apart = inner: outer: {
    assertion = inner == outer || !liesIn inner outer;
    message =
      if places.${inner} == places.${outer} then
        "${inner} and ${outer} are both ${places.${inner}}. Choose another directory for one of them."
      else
        "${inner} (${places.${inner}}) lies in ${outer} (${places.${outer}}): neither could be mounted before the other. Choose directories outside of each other.";
  };

  allApart = lib.concatMap (inner: map (apart inner) (lib.attrNames places)) (lib.attrNames places);
  # Two file systems on one mount point would be a conflict of definitions, told in place of the assertions.
  areDistinct = lib.allUnique (lib.attrValues places);

  writableLayer = config.fileSystems.${cfg.rwStoreMount};

  unfitLayer = [
    {
      assertion = cfg.persistentRwStore -> writableLayer.device != null;
      message = "${prefix}.persistentRwStore: there is no device to keep the writable layer on. Set fileSystems.\"${cfg.rwStoreMount}\".device and .fsType.";
    }
    {
      assertion = !lib.elem writableLayer.fsType unfitForUpperLayer;
      message = "${prefix}.rwStoreMount: overlayfs cannot write to ${writableLayer.fsType}. Set fileSystems.\"${cfg.rwStoreMount}\" to a file system on a disk, such as ext4.";
    }
  ];

  # What would write to every path of the host's, and with that copy or hide it in the writable layer.
  hostsBusiness = {
    # An overlay store knows which paths are the host's and leaves them alone.
    "nix.gc.automatic" = config.nix.gc.automatic && !isOverlayStore;
    "nix.optimise.automatic" = config.nix.optimise.automatic;
    "nix.settings.auto-optimise-store" = config.nix.settings.auto-optimise-store or false;
  };

  remountHook = "keystone/remount-store";

  # The host's store: its paths, and what the snapshot of its database says of them. It never changes from here.
  lowerStore = "local?real=${cfg.roStoreMount}&state=${cfg.databaseMount}&read-only=true";

  overlayStore = "local-overlay://?${
    lib.concatStringsSep "&" [
      "lower-store=${lib.replaceStrings [ "?" "&" ] [ "%3F" "%26" ] lowerStore}"
      "upper-layer=${cfg.rwStoreMount}/upper"
      # Nix expects the host's store alone below the writable layer, at the path that the overlay was mounted from.
      "check-mount=false"
      "remount-hook=/etc/${remountHook}"
    ]
  }";

  opensOverlayStore = {
    # systemd expands what follows a percent sign, and NixOS leaves these alone.
    environment.NIX_REMOTE = lib.replaceStrings [ "%" ] [ "%%" ] overlayStore;
    unitConfig.RequiresMountsFor = [ cfg.databaseMount ];
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

    storeRegistration = lib.mkOption {
      type = lib.types.enum [
        "closure"
        "overlay-store"
        "none"
      ];
      default = "closure";
      example = "overlay-store";
      description = ''
        Which of the host's paths are valid for the guest's Nix, so that it uses them instead of building or fetching
        them again.
        `closure`: those of the registration that the kernel parameter `regInfo=<file>` names, loaded into the guest's
        own database at boot; NixOS's `closureInfo` makes such a file, and so does `nix-store --dump-db <path>...`.
        `overlay-store`: all that the host's database held when it was last copied for its guests, through Nix's
        experimental `local-overlay-store`; needs Nix 2.22 or later and a second share,
        {option}`${prefix}.databaseShareName`.
        `none`: no path, other than those that the guest itself has made or installed.
      '';
    };

    databaseShareName = lib.mkOption {
      type = lib.types.nonEmptyStr;
      default = "nix-database-share";
      example = "database";
      description = ''
        Tag of the share with the copy of the host's Nix database, for the store registration `overlay-store`; at most
        ${toString longestShareName} bytes. The copy is a Nix state directory, as
        `nix-store --dump-db | NIX_STATE_DIR=<directory> nix-store --load-db` makes it.
      '';
    };

    databaseMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.ro-database";
      example = "/nix/.ro-database";
      description = "Where that copy is mounted, read-only.";
    };

    storeImage = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether the domain has a disk with an image of store paths, as `vm_store_image` of the role `vm` makes it. Its paths
        are read as fast as from a local disk, all others through the share. The image is required: a domain without it does
        not boot.
      '';
    };

    storeImageMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.store-image";
      example = "/nix/.store-image";
      description = "Where the image is mounted, read-only.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        fileSystems = lib.mkIf areDistinct {
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
              ]
              ++ lib.optional cfg.storeImage cfg.storeImageMount
              ++ [ cfg.roStoreMount ];
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

        assertions =
          tooLong
          ++ allApart
          ++ lib.optionals areDistinct unfitLayer
          ++ lib.mapAttrsToList (name: isSet: {
            assertion = !isSet;
            message = "${name}: with ${prefix}.enable it would copy or hide the host's paths in the writable layer. Leave it to the host, and set it to false here.";
          }) hostsBusiness
          ++ [
            {
              assertion = cfg.mountPoint == ownStore || cfg.storeRegistration == "none";
              message = "${prefix}.storeRegistration: Nix looks for valid paths in ${ownStore}, and the host's are in ${cfg.mountPoint}. Set ${prefix}.mountPoint to ${ownStore}, or this to \"none\".";
            }
          ];
      }

      # What a tmpfs held is gone after a reboot, and a database on a disk would still take it for valid.
      (lib.mkIf (!cfg.persistentRwStore && cfg.mountPoint == ownStore) {
        systemd.services.keystone-store-verification = {
          description = "Removal of what is gone from the Nix database";
          wantedBy = [ "multi-user.target" ];
          before = [
            "keystone-store-registration.service"
            "nix-daemon.service"
          ];
          serviceConfig.Type = "oneshot";
          path = [ config.nix.package ];
          script = "nix-store --verify";
        };
      })

      (lib.mkIf (cfg.storeRegistration == "closure") {
        systemd.services.keystone-store-registration = {
          description = "Registration of the host's paths in the Nix database";
          wantedBy = [ "multi-user.target" ];
          before = [ "nix-daemon.service" ];
          unitConfig.ConditionKernelCommandLine = "regInfo";
          serviceConfig.Type = "oneshot";
          path = [ config.nix.package ];
          script = ''
            read -r parameters </proc/cmdline
            for parameter in $parameters; do
              case $parameter in
                regInfo=*) nix-store --load-db <"''${parameter#regInfo=}" ;;
              esac
            done
          '';
        };
      })

      (lib.mkIf cfg.storeImage {
        fileSystems = lib.mkIf areDistinct {
          ${cfg.storeImageMount} = {
            device = "/dev/disk/by-uuid/${storeImageUuid}";
            fsType = "erofs";
            options = [ "ro" ];
            noCheck = true; # nothing ever writes to it
            neededForBoot = true;
          };
        };

        boot.initrd.availableKernelModules = [
          "erofs"
          "virtio_blk"
        ];
      })

      (lib.mkIf isOverlayStore {
        fileSystems = lib.mkIf areDistinct {
          ${cfg.databaseMount} = {
            device = cfg.databaseShareName;
            fsType = "virtiofs";
            options = [
              "nofail" # without it the guest boots, and its Nix daemon says what is missing
              "ro"
            ];
            noCheck = true;
          };
        };

        nix.settings.experimental-features = [
          "local-overlay-store"
          "read-only-local-store"
        ];

        # The daemon, and what comes before it, open the overlay store; everybody else, root too, goes through the daemon.
        systemd.services.nix-daemon = opensOverlayStore;
        systemd.services.keystone-store-verification = lib.mkIf (!cfg.persistentRwStore) opensOverlayStore;
        systemd.globalEnvironment.NIX_REMOTE = "daemon";
        environment.sessionVariables.NIX_REMOTE = "daemon";

        # Nix runs it, with the store as its argument, when it has uncovered a path of the host's.
        environment.etc.${remountHook} = {
          mode = "0755";
          text = ''
            #!/bin/sh
            # With its source, or mount adds the layers from fstab, which the kernel refuses as a change.
            exec mount -o remount overlay "$1"
          '';
        };
      })
    ]
  );
}
