# SPDX-License-Identifier: GPL-3.0-or-later
# The main playbooks, with everything that they need on the controller: nix run .#vm -- --inventory fleet.yml
#   collection   the folder of this project
{ pkgs, collection }:

let
  python = pkgs.python3.withPackages (python: [
    python.ansible-core
    python.libvirt
    python.lxml
  ]);

  collections = import ./collection.nix { inherit collection pkgs; };

  app = description: playbook: {
    type = "app";
    program = toString (
      pkgs.writeShellScript playbook ''
        export ANSIBLE_COLLECTIONS_PATH=${collections}
        export ANSIBLE_CALLBACKS_ENABLED=keystone.virtiofs.progress
        exec ${python}/bin/ansible-playbook keystone.virtiofs.${playbook} "$@"
      ''
    );
    meta.description = description;
  };
in
rec {
  default = vm;
  vm = app "Prepare the hosts, start the guests, verify the guests" "virtiofs_vm";
  verify = app "Verify hosts and guests" "verify";
  destroy = app "Remove the guests and everything created for them" "destroy";
}
