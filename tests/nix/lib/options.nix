# SPDX-License-Identifier: GPL-3.0-or-later
# What modules mark options, values and their priorities with.
{ lib }:

rec {
  mkOption = option: option // { _type = "option"; };
  isOption = value: value._type or null == "option";

  mkEnableOption =
    name:
    mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${name}.";
    };

  mkPackageOption =
    pkgs: name: arguments:
    mkOption {
      type = lib.types.package;
      default = pkgs.${name};
      defaultText = literalExpression "pkgs.${name}";
      description = "The ${name} package to use.";
      example = literalExpression (lib.concatStringsSep "." ([ "pkgs" ] ++ arguments.example));
    };

  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkOptionDefault = mkOverride 1500;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  defaultPriority = 100;

  showOption = lib.concatMapStringsSep "." (
    name: if builtins.match "[a-zA-Z_][a-zA-Z0-9_'-]*" name == null then ''"${name}"'' else name
  );
}
