# SPDX-License-Identifier: GPL-3.0-or-later
# What NixOS makes of fileSystems: the fstab of stage 1, that of the running system, and services that create an
# overlay's directories. test_stand_in.py holds it to what nixpkgs' own modules make of the same.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) types;

  systemdStage1 = config.boot.initrd.systemd.enable;

  # Where stage 1 has what is at a path of the running system.
  stage1Prefix = fs: lib.optionalString (systemdStage1 && fs.neededForBoot) "/sysroot";

  overlay =
    { config, ... }:
    let
      prefix = stage1Prefix config;
      layers = config.overlay;
      inherit (lib) mkDefault mkIf optionals;
      isWritable = layers.upperdir != null;
    in
    {
      options.overlay = {
        lowerdir = lib.mkOption {
          type = types.nullOr (types.nonEmptyListOf types.str);
          default = null;
        };
        upperdir = lib.mkOption {
          type = types.nullOr types.str;
          default = null;
        };
        workdir = lib.mkOption {
          type = types.nullOr types.str;
          default = null;
        };
      };
      config = mkIf (layers.lowerdir != null) {
        fsType = "overlay";
        device = mkDefault "overlay";
        depends =
          layers.lowerdir
          ++ optionals isWritable [
            layers.upperdir
            layers.workdir
          ];
        options = [
          "lowerdir=${lib.concatMapStringsSep ":" (path: prefix + path) layers.lowerdir}"
        ]
        ++ optionals isWritable [
          "upperdir=${prefix}${layers.upperdir}"
          "workdir=${prefix}${layers.workdir}"
        ];
      };
    };

  fileSystem =
    { config, name, ... }:
    {
      options = {
        mountPoint = lib.mkOption {
          type = types.str;
          default = name;
        };
        device = lib.mkOption {
          type = types.nullOr types.nonEmptyStr;
          default = null;
        };
        fsType = lib.mkOption {
          type = types.nonEmptyStr; # no default since NixOS 26.05
        };
        options = lib.mkOption {
          type = types.nonEmptyListOf types.nonEmptyStr;
          default = [ "defaults" ];
        };
        depends = lib.mkOption {
          type = types.listOf types.str;
          default = [ ];
        };
        noCheck = lib.mkOption {
          type = types.bool;
          default = false;
        };
        neededForBoot = lib.mkOption {
          type = types.bool;
          default = false;
        };
      };
      config = {
        device = lib.mkIf (config.fsType == "tmpfs") (lib.mkDefault "tmpfs");
        neededForBoot = lib.mkIf (lib.elem config.mountPoint [ "/" "/nix" "/nix/store" ]) true;
        options = lib.mkMerge [
          (lib.mkIf config.neededForBoot [ "x-initrd.mount" ])
          (lib.mkIf (config.depends != [ ] && (systemdStage1 || !config.neededForBoot)) (
            map (path: "x-systemd.requires-mounts-for=${stage1Prefix config}${path}") config.depends
          ))
        ];
      };
    };

  neverChecked = [
    "overlay"
    "tmpfs"
  ];

  fstabLine =
    fs:
    let
      device =
        if fs.device == null then throw "No device specified for mount point ${fs.mountPoint}." else fs.device;
      check =
        if fs.noCheck || lib.elem fs.fsType neverChecked then
          "0"
        else if fs.mountPoint == "/" then
          "1"
        else
          "2";
    in
    "${device} ${fs.mountPoint} ${fs.fsType} ${lib.concatStringsSep "," fs.options} 0 ${check}\n";

  # The name of a path's unit, for the characters that the guest's options let through.
  unitName =
    path:
    lib.replaceStrings [ "/" "-" "+" "@" ] [ "-" "\\x2d" "\\x2b" "\\x40" ] (
      lib.substring 1 (lib.stringLength path) path
    );

  directoriesOf =
    fs:
    let
      prefix = stage1Prefix fs;
      mount = unitName (prefix + fs.mountPoint);
      directories = "${prefix}${fs.overlay.upperdir} ${prefix}${fs.overlay.workdir}";
    in
    lib.nameValuePair "rw-${mount}" {
      requiredBy = [ "${mount}.mount" ];
      before = [ "${mount}.mount" ];
      unitConfig = {
        DefaultDependencies = false;
        RequiresMountsFor = directories;
      };
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${pkgs.coreutils}/bin/mkdir -p -m 0755 ${directories}";
      };
    };

  inStage1 = lib.filter (fs: fs.neededForBoot) (lib.attrValues config.fileSystems);
in
{
  options.fileSystems = lib.mkOption {
    type = types.attrsOf (
      types.submodule {
        imports = [
          fileSystem
          overlay
        ];
      }
    );
    default = { };
  };

  config = {
    environment.etc.fstab.text = lib.concatMapStrings fstabLine (lib.attrValues config.fileSystems);
    system.build.initrdFstab = lib.concatMapStrings fstabLine inStage1;
    boot.initrd.systemd.services = lib.listToAttrs (
      map directoriesOf (lib.filter (fs: fs.overlay.upperdir != null) inStage1)
    );
  };
}
