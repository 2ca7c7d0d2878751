# SPDX-License-Identifier: GPL-3.0-or-later
{
  config,
  lib,
  ...
}:

let
  inherit (import ./layout.nix { inherit config lib; })
    longestShareName
    prefix
    ;

  # Without the characters that fstab and overlayfs read as separators or escapes.
  absolutePath = lib.types.strMatching "(/[A-Za-z0-9._@+-]+)+";
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
        "live"
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
        `live`: all paths that are valid on the host at this moment, through the same kind of store and a connection
        that the host makes to the ssh server of the guest; requires Nix 2.22 or later, and `vm_live_store` of the
        Ansible role `vm`.
        `none`: only paths that the guest itself has built or installed.
      '';
    };

    hostBuilds = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether the host builds for this guest, with the store registration `live`. Paths that were built for one guest
        are valid in all guests. Requires `vm_host_builds` of the Ansible role `vm`. Derivations with `preferLocalBuild` and
        those with a fixed output are still built in the guest.
      '';
    };

    databaseShareName = lib.mkOption {
      type = lib.types.nonEmptyStr;
      default = "nix-database-share";
      example = "database";
      description = ''
        Tag of the share with the copy of the host's Nix database, for the store registration `overlay-store`; at most
        ${toString longestShareName} bytes. The copy is a Nix state directory, such as the host's option
        {option}`keystone.virtualization.host.virtiofs.exportDatabase` keeps.
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
        Whether the domain has an image of store paths and the update of the image, as two disks or as persistent memory,
        which `vm_store_image` of the Ansible role `vm` provides. The guest reads these paths as fast as from a local disk,
        and all others through the share. Without the images the guest does not boot. Requires a kernel with
        `CONFIG_FS_DAX`, which NixOS has.
      '';
    };

    storeImageMount = lib.mkOption {
      type = absolutePath;
      default = "/sysroot/nix/.store-image";
      example = "/nix/.store-image";
      description = ''
        Read-only mount point of the image of store paths. The mount point of its update has the same name with `-update`
        at the end.
      '';
    };
  };
}
