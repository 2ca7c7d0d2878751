# SPDX-License-Identifier: GPL-3.0-or-later
# A libvirt host whose guests run from its /nix/store. Domains and networks are the business of the Ansible roles.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.host.virtiofs;
in
{
  options.keystone.virtualization.host.virtiofs = {
    enable = lib.mkEnableOption "sharing this machine's Nix store with libvirt guests over virtiofs";

    package = lib.mkPackageOption pkgs "virtiofsd" { };

    users = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = lib.literalExpression ''[ "alice" ]'';
      description = ''
        Users who may manage guests, through the group `libvirtd`. It amounts to being root on this machine.
      '';
    };

    python = lib.mkOption {
      type = lib.types.package;
      default = pkgs.python3.withPackages (python: [
        python.libvirt
        python.lxml
      ]);
      defaultText = lib.literalExpression "pkgs.python3.withPackages (python: [ python.libvirt python.lxml ])";
      description = ''
        Python with libvirt and lxml, for Ansible: `ansible_python_interpreter: /etc/keystone/python3`.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    virtualisation.libvirtd = {
      enable = true;
      qemu = {
        # From here libvirt learns where virtiofsd is; a path in a domain would be collected as garbage one day.
        vhostUserPackages = [ cfg.package ];
        swtpm.enable = lib.mkDefault true;
      };
    };

    users.groups.libvirtd.members = cfg.users;

    environment.systemPackages = [ cfg.package ];
    environment.etc."keystone/python3".source = "${cfg.python}/bin/python3";

    # Holds a directory per guest, with links to the paths that the guest needs.
    systemd.tmpfiles.rules = [ "d /nix/var/nix/gcroots/keystone-virtiofs 0755 root root -" ];
  };
}
