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
rec {
  # Not reproducible: contents and file names differ with every build.
  changing = build "changing" changes;
  shared = build "shared" changes;
  changes = ''
    build=$(date +%s%N)
    mkdir -p $out/part
    echo $build > $out/build
    echo $build > $out/part/small
    yes $build | head -n 100000 > $out/part/large
    echo $build > $out/part/name-$build
  '';
  # What an image keeps when the others change.
  steady = build "steady" "yes steady | head -c 20000000 > $out";
  dropped = build "dropped" "echo dropped > $out";
  new = build "new" "echo new > $out";
  # Writes in two steps, and waits between them.
  growing = build "growing" ''
    mkdir -p $out/part
    echo first > $out/file
    echo first > $out/part/file
    ln -sf $out /run/growing
    until [ -e /run/grow ]; do sleep 0.1; done
    echo second > $out/file
    echo second > $out/later
  '';
}
