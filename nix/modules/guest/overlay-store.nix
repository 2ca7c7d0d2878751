# SPDX-License-Identifier: GPL-3.0-or-later
# The store registration overlay-store.
{
  config,
  lib,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; })
    areDistinct
    isMounted
    isOverlayStore
    ;

  # The host's store, with the paths and the copy of the database. Nix in the guest never writes to it.
  lowerStore = "local?real=${cfg.roStoreMount}&state=${cfg.databaseMount}&read-only=true";

  overlayStore = "local-overlay://?${
    lib.concatStringsSep "&" [
      "lower-store=${lib.replaceStrings [ "?" "&" ] [ "%3F" "%26" ] lowerStore}"
      "upper-layer=${cfg.rwStoreMount}/upper"
      # Nix expects the host's store alone below the writable layer, at the path that the overlay was mounted from.
      "check-mount=false"
      # Run, with the store as its argument, after Nix has uncovered a path of the host.
      "remount-hook=/etc/keystone/remount-store"
    ]
  }";

  opensOverlayStore = {
    # systemd expands specifiers after a percent sign, and NixOS does not escape them.
    environment.NIX_REMOTE = lib.replaceStrings [ "%" ] [ "%%" ] overlayStore;
    unitConfig.RequiresMountsFor = [ cfg.databaseMount ];
  };
in
{
  config = lib.mkIf (cfg.enable && isOverlayStore) (
    lib.mkMerge [
      {
        fileSystems = lib.mkIf areDistinct {
          ${cfg.databaseMount} = {
            device = cfg.databaseShareName;
            fsType = "virtiofs";
            options = [
              "nofail" # without the share the guest boots, and the Nix daemon does not start
              "ro"
            ];
            noCheck = true;
          };
        };
      }
      (lib.mkIf (config.nix.enable && isMounted) {
        nix.settings.experimental-features = [
          "local-overlay-store"
          "read-only-local-store"
        ];

        # The daemon, and the service before it, open the overlay store; everything else, even root, uses the daemon.
        systemd.services.nix-daemon = opensOverlayStore;
        systemd.services.keystone-store-verification = lib.mkIf (!cfg.persistentRwStore) opensOverlayStore;
        systemd.globalEnvironment.NIX_REMOTE = "daemon";
        environment.sessionVariables.NIX_REMOTE = "daemon";
      })
    ]
  );
}
