# SPDX-License-Identifier: GPL-3.0-or-later
# Packages that are a name and a path.
let
  package = name: {
    inherit name;
    type = "derivation";
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    # The name shows the patches.
    overrideAttrs =
      change:
      package (
        toString (
          [ name ]
          ++ map baseNameOf
            (change {
              version = "1.13.2";
              patches = [ "own.patch" ];
            }).patches
        )
      );
  };
  names = [
    "ansible"
    "coreutils"
    "dosfstools"
    "erofs-utils"
    "git"
    "gnumake"
    "libvirt"
    "molecule"
    "nftables"
    "nix"
    "nixfmt"
    "nixfmt-tree"
    "nixos-anywhere"
    "openssh"
    "qemu-utils"
    "shellcheck"
    "systemd"
    "util-linux"
    "virtiofsd"
  ];
  packages = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = package name;
    }) names
  );
  python3Packages = {
    ansible = package "ansible-collections";
    ansible-core = package "ansible-core";
    libvirt = package "python3-libvirt";
    lxml = package "python3-lxml";
  };
in
packages
// {
  inherit python3Packages;
  python3 = package "python3" // {
    withPackages =
      choose: package ("python3-with-" + builtins.concatStringsSep "-" (map (one: one.name) (choose python3Packages)));
  };
  mkShell = arguments: package "shell" // arguments;
  runCommand = name: _: _: package name;
  linkFarm = name: _: package name;
  closureInfo = { rootPaths }: builtins.seq rootPaths (package "closure-info");
  stdenv.hostPlatform.system = "x86_64-linux";
  testers.runNixOSTest = test: package "vm-test-run-${test.name}" // test;
  # Text files are their text.
  writeText = _: text: text;
  writeShellScript = _: text: text;
  # But those that others refer to.
  writeScript = name: text: package name // { inherit text; };
}
