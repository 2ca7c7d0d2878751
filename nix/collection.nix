# SPDX-License-Identifier: GPL-3.0-or-later
# A value for ANSIBLE_COLLECTIONS_PATH, because Ansible only finds a collection at this path.
#   collection   the folder of this project
{ pkgs, collection }:
pkgs.linkFarm "keystone-virtiofs" { "ansible_collections/keystone/virtiofs" = collection; }
