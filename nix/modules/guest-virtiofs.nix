# SPDX-License-Identifier: GPL-3.0-or-later
# A guest that runs from its host's /nix/store: an overlay of the guest's own store, the host's store as a virtiofs
# share, and a writable layer. Stage 1 mounts all of them.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  prefix = "keystone.virtualization.guest.virtiofs";

  hardening = import ./hardening.nix;

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

  # The layers are mounted before the store, so no mount point may lie in another one.
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
        "${inner} (${places.${inner}}) lies in ${outer} (${places.${outer}}): neither could be mounted before the other. Choose directories that do not contain each other.";
  };

  allApart = lib.concatMap (inner: map (apart inner) (lib.attrNames places)) (lib.attrNames places);
  # With duplicate mount points, the module system would report conflicting definitions before these assertions.
  areDistinct = lib.allUnique (lib.attrValues places);

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
    "nix.gc.automatic" = config.nix.gc.automatic && !isOverlayStore;
    "nix.optimise.automatic" = config.nix.optimise.automatic;
    "nix.settings.auto-optimise-store" = config.nix.settings.auto-optimise-store or false;
  };

  remountHook = "keystone/remount-store";

  # The host's store, with the paths and the copy of the database. Nix in the guest never writes to it.
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

  # The settings of a service that changes the Nix database at boot.
  registers =
    hardening.sandboxed
    // hardening.opensStore
    // {
      Type = "oneshot";
      ReadWritePaths = "/nix";
    };

  opensOverlayStore = {
    # systemd expands specifiers after a percent sign, and NixOS does not escape them.
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
        Mount point of the combined store: the guest's own store above the host's store, both below the writable layer.
        This and the other paths are those of the running guest.
      '';
    };

    roStoreMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.ro-store";
      example = "/nix/.ro-store";
      description = "Read-only mount point of the host's store.";
    };

    rwStoreMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.rw-store";
      example = "/nix/.rw-store";
      description = ''
        Mount point of the writable layer, which is a tmpfs unless {option}`${prefix}.persistentRwStore` is set.
        Limit its size with {option}`fileSystems.<rwStoreMount>.options`.
      '';
    };

    persistentRwStore = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether the writable layer is persistent. You must then set the device that holds it:
        {option}`fileSystems.<rwStoreMount>.device` and `.fsType`.
      '';
    };

    readOnlyStore = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether `/nix/store` is read-only for everything except the Nix daemon, as on a plain NixOS. If false, root can
        write to the overlay. The host's store is read-only in both cases.
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
        `closure`: the paths in the registration that the kernel parameter `regInfo=<file>` names, loaded into the
        guest's own database at boot; NixOS's `closureInfo` makes such a file, and so does
        `nix-store --dump-db <path>...`.
        `overlay-store`: all paths that the host's database contained when it was last copied for its guests, through
        Nix's experimental `local-overlay-store`; requires Nix 2.22 or later and a second share,
        {option}`${prefix}.databaseShareName`.
        `none`: only paths that the guest itself has built or installed.
      '';
    };

    databaseShareName = lib.mkOption {
      type = lib.types.nonEmptyStr;
      default = "nix-database-share";
      example = "database";
      description = ''
        Tag of the share with the copy of the host's Nix database, for the store registration `overlay-store`; at most
        ${toString longestShareName} bytes. The copy is a Nix state directory, as created by
        `nix-store --dump-db | NIX_STATE_DIR=<directory> nix-store --load-db`.
      '';
    };

    databaseMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.ro-database";
      example = "/nix/.ro-database";
      description = "Read-only mount point of the copy of the host's Nix database.";
    };

    storeImage = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether the domain has a disk with an image of store paths, which `vm_store_image` of the Ansible role `vm`
        provides. The guest reads these paths as fast as from a local disk, and all others through the share. Without the
        image the guest does not boot.
      '';
    };

    storeImageMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.store-image";
      example = "/nix/.store-image";
      description = "Read-only mount point of the image of store paths.";
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
            noCheck = true; # fsck cannot check a tag
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
              # The own store first: a system installed in the guest boots no matter what the host's store contains.
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

        # Nix's garbage collector deletes whatever the guest's database does not list. Of the host's paths, that only hides
        # them, with character devices in the writable layer.
        systemd.services.keystone-store-recovery = {
          description = "Recovery of the host's paths that were deleted in the guest";
          wantedBy = lib.optional cfg.persistentRwStore "multi-user.target";
          unitConfig.StartLimitIntervalSec = 0; # each change of the writable layer starts it
          serviceConfig = hardening.remounts // {
            Type = "oneshot";
          };
          path = [ pkgs.util-linux ];
          script = ''
            recovered=
            while read -r name; do
              if [ -n "$name" ] && { [ -e "${cfg.roStoreMount}/$name" ] || [ -L "${cfg.roStoreMount}/$name" ]; }; then
                rm -f "${cfg.rwStoreMount}/upper/$name"
                recovered=1
              fi
            done <<END
            $(find ${cfg.rwStoreMount}/upper -mindepth 1 -maxdepth 1 -type c -printf '%f\n')
            END

            # Remounted, the overlay forgets what it has looked up; the second remount restores the options of this mount.
            if [ -n "$recovered" ]; then
              options=$(findmnt --noheadings --output VFS-OPTIONS --mountpoint ${cfg.mountPoint} | tail -n 1)
              mount -o remount overlay ${cfg.mountPoint}
              mount -o "remount,bind,$options" ${cfg.mountPoint}
            fi
          '';
        };
        systemd.paths.keystone-store-recovery = {
          description = "Changes of the store's writable layer";
          wantedBy = [ "multi-user.target" ];
          pathConfig.PathChanged = [ "${cfg.rwStoreMount}/upper" ];
        };

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
      }

      # After a reboot the paths in a tmpfs are gone, but a database on a disk would still list them as valid.
      (lib.mkIf (!cfg.persistentRwStore && cfg.mountPoint == ownStore) {
        systemd.services.keystone-store-verification = {
          description = "Removal of missing paths from the Nix database";
          wantedBy = [ "multi-user.target" ];
          before = [
            "keystone-store-registration.service"
            "nix-daemon.service"
          ];
          serviceConfig = registers;
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
          serviceConfig = registers;
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
              "nofail" # without the share the guest boots, and the Nix daemon reports what is missing
              "ro"
            ];
            noCheck = true;
          };
        };

        nix.settings.experimental-features = [
          "local-overlay-store"
          "read-only-local-store"
        ];

        # The daemon, and the service before it, open the overlay store; everything else, even root, uses the daemon.
        systemd.services.nix-daemon = opensOverlayStore;
        systemd.services.keystone-store-verification = lib.mkIf (!cfg.persistentRwStore) opensOverlayStore;
        systemd.globalEnvironment.NIX_REMOTE = "daemon";
        environment.sessionVariables.NIX_REMOTE = "daemon";

        # Nix runs the hook, with the store as its argument, after it has uncovered a path of the host.
        environment.etc.${remountHook} = {
          mode = "0755";
          text = ''
            #!/bin/sh
            # Without the source, mount would add the layers from fstab, which the kernel refuses as a change.
            exec mount -o remount overlay "$1"
          '';
        };
      })
    ]
  );
}
