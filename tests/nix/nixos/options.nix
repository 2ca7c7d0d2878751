# SPDX-License-Identifier: GPL-3.0-or-later
# The options of NixOS that this project's modules, examples and tests touch.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) types;

  option = type: default: lib.mkOption { inherit type default; };
  flag = option types.bool false;
  strings = option (types.listOf types.str) [ ];
  packages = option (types.listOf types.package) [ ];
  anything = option types.anything { };

  failed = lib.filter (one: !one.assertion) config.assertions;
in
{
  options = {
    # Of test nodes only.
    virtualisation = {
      additionalPaths = option (types.listOf types.unspecified) [ ];
      memorySize = option types.int 1024;
      writableStore = flag;
    };

    assertions = option (types.listOf types.unspecified) [ ];

    boot = {
      initrd = {
        availableKernelModules = strings;
        systemd = {
          enable = option types.bool true; # as of NixOS 26.05
          services = anything;
        };
      };
      kernelParams = strings;
      loader = anything;
      nixStoreMountOpts = option (types.listOf types.nonEmptyStr) [
        "ro"
        "nodev"
        "nosuid"
      ];
    };
    disko = anything;
    environment = {
      etc = anything;
      sessionVariables = anything;
      systemPackages = packages;
    };
    isoImage = anything;
    networking = {
      firewall = {
        backend = option types.str "iptables";
        extraForwardRules = option types.lines "";
        filterForward = flag;
        interfaces = anything;
      };
      hostName = option types.str "nixos";
    };
    nix = {
      buildMachines = option (types.listOf (types.attrsOf types.unspecified)) [ ];
      distributedBuilds = flag;
      daemonUser = option types.str "root";
      enable = option types.bool true;
      gc.automatic = flag;
      optimise.automatic = flag;
      package = option types.package pkgs.nix;
      settings = anything;
    };
    nixpkgs = anything;
    services = {
      getty.autologinUser = option (types.nullOr types.str) null;
      openssh = {
        enable = flag;
        settings = anything;
      };
      qemuGuest.enable = flag;
    };
    system = {
      build = option (types.lazyAttrsOf types.unspecified) { };
      preSwitchChecks = option (types.attrsOf types.str) { };
      stateVersion = lib.mkOption { type = types.str; };
    };
    systemd = {
      globalEnvironment = anything;
      paths = anything;
      package = option types.package pkgs.systemd;
      services = anything;
      sockets = anything;
      targets = anything;
      tmpfiles.rules = strings;
    };
    users = {
      groups = option (types.attrsOf (types.submodule { options.members = strings; })) { };
      users = option (types.attrsOf (
        types.submodule {
          options = {
            group = option types.str "";
            isNormalUser = flag;
            isSystemUser = flag;
            openssh.authorizedKeys.keys = option (types.listOf types.singleLineStr) [ ];
          };
        }
      )) { };
    };
    virtualisation.libvirtd = {
      enable = flag;
      onShutdown = option (types.enum [
        "shutdown"
        "suspend"
      ]) "suspend";
      package = option types.package pkgs.libvirt;
      qemu = {
        swtpm.enable = flag;
        vhostUserPackages = packages;
      };
    };
  };

  config.system.build = {
    toplevel =
      if failed == [ ] then
        pkgs.runCommand "system" { } ""
      else
        throw "\nFailed assertions:\n${lib.concatMapStrings (one: "- ${one.message}\n") failed}";
    isoImage = pkgs.writeText "iso" "image";
  };
}
