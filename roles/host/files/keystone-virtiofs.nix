# SPDX-License-Identifier: GPL-3.0-or-later
# Deployed by the Ansible role keystone.virtiofs.host, with the values of its variables in the JSON file.
{
  imports = [ ./host-virtiofs.nix ];

  keystone.virtualization.host.virtiofs = builtins.fromJSON (builtins.readFile ./keystone-virtiofs.json);
}
