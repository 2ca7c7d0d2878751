# SPDX-License-Identifier: GPL-3.0-or-later
# Built by /bin/sh alone: no nixpkgs, no network.
let
  build =
    name: script:
    derivation {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [
        "-euc"
        script
      ];
      PATH = "/usr/bin:/bin";
    };
in
{
  # Not reproducible: contents and file names differ with every build.
  changing = build "changing" ''
    build=$(date +%s%N)
    mkdir -p $out/part
    echo $build > $out/build
    echo $build > $out/part/small
    yes $build | head -n 100000 > $out/part/large
    echo $build > $out/part/name-$build
  '';
  new = build "new" "echo new > $out";
}
