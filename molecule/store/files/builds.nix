# SPDX-License-Identifier: GPL-3.0-or-later
# Builds for guests, whose builder is /bin/sh alone.
let
  build =
    name: needed: attributes:
    derivation (
      {
        inherit name needed;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        source = builtins.toFile "source-of-${name}" name;
        args = [
          "-c"
          ''echo "$name is built" >&2; read -r line < $source; echo "$line $needed" > $out''
        ];
      }
      // attributes
    );
  output = text: {
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = builtins.hashString "sha256" text;
  };
  script = text: {
    args = [
      "-c"
      text
    ];
  };
in
rec {
  library = build "library" [ ] { };
  app = build "app" [ library ] { };
  near = build "near" [ ] { preferLocalBuild = true; };
  on-near = build "on-near" [ near ] { };
  fixed = build "fixed" [ ] ({ preferLocalBuild = true; } // output "fixed \n");
  on-fixed = build "on-fixed" [ fixed ] { };
  wrong = build "wrong" [ ] ({ preferLocalBuild = true; } // output "something else");
  away = build "away" [ ] (
    output "away"
    // script ''
      while read -r name rest; do case $name in *:*) all="$all''${name%%:*} ";; esac; done < /proc/net/dev
      echo "interfaces: $all" >&2
    ''
  );
  free = build "free" [ ] { __noChroot = true; };
  failing = build "failing" [ ] (script "exit 3");
  endless = build "endless" [ ] (script "while :; do :; done");
}
