# SPDX-License-Identifier: GPL-3.0-or-later
# A guest that runs from its host's /nix/store: an overlay of the guest's own store, the host's store as a virtiofs
# share, and a writable layer. Stage 1 mounts all of them.
{
  imports = [
    ./guest/options.nix
    ./guest/assertions.nix
    ./guest/mounts.nix
    ./guest/recovery.nix
    ./guest/registration.nix
    ./guest/overlay-store.nix
    ./guest/live-store.nix
    ./guest/remount.nix
    ./guest/switch.nix
  ];
}
