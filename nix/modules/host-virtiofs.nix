# SPDX-License-Identifier: GPL-3.0-or-later
# A libvirt host whose guests run from its /nix/store. Domains are the business of the Ansible roles.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.host.virtiofs;
  prefix = "keystone.virtualization.host.virtiofs";

  # A name of its own for the firewall; the kernel takes 15 bytes.
  bridge = "virbr-keystone";

  network = ''
    <network>
      <name>${cfg.network}</name>
      <bridge name="${bridge}"/>
      <forward mode="nat"/>
      <ip address="${cfg.networkPrefix}.1" netmask="255.255.255.0">
        <dhcp>
          <range start="${cfg.networkPrefix}.2" end="${cfg.networkPrefix}.254"/>
        </dhcp>
      </ip>
    </network>
  '';
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

    network = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*");
      default = "keystone-net";
      example = null;
      description = ''
        Name of a libvirt network with NAT for the guests, started with the host; null for none. A network of this name
        that is there already is left as it is.
      '';
    };

    networkPrefix = lib.mkOption {
      type = lib.types.strMatching "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}";
      default = "192.168.100";
      example = "10.20.30";
      description = "The first three bytes of the addresses in that network.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        virtualisation.libvirtd = {
          enable = lib.mkDefault true;
          qemu = {
            # From here libvirt learns where virtiofsd is; a path in a domain would be collected as garbage one day.
            vhostUserPackages = [ cfg.package ];
            swtpm.enable = lib.mkDefault true;
          };
        };

        users.groups.libvirtd.members = cfg.users;

        environment.systemPackages = [ cfg.package ];
        environment.etc."keystone/python3".source = lib.mkDefault "${cfg.python}/bin/python3";

        # Holds a directory per guest, with links to the paths that the guest needs.
        systemd.tmpfiles.rules = [ "d /nix/var/nix/gcroots/keystone-virtiofs 0755 root root -" ];

        assertions = [
          {
            assertion = config.virtualisation.libvirtd.enable;
            message = "virtualisation.libvirtd.enable: without libvirt there is no guest to share the store with. Leave it to ${prefix}.enable, or set that to false.";
          }
        ];
      }

      (lib.mkIf (cfg.network != null) {
        systemd.services.keystone-network = {
          description = "libvirt network ${cfg.network}";
          wantedBy = [ "multi-user.target" ];
          requires = [ "libvirtd.socket" ];
          after = [ "libvirtd.socket" ];
          path = [ config.virtualisation.libvirtd.package ];
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
          };
          script = ''
            virsh() { command virsh --quiet --connect qemu:///system "$@"; }
            has() { virsh net-list "$@" --name | grep --quiet --line-regexp --fixed-strings ${cfg.network}; }

            has --all || virsh net-define /dev/stdin <<'XML'
            ${network}XML
            virsh net-autostart ${cfg.network}
            has || virsh net-start ${cfg.network}
          '';
        };

        # libvirt's own rules cannot let in what NixOS's firewall drops: guests ask for an address and for names.
        networking.firewall.interfaces.${bridge} = {
          allowedTCPPorts = [ 53 ];
          allowedUDPPorts = [
            53
            67
          ];
        };
      })
    ]
  );
}
