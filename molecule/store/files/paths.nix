# SPDX-License-Identifier: GPL-3.0-or-later
# Store paths for the tests, each referring to the one before. "system" stands for the closure of a NixOS. Host and guest
# build the same: the builder is /bin/sh, and uses nothing but what that can do by itself.
let
  path =
    name: references:
    derivation {
      inherit name references;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [
        "-c"
        ''echo "$name: $references" > "$out"''
      ];
    };
in
rec {
  library = path "library" [ ];
  system = path "system" [ library ];
  on-top = path "on-top" [ system ];
  other = path "other" [ ];
  added = path "added" [ system ];
  deleted = path "deleted" [ ];
  passing = path "passing" [ ];
  later = event: path "later" [ event ];

  # As many as a small NixOS has.
  thousand = builtins.toFile "thousand" (
    toString (builtins.genList (number: builtins.toFile "part-${toString number}" (toString number)) 1000)
  );
}
