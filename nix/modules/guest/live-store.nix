# SPDX-License-Identifier: GPL-3.0-or-later
# The store registration live: the guest's Nix asks the host whether a path is valid.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; }) isLive isMounted;

  hardening = import ../hardening.nix;

  directory = "/run/keystone-virtiofs/live";
  # Nix opens this one. The ssh server makes the other one for the host.
  relayed = "${directory}/host.socket";
  forwarded = "${directory}/forwarded.socket";

  overlayStore = "local-overlay://?${
    lib.concatStringsSep "&" [
      "lower-store=unix://${relayed}"
      "upper-layer=${cfg.rwStoreMount}/upper"
      # Nix expects the host's store alone below the writable layer, at the path that the overlay was mounted from.
      "check-mount=false"
      "remount-hook=/etc/keystone/remount-store"
    ]
  }";

  program = name: {
    environment.etc."keystone/${name}".text = builtins.readFile ../${name};
    systemd.services.${name} = {
      wantedBy = [ "multi-user.target" ];
      restartTriggers = [ (builtins.readFile ../${name}) ];
      serviceConfig = {
        Restart = "always";
        RestartSec = 2;
      };
    };
  };
  run = name: arguments: lib.concatStringsSep " " ([ "${pkgs.python3}/bin/python3 /etc/keystone/${name}" ] ++ arguments);
in
{
  config = lib.mkIf (cfg.enable && isLive && config.nix.enable && isMounted) (
    lib.mkMerge [
      (program "keystone-store-relay")
      (program "keystone-store-watch")
      {
        nix.settings.experimental-features = [ "local-overlay-store" ];

        # The daemon opens the overlay store; everything else, even root, uses the daemon.
        systemd.services.nix-daemon.environment.NIX_REMOTE = overlayStore;
        systemd.globalEnvironment.NIX_REMOTE = "daemon";
        environment.sessionVariables.NIX_REMOTE = "daemon";

        # Needs no host: the database and the store of the guest are those of a local store.
        systemd.services.keystone-store-verification = lib.mkIf (!cfg.persistentRwStore) {
          environment.NIX_REMOTE = "local";
        };

        systemd.services.keystone-store-relay = {
          description = "Connections of Nix to the host's store";
          before = [ "nix-daemon.service" ];
          serviceConfig = hardening.sandboxed // {
            Type = "notify";
            ExecStart = run "keystone-store-relay" [
              relayed
              forwarded
            ];
            RestrictAddressFamilies = "AF_UNIX AF_VSOCK";
            RuntimeDirectory = "keystone-virtiofs/live";
            RuntimeDirectoryMode = "0700";
            RuntimeDirectoryPreserve = true;
          };
        };

        systemd.services.keystone-store-watch = {
          description = "Changes of the host's store";
          path = [ config.nix.package ];
          serviceConfig =
            hardening.inSharedMounts
            // hardening.opensStore
            // {
              ExecStart = run "keystone-store-watch" [
                cfg.roStoreMount
                cfg.mountPoint
              ];
            };
        };

        nix.distributedBuilds = lib.mkIf cfg.hostBuilds true;
        nix.buildMachines = lib.optional cfg.hostBuilds {
          hostName = "unix://${relayed}";
          protocol = null;
          systems = [ pkgs.stdenv.hostPlatform.system ];
          maxJobs = 64; # the host has its own limit, and lets the others wait
          # Those of keystone-store-builder.conf.
          supportedFeatures = [
            "benchmark"
            "big-parallel"
          ];
        };

        # A forwarded socket outlives its connection, and the next one must replace it.
        services.openssh.settings.StreamLocalBindUnlink = true;
      }
    ]
  );
}
