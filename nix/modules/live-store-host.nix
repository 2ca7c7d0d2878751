# SPDX-License-Identifier: GPL-3.0-or-later
# Answers of this host's Nix to guests with the store registration live.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.host.virtiofs;
  prefix = "keystone.virtualization.host.virtiofs";

  hardening = import ./hardening.nix;

  # The role vm and the option guests write a directory for each guest.
  settings = "/var/lib/keystone-virtiofs/guests/live";
  socket = "/run/keystone-store/%i.socket";

  # With nothing else next to the package.
  python = builtins.path {
    name = "keystone-store-proxy";
    path = ./.;
    filter = path: _: builtins.match ".*/keystone_store_proxy(/[a-z_]+\\.py)?" path != null;
  };

  confined = hardening.sandboxed // {
    User = "keystone-store";
    LogRateLimitIntervalSec = 60;
    LogRateLimitBurst = 100;
    MemoryDenyWriteExecute = true;
    ProcSubset = "pid";
    ProtectProc = "invisible";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
    UMask = "0077";
  };
in
{
  options.keystone.virtualization.host.virtiofs.liveStore = lib.mkOption {
    type = lib.types.bool;
    default = false;
    example = true;
    description = ''
      Whether to run, for each guest with `vm_live_store` of the Ansible role `vm` and for each guest in
      {option}`${prefix}.guests` with a live store, a service that answers the guest's queries about the Nix database of
      this host, and never changes the database.
    '';
  };

  options.keystone.virtualization.host.virtiofs.hostBuilds = lib.mkOption {
    type = lib.types.bool;
    default = false;
    example = true;
    description = ''
      Whether to run a second Nix daemon, which builds for guests with `vm_host_builds` of the Ansible role `vm`, in a
      sandbox without a network. Each of these guests is then a user of this host's Nix, though not a trusted one; see
      [security](security.md). Includes {option}`${prefix}.liveStore`.
    '';
  };

  config = lib.mkIf (cfg.enable && (cfg.liveStore || cfg.hostBuilds)) {
    users.users.keystone-store = {
      isSystemUser = true;
      group = "keystone-store";
    };
    users.groups.keystone-store = { };

    # The roles expect the package at this path on every distribution.
    systemd.tmpfiles.rules = [
      "d /usr/local/lib/keystone-virtiofs 0755 root root -"
      "L+ /usr/local/lib/keystone-virtiofs/keystone_store_proxy - - - - ${python}/keystone_store_proxy"
    ];

    systemd.sockets."keystone-store-proxy@" = {
      description = "Queries of the guest %i about the Nix store";
      listenStreams = [ socket ];
      listenDatagrams = [ "/run/keystone-store/%i.vsock" ]; # connections that keystone-store-vsock has accepted
      socketConfig = {
        SocketUser = "keystone-store";
        SocketGroup = "keystone-store";
        SocketMode = "0600";
      };
    };

    systemd.services."keystone-store-proxy@" = {
      description = "Answers about the Nix store to the guest %i";
      requires = [ "keystone-store-proxy@%i.socket" ];
      unitConfig.StartLimitIntervalSec = 0;
      environment.PYTHONPATH = "${python}";
      serviceConfig = confined // {
        # Sets SHOWN, empty or an option with the directory below, and BUILDS. Without the file the service does not start.
        EnvironmentFile = "${settings}/%i/proxy";
        ExecStart = "${pkgs.python3}/bin/python3 -m keystone_store_proxy $SHOWN $BUILDS";
        BindReadOnlyPaths = "-/var/lib/keystone-virtiofs/domains/%i/view/names:/run/keystone-store/shown";
        # A guest that asks without end takes no more than its share.
        CPUWeight = 20;
        MemoryMax = "256M";
        TasksMax = 80;
        PrivateNetwork = true;
      };
    };

    systemd.sockets.keystone-store-vsock = {
      description = "Queries of guests about the Nix store over vsock";
      wantedBy = [ "sockets.target" ];
      unitConfig.ConditionPathExists = "/dev/vhost-vsock";
      listenStreams = [ "vsock::649" ]; # below 1024, so that no other user of the host can listen here
    };

    systemd.services.keystone-store-vsock = {
      description = "Connections of guests over vsock to their store proxies";
      unitConfig.StartLimitIntervalSec = 0;
      environment.PYTHONPATH = "${python}";
      serviceConfig = confined // {
        ExecStart = "${
          pkgs.python3.withPackages (packages: [ packages.libvirt ])
        }/bin/python3 -m keystone_store_proxy.vsock";
        Restart = "on-failure";
        CPUWeight = 20;
        MemoryMax = "256M";
        PrivateNetwork = true;
      };
    };

    systemd.services."keystone-store-forward@" = {
      description = "Connection of the guest %i to the Nix store";
      wants = [ "keystone-store-proxy@%i.socket" ];
      after = [ "keystone-store-proxy@%i.socket" ];
      unitConfig = {
        StartLimitIntervalSec = 0;
        ConditionPathExists = "${settings}/%i/ssh_config"; # a guest with a vsock has none
      };
      serviceConfig = confined // {
        LoadCredential = [
          "key:/var/lib/keystone-virtiofs/guests/ssh/%i"
          "known_hosts:${settings}/%i/known_hosts"
          "ssh_config:${settings}/%i/ssh_config"
        ];
        # The guest's end belongs to keystone-store-relay there.
        ExecStart = lib.concatStringsSep " " [
          "${pkgs.openssh}/bin/ssh -F %d/ssh_config -i %d/key -o UserKnownHostsFile=%d/known_hosts"
          "-N -R /run/keystone-virtiofs/live/forwarded.socket:${socket} guest"
        ];
        Restart = "always"; # the guest may be off, or still booting
        RestartSec = 3;
        IPAddressDeny = "";
        RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
      };
    };

    systemd.sockets.keystone-store-builder = lib.mkIf cfg.hostBuilds {
      description = "Builds for guests";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ "/run/keystone-store/builder/socket" ];
      socketConfig = {
        SocketUser = "keystone-store";
        SocketGroup = "keystone-store";
        SocketMode = "0600";
      };
    };

    systemd.services.keystone-store-builder = lib.mkIf cfg.hostBuilds {
      description = "Nix daemon that builds for guests";
      requires = [ "keystone-store-builder.socket" ];
      unitConfig.RequiresMountsFor = "/nix/store";
      environment.NIX_USER_CONF_FILES = "${./keystone-store-builder.conf}";
      path = [ config.nix.package ];
      serviceConfig = {
        ExecStart = "${config.nix.package}/bin/nix-daemon --daemon";
        # All guests together.
        CPUWeight = 20;
        IOWeight = 20;
        MemoryMax = "50%";
        TasksMax = 4096;
        # Builds have namespaces, and with them capabilities, of their own.
        CapabilityBoundingSet = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SYS_ADMIN CAP_SYS_CHROOT";
        DevicePolicy = "closed";
        NoNewPrivileges = true;
        PrivateMounts = true;
        # A derivation that may use the network finds none.
        PrivateNetwork = true;
        PrivateTmp = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectKernelModules = true;
        ProtectSystem = "strict";
        ReadWritePaths = "/nix";
        RestrictAddressFamilies = "AF_INET AF_INET6 AF_NETLINK AF_UNIX";
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallFilter = "~@clock @module @raw-io @reboot @swap";
        SystemCallErrorNumber = "EPERM";
        UMask = "0077";
      };
    };

    systemd.services.keystone-store-live = {
      description = "Start of the connections of guests to the Nix store";
      wantedBy = [ "multi-user.target" ];
      after = [ "libvirtd.service" ];
      unitConfig.ConditionPathExistsGlob = "${settings}/*/proxy";
      path = [ config.systemd.package ];
      serviceConfig = hardening.sandboxed // {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = ''
        cd ${settings}
        for guest in *; do
          systemctl start --no-block "keystone-store-proxy@$guest.socket" "keystone-store-forward@$guest.service"
        done
      '';
    };

    assertions = [
      {
        assertion = !lib.elem "keystone-store" (config.nix.settings.trusted-users or [ ]);
        message = "nix.settings.trusted-users: with ${prefix}.liveStore, the user keystone-store must not be trusted, because guests act as this user. Remove it from the list.";
      }
    ];
  };
}
