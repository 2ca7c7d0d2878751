# SPDX-License-Identifier: GPL-3.0-or-later
# Switches of the running guest that would break the guest.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.guest.virtiofs;
  inherit (import ./layout.nix { inherit config lib; }) isMounted places prefix;

  ofStage1 = lib.filter (place: config.fileSystems.${place}.neededForBoot or false) (lib.attrValues places);
in
{
  config = lib.mkIf (cfg.enable && isMounted) {
    # The layers are at paths that only stage 1 has. systemd would try to mount them, fail, and stop all services.
    system.preSwitchChecks.keystone-store-mounts = ''
      case ''${2-} in boot | dry-activate) exit ;; esac

      # Of other file systems than an overlay, a switch can change the options.
      entry() {
        while read -r device place type options _; do
          [ "$place" = "$2" ] || continue
          echo "$device $type"
          [ "$type" = overlay ] || continue
          IFS=,
          for option in $options; do
            case $option in lowerdir=* | upperdir=* | workdir=*) echo "$option" ;; esac
          done
        done <"$1"
      }

      for place in ${toString ofStage1}; do
        if [ "$(entry /run/booted-system/etc/fstab "$place")" != "$(entry "$1/etc/fstab" "$place")" ]; then
          echo "Stage 1 of the running system has mounted $place in another way than this system needs, or not at all."
          echo "Make this system the boot default with 'nixos-rebuild boot', and restart the machine."
          exit 1
        fi
      done
    '';

    # What is built in the guest is lost with a tmpfs, and the boot default on a disk would point to nothing.
    system.preSwitchChecks.keystone-lasting-store = lib.mkIf (!cfg.persistentRwStore) ''
      case ''${2-} in switch | boot) ;; *) exit ;; esac

      own=${cfg.rwStoreMount}/upper/$(${pkgs.coreutils}/bin/basename "$1")
      if [ -e "$own" ] && [ "$(${pkgs.coreutils}/bin/stat --file-system --format=%T /nix/var/nix)" != tmpfs ]; then
        echo "$1 is in the writable layer, which a restart empties, and the machine could not boot then."
        echo "Use 'nixos-rebuild test', build the system on the host, or set ${prefix}.persistentRwStore."
        exit 1
      fi
    '';
  };
}
