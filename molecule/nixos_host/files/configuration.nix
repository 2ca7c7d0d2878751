# SPDX-License-Identifier: GPL-3.0-or-later
# As nixos-generate-config writes it. The text imports = [ ] in this comment is not the list of imports.
{ config, lib, ... }:

{
  imports =
    [ # Include the results of the hardware scan.
      ./hardware-configuration.nix
    ];

  networking.hostName = "nixos-host";
  users.users.alice.isNormalUser = true;
  system.stateVersion = "26.05";
}
