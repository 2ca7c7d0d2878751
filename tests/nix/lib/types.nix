# SPDX-License-Identifier: GPL-3.0-or-later
# Option types: what they are called, which values they take, and how several definitions become one.
# `merge` takes the option's path and the values, which `check` has let through.
{ lib }:

let
  inherit (lib) mergeDefinitions;

  mergeEqual =
    path: values:
    if lib.all (value: value == lib.head values) values then
      lib.head values
    else
      throw "The option `${lib.showOption path}' has conflicting definition values: ${lib.toJSON values}";

  scalar = description: check: {
    inherit description check;
    merge = mergeEqual;
  };

  inParentheses = type: if type.isComposed or false then "(${type.description})" else type.description;

  # The definitions of each attribute, merged.
  mergeEach =
    elementType: path: values:
    lib.genAttrs (lib.unique (lib.concatMap lib.attrNames values)) (
      name:
      mergeDefinitions (path ++ [ name ]) elementType (
        lib.concatMap (value: lib.optional (value ? ${name}) value.${name}) values
      )
    );

  mergeAttrsOf =
    elementType: path: values:
    lib.mapAttrs (_: merged: merged.value) (
      lib.filterAttrs (_: merged: merged.isDefined) (mergeEach elementType path values)
    );
in
rec {
  bool = scalar "boolean" lib.isBool;
  int = scalar "signed integer" lib.isInt;
  ints.positive = scalar "positive integer, meaning >0" (value: lib.isInt value && value > 0);
  str = scalar "string" lib.isString;
  path = scalar "absolute path" (value: lib.isString value && lib.hasPrefix "/" value || builtins.isPath value);
  package = scalar "package" lib.isDerivation;
  nonEmptyStr = scalar "non-empty string" (value: str.check value && builtins.match "[ \t\n]*" value == null);
  singleLineStr = scalar "(optionally newline-terminated) single-line string" (
    value: str.check value && builtins.match "[^\n\r]*\n?" value != null
  );
  strMatching =
    pattern:
    scalar "string matching the pattern ${pattern}" (
      value: str.check value && builtins.match pattern value != null
    );
  enum = values: scalar "one of ${lib.concatMapStringsSep ", " lib.toJSON values}" (value: lib.elem value values);
  lines = str // {
    description = "strings concatenated with \"\\n\"";
    merge = _: lib.concatStringsSep "\n";
  };
  raw = unspecified // {
    description = "raw value";
  };
  unspecified = {
    description = "unspecified value";
    check = _: true;
    merge = _: lib.head;
  };
  anything = {
    description = "anything";
    check = _: true;
    merge =
      path: values:
      if lib.all (value: lib.isAttrs value && !lib.isDerivation value) values then
        mergeAttrsOf anything path values
      else
        mergeEqual path values;
  };

  nullOr = type: {
    description = "null or ${inParentheses type}";
    isComposed = true;
    check = value: value == null || type.check value;
    merge =
      path: values: if lib.all (value: value == null) values then null else type.merge path values;
  };

  listOf = type: {
    description = "list of ${inParentheses type}";
    isComposed = true;
    check = lib.isList;
    merge =
      path: values:
      map (element: (mergeDefinitions (path ++ [ "[an element]" ]) type [ element ]).value) (lib.concatLists values);
  };

  nonEmptyListOf =
    type:
    let
      list = listOf type;
    in
    list
    // {
      description = "non-empty (${list.description})";
      check = value: list.check value && value != [ ];
    };

  attrsOf = type: {
    description = "attribute set of ${inParentheses type}";
    isComposed = true;
    check = lib.isAttrs;
    merge = mergeAttrsOf type;
  };

  # Without a look at the values, so that one may throw while the others are used.
  lazyAttrsOf =
    type:
    attrsOf type
    // {
      description = "lazy ${(attrsOf type).description}";
      merge = path: values: lib.mapAttrs (_: merged: merged.value) (mergeEach type path values);
    };

  submodule = module: {
    description = "submodule";
    check = value: lib.isAttrs value || lib.isFunction value;
    merge =
      path: values:
      (lib.evalModules {
        modules = map (value: if lib.isFunction value then value else { config = value; }) values ++ [ module ];
        specialArgs.name = lib.last path;
        prefix = path;
      }).config;
  };
}
