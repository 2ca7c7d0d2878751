# SPDX-License-Identifier: GPL-3.0-or-later
# Three store paths that refer to each other, built by /bin/sh alone: no nixpkgs, no network.
let
  build =
    name: script:
    derivation {
      name = "keystone-virtiofs-${name}";
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [
        "-euc"
        script
      ];
      PATH = "/usr/bin:/bin";
    };

  message = build "message" ''
    echo "Built on the host, read by its guests." > $out
  '';

  reader = build "reader" ''
    mkdir -p $out/bin
    printf '#!/bin/sh\nwhile read -r line; do echo "$line"; done < ${message}\n' > $out/bin/keystone-message
    chmod +x $out/bin/keystone-message
  '';
in
build "seed" ''
  mkdir -p $out/bin
  ln -s ${reader}/bin/keystone-message $out/bin/keystone-message
''
