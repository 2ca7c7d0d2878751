# SPDX-License-Identifier: GPL-3.0-or-later
# Which paths are valid for the guest's Nix.
{
  config,
  lib,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; }) isMounted ownStore;

  hardening = import ../hardening.nix;

  # The settings of a service that changes the Nix database at boot.
  registers =
    hardening.sandboxed
    // hardening.opensStore
    // {
      Type = "oneshot";
      RemainAfterExit = true; # not again at every switch
      ReadWritePaths = "/nix";
    };
in
{
  config = lib.mkIf (cfg.enable && config.nix.enable && isMounted) (
    lib.mkMerge [
      # After a reboot the paths in a tmpfs are gone, but a database on a disk would still list them as valid.
      (lib.mkIf (!cfg.persistentRwStore && cfg.mountPoint == ownStore) {
        systemd.services.keystone-store-verification = {
          description = "Removal of missing paths from the Nix database";
          wantedBy = [ "multi-user.target" ];
          before = [
            "keystone-store-registration.service"
            "nix-daemon.service"
          ];
          serviceConfig = registers // {
            # A path that the guest has built from a path of the host remains valid after the host has deleted the latter.
            SuccessExitStatus = 1;
          };
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
    ]
  );
}
