# SPDX-License-Identifier: GPL-3.0-or-later
# The functions on strings, lists and attribute sets.
let
  lib = {
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      filter
      head
      isAttrs
      isBool
      isFunction
      isInt
      isList
      isString
      length
      listToAttrs
      map
      mapAttrs
      partition
      replaceStrings
      stringLength
      tail
      toJSON
      ;

    foldl' = builtins.foldl';
    id = value: value;

    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalString = condition: string: if condition then string else "";
    optionalAttrs = condition: set: if condition then set else { };
    toList = value: if builtins.isList value then value else [ value ];
    drop = count: list: builtins.genList (index: builtins.elemAt list (count + index)) (builtins.length list - count);
    reverseList = builtins.foldl' (reversed: value: [ value ] ++ reversed) [ ];
    last = list: builtins.elemAt list (builtins.length list - 1);
    unique = builtins.foldl' (seen: value: if builtins.elem value seen then seen else seen ++ [ value ]) [ ];

    allUnique = list: builtins.length (lib.unique list) == builtins.length list;

    versionAtLeast = version: least: builtins.compareVersions version least >= 0;
    substring = builtins.substring;
    hasPrefix = prefix: string: builtins.substring 0 (builtins.stringLength prefix) string == prefix;
    splitString =
      separator: string:
      builtins.filter builtins.isString (builtins.split (lib.escapeRegex separator) string);
    # None of the separators in use means anything in a regular expression, but the dot.
    escapeRegex = builtins.replaceStrings [ "." ] [ "\\." ];
    concatStrings = builtins.concatStringsSep "";
    concatMapStrings = function: list: builtins.concatStringsSep "" (map function list);
    concatMapStringsSep = separator: function: list: builtins.concatStringsSep separator (map function list);

    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = function: set: builtins.listToAttrs (lib.mapAttrsToList function set);
    mapAttrsToList = function: set: map (name: function name set.${name}) (builtins.attrNames set);
    filterAttrs =
      keep: set:
      builtins.listToAttrs (
        builtins.concatMap (name: lib.optional (keep name set.${name}) (lib.nameValuePair name set.${name})) (
          builtins.attrNames set
        )
      );
    genAttrs = names: function: builtins.listToAttrs (map (name: lib.nameValuePair name (function name)) names);
    isDerivation = value: value.type or null == "derivation";
  };
in
lib
