# SPDX-License-Identifier: GPL-3.0-or-later
# The module system: modules in, merged values out. Without freeform modules, orders, and `_module`.
{ lib }:

let
  inherit (lib) isOption showOption;

  # A module, written in any of the ways there are, as { imports, options, config }.
  normalise =
    arguments: module:
    let
      loaded = if builtins.isPath module || lib.isString module then import module else module;
      body = if lib.isFunction loaded then loaded arguments else loaded;
      isShort = !(body ? config || body ? options);
    in
    {
      imports = body.imports or [ ];
      options = body.options or { };
      config = if isShort then removeAttrs body [ "imports" ] else body.config or { };
    };

  # A module per file, however often it is imported. In nixpkgs' order, which is that of merged lists: what is
  # imported comes before what imports it, the last module before the first.
  collect =
    arguments: modules:
    let
      isSame = one: other: builtins.isPath one && builtins.isPath other && toString one == toString other;
      addNew =
        known: module: if lib.any (isSame module) known then known else known ++ [ module ];
      level =
        known: next:
        let
          all = lib.foldl' addNew known next;
          added = lib.drop (lib.length known) all;
        in
        if added == [ ] then known else level all (lib.concatMap (module: (normalise arguments module).imports) added);
    in
    map (normalise arguments) (lib.reverseList (level [ ] modules));

  # A declaration may be spread over modules; an option may be declared once.
  mergeDeclarations =
    path: trees:
    lib.genAttrs (lib.unique (lib.concatMap lib.attrNames trees)) (
      name:
      let
        here = path ++ [ name ];
        found = lib.concatMap (tree: lib.optional (tree ? ${name}) tree.${name}) trees;
      in
      if !lib.any isOption found then
        mergeDeclarations here found
      else if lib.length found == 1 then
        lib.head found
      else
        throw "The option `${showOption here}' is already declared."
    );

  # mkIf, mkMerge and mkOverride around a set, moved to its attributes: names must be known before conditions are.
  pushDown =
    value:
    let
      onAttributes = wrap: map (lib.mapAttrs (_: wrap)) (pushDown value.content);
    in
    if value._type or null == "if" then
      onAttributes (content: lib.mkIf value.condition content)
    else if value._type or null == "override" then
      onAttributes (content: lib.mkOverride value.priority content)
    else if value._type or null == "merge" then
      lib.concatMap pushDown value.contents
    else
      [ value ];

  # The values behind mkIf, mkMerge and mkOverride, each with its priority.
  discharge =
    priority: value:
    if value._type or null == "if" then
      lib.optionals value.condition (discharge priority value.content)
    else if value._type or null == "merge" then
      lib.concatMap (discharge priority) value.contents
    else if value._type or null == "override" then
      discharge value.priority value.content
    else
      [ { inherit priority value; } ];

  mergeDefinitions =
    path: type: definitions:
    let
      discharged = lib.concatMap (discharge lib.defaultPriority) definitions;
      highest = lib.foldl' (least: one: if one.priority < least then one.priority else least) 9999 discharged;
      values = map (one: one.value) (lib.filter (one: one.priority == highest) discharged);
      wrong = lib.filter (value: !type.check value) values;
    in
    {
      isDefined = values != [ ];
      value =
        if values == [ ] then
          throw "The option `${showOption path}' was accessed but has no value defined. Try setting the option."
        else if wrong != [ ] then
          throw "A definition for option `${showOption path}' is not of type `${type.description}'."
        else
          type.merge path values;
    };

  evaluateOption =
    path: option: definitions:
    let
      default = lib.optional (option ? default) (lib.mkOptionDefault option.default);
      merged = mergeDefinitions path option.type (default ++ definitions);
    in
    (option.apply or lib.id) merged.value;

  evaluateTree =
    path: declarations: definitions:
    let
      pushed = lib.concatMap pushDown definitions;
      of = name: lib.concatMap (set: lib.optional (set ? ${name}) set.${name}) pushed;
      undeclared = lib.filter (name: !declarations ? ${name}) (lib.concatMap lib.attrNames pushed);
    in
    if undeclared != [ ] then
      throw "The option `${showOption (path ++ [ (lib.head undeclared) ])}' does not exist."
    else
      lib.mapAttrs (
        name: declaration:
        (if isOption declaration then evaluateOption else evaluateTree) (path ++ [ name ]) declaration (of name)
      ) declarations;
in
{
  inherit mergeDefinitions;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      arguments = specialArgs // {
        inherit config lib options;
      };
      collected = collect arguments modules;
      options = mergeDeclarations prefix (map (module: module.options) collected);
      config = evaluateTree prefix options (map (module: module.config) collected);
    in
    {
      inherit config options;
    };
}
