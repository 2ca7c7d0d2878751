# SPDX-License-Identifier: GPL-3.0-or-later
# The layers of the store, which stage 1 mounts.
{
  config,
  lib,
  options,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; }) areDistinct ownStore storeImageUpdateMount;

  # An image that has the UUID from the module store_image.
  storeImage = uuid: {
    device = "/dev/disk/by-uuid/${uuid}";
    fsType = "erofs";
    options = [
      "ro"
      "dax=always" # on a disk, erofs turns this off
    ];
    noCheck = true; # nothing ever writes to it
    neededForBoot = true;
  };
in
{
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
            # NixOS has no default, and would complain before the assertion does.
            (lib.mkIf cfg.persistentRwStore { fsType = lib.mkDefault "auto"; })
          ];
          ${cfg.mountPoint} = {
            # NixOS puts stage 1's prefix before these, creates upper and work, and orders the mounts.
            overlay = {
              # The own store first: a system installed in the guest boots no matter what the host's store contains.
              lowerdir = [
                ownStore
              ]
              ++ lib.optionals cfg.storeImage [
                storeImageUpdateMount
                cfg.storeImageMount
              ]
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

        boot.nixStoreMountOpts = lib.mkIf (!cfg.readOnlyStore) (
          lib.mkDefault (lib.filter (option: option != "ro") options.boot.nixStoreMountOpts.default)
        );

        services.qemuGuest.enable = lib.mkDefault true;
      }

      (lib.mkIf cfg.storeImage {
        fileSystems = lib.mkIf areDistinct {
          ${cfg.storeImageMount} = storeImage "6b657973-746f-6e65-7374-6f7265696d67";
          ${storeImageUpdateMount} = storeImage "6b657973-746f-6e65-7374-6f7265757064";
        };

        boot.initrd.availableKernelModules = [
          "erofs"
          "nd_pmem"
          "virtio_blk"
          "virtio_pmem"
        ];

        # 4 MiB instead of 64, which a guest with memory below 4 GiB would reserve because persistent memory lies above.
        boot.kernelParams = [ "swiotlb=2048" ];
      })
    ]
  );
}
