# SPDX-License-Identifier: GPL-3.0-or-later
# Settings of services that need little of the machine; a service that needs more overrides them.
rec {
  # Leaves the service in the machine's mount namespace, where its mounts are seen.
  inSharedMounts = {
    CapabilityBoundingSet = "";
    DevicePolicy = "closed";
    IPAddressDeny = "any";
    LockPersonality = true;
    NoNewPrivileges = true;
    RestrictAddressFamilies = "AF_UNIX";
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallFilter = [ "@system-service" ];
  };

  # As root, without the rights to files of other users.
  remounts = inSharedMounts // {
    CapabilityBoundingSet = "CAP_SYS_ADMIN";
    SystemCallFilter = [ "@system-service @mount" ];
  };

  sandboxed = inSharedMounts // {
    PrivateDevices = true;
    PrivateTmp = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectSystem = "strict";
  };

  # What Nix needs to open a store that is mounted read-only: it makes the store writable in a mount namespace of its own.
  opensStore = {
    CapabilityBoundingSet = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SYS_ADMIN";
    RestrictNamespaces = "mnt";
    SystemCallFilter = [ "@system-service @mount" ];
  };
}
