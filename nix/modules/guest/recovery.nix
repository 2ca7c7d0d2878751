# SPDX-License-Identifier: GPL-3.0-or-later
{
  config,
  lib,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; }) isMounted;

  hardening = import ../hardening.nix;
in
{
  config = lib.mkIf (cfg.enable && isMounted) {
    # Nix's garbage collector deletes whatever the guest's database does not list. Of the host's paths, that only hides
    # them, with character devices in the writable layer.
    systemd.services.keystone-store-recovery = {
      description = "Recovery of the host's paths that were deleted in the guest";
      wantedBy = lib.optional cfg.persistentRwStore "multi-user.target";
      unitConfig.StartLimitIntervalSec = 0; # each change of the writable layer starts it
      serviceConfig = hardening.remounts // {
        Type = "oneshot";
      };
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

        [ -z "$recovered" ] || /etc/keystone/remount-store
      '';
    };
    systemd.paths.keystone-store-recovery = {
      description = "Changes of the store's writable layer";
      wantedBy = [ "multi-user.target" ];
      pathConfig.PathChanged = [ "${cfg.rwStoreMount}/upper" ];
    };
  };
}
