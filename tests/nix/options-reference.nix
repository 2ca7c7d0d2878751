# SPDX-License-Identifier: GPL-3.0-or-later
# The text of docs/nix-options.md, from the modules.
{
  lib ? import ./lib,
  nixpkgs ? null,
}@world:

let
  modules = {
    host = ../../nix/modules/host-virtiofs.nix;
    guest = ../../nix/modules/guest-virtiofs.nix;
  };
  inherit (import ./nixos world (lib.attrValues modules)) options;

  # Names of other options are marked for NixOS's manual; here they are code.
  plain = lib.replaceStrings [ "{option}" ] [ "" ];
  oneLine = text: lib.concatStringsSep " " (lib.filter (line: line != "") (lib.splitString "\n" text));

  value = given: if given._type or null == "literalExpression" then given.text else lib.toJSON given;

  field = name: text: "- ${name}: `${text}`\n";
  section =
    prefix: name: option:
    ''

      ### `${prefix}.${name}`

      ${plain (oneLine option.description)}

    ''
    + field "type" option.type.description
    + field "default" (value (option.defaultText or option.default))
    + lib.optionalString (option ? example) (field "example" (value option.example));

  chapter =
    role:
    let
      prefix = "keystone.virtualization.${role}.virtiofs";
      declared = lib.filterAttrs (_: lib.isOption) options.keystone.virtualization.${role}.virtiofs;
    in
    "\n## `nixosModules.virtiofs-${role}`\n" + lib.concatStringsSep "" (lib.mapAttrsToList (section prefix) declared);
in
''
  # Options of the NixOS modules

  Generated from the modules by `make generate`.
''
+ chapter "host"
+ chapter "guest"
