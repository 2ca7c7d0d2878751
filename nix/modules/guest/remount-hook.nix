# SPDX-License-Identifier: GPL-3.0-or-later
# Nix runs the hook, with the store as its argument, after it has uncovered a path of the host.
{
  mode = "0755";
  text = ''
    #!/bin/sh
    # Without the source, mount would add the layers from fstab, which the kernel refuses as a change.
    exec mount -o remount overlay "$1"
  '';
}
