# SPDX-License-Identifier: GPL-3.0-or-later
# What a guest with the guest module evaluates to, as files of the embedded test guest's stage 1: path, text and mode of
# each. Stage 1 copies what is below "system" to the running system.
module:

let
  lib = import ./lib;

  test-guest = {
    keystone.virtualization.guest.virtiofs.enable = true;
    fileSystems."/" = {
      device = "/dev/vda";
      fsType = "ext4";
      noCheck = true; # its stage 1 has no fsck
    };
  };
  inherit
    (import ./nixos { } [
      ../../nix/modules/guest-virtiofs.nix
      test-guest
      module
    ])
    config
    ;

  header = ''
    # SPDX-License-Identifier: GPL-3.0-or-later
    # Generated from nix/modules/guest-virtiofs.nix by scripts/test-guest-files.
  '';

  file = path: text: {
    inherit path;
    text = header + text;
    mode = "0644";
  };

  script = path: text: {
    inherit path;
    text = "#!/bin/sh\n${header}${ofDebian (lib.concatStrings (lib.splitString "#!/bin/sh\n" text))}";
    mode = "0755";
  };

  # The test guest's programs are Debian's.
  ofDebian = text: lib.concatStrings (lib.filter lib.isString (builtins.split "/nix/store/[a-z0-9]{32}-[^/ ]*" text));

  # As NixOS writes units.
  value = given: if lib.isBool given then (if given then "true" else "false") else ofDebian (toString given);
  line = name: given: "${name}=${value given}\n";
  setting = name: given: lib.concatMapStrings (line name) (lib.toList given);
  section =
    name: settings:
    lib.optionalString (settings != { }) "[${name}]\n${lib.concatStrings (lib.mapAttrsToList setting settings)}";

  unitText =
    unit: start:
    section "Unit" (
      lib.optionalAttrs (unit ? description) { Description = unit.description; }
      // lib.optionalAttrs (unit ? before) { Before = unit.before; }
      // unit.unitConfig or { }
    )
    + section "Service" (
      lib.optionalAttrs (unit ? environment) {
        Environment = lib.mapAttrsToList (name: text: ''"${name}=${text}"'') unit.environment;
      }
      // start
      // unit.serviceConfig or { }
    );

  # Links between units are not files, drop-ins are.
  wanted =
    root: unit: dependency: by:
    file "${root}etc/systemd/system/${by}.d/${unit}.conf" "[Unit]\n${dependency}=${unit}\n";

  serviceFiles =
    root: name: unit:
    let
      isWhole = unit ? script || unit ? serviceConfig.ExecStart;
      program = "etc/keystone/${name}";
      # What only adds to a unit that comes with its program is a drop-in.
      path = "etc/systemd/system/${name}.service${lib.optionalString (!isWhole) ".d/overrides.conf"}";
      start = lib.optionalAttrs (unit ? script) { ExecStart = "/${program}"; };
    in
    [ (file (root + path) (unitText unit start)) ]
    ++ lib.optional (unit ? script) (script (root + program) "set -e\n${unit.script}")
    ++ map (wanted root "${name}.service" "Requires") (unit.requiredBy or [ ])
    ++ map (wanted root "${name}.service" "Wants") (unit.wantedBy or [ ]);

  pathFiles =
    root: name: unit:
    [ (file "${root}etc/systemd/system/${name}.path" (unitText unit { } + section "Path" unit.pathConfig)) ]
    ++ map (wanted root "${name}.path" "Wants") (unit.wantedBy or [ ]);

  allServiceFiles = root: services: lib.concatLists (lib.mapAttrsToList (serviceFiles root) services);

  etcFile = name: entry: (if entry ? mode then script else file) "system/etc/${name}" entry.text;

  assignments =
    path: prefix: separator: set:
    lib.optional (set != { }) (
      file path (lib.concatStrings (lib.mapAttrsToList (name: given: "${prefix}${name}${separator}${toString given}\n") set))
    );
in
[ (file "etc/sysroot.fstab" config.system.build.initrdFstab) ]
++ assignments "system/etc/nix/evaluated.conf" "" " = " config.nix.settings
++ assignments "system/etc/set-environment" "export " "=" config.environment.sessionVariables
++ lib.mapAttrsToList etcFile config.environment.etc
++ allServiceFiles "" config.boot.initrd.systemd.services
++ allServiceFiles "system/" config.systemd.services
++ lib.concatLists (lib.mapAttrsToList (pathFiles "system/") config.systemd.paths)
