# SPDX-License-Identifier: GPL-3.0-or-later
# A module that another imports twice.
{ lib, ... }:

{
  options.a = lib.mkOption { type = lib.types.listOf lib.types.int; };
  config.a = [ 1 ];
}
