# SPDX-License-Identifier: GPL-3.0-or-later
# A libvirt host whose guests run from its /nix/store. The Ansible roles manage the domains.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.host.virtiofs;
  prefix = "keystone.virtualization.host.virtiofs";

  # The firewall rules need known names: those of keystone-firewall.nft apply to virbr-ks*. The bridges of networks that the
  # Ansible module network creates are virbr-ks0 and so on.
  bridge = "virbr-ks";

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

  hardening = import ./hardening.nix;

  loadFirewall = ''
    nft --file - <<'RULES'
    ${builtins.readFile ./keystone-firewall.nft}RULES
  '';

  firewall =
    config.networking.firewall.backend
      or (if config.networking.nftables.enable then "nftables" else "iptables");
  anyNumber = {
    iptables = "+";
    nftables = "*";
  };

  database = "/var/lib/keystone-virtiofs/database";

  program =
    name:
    pkgs.writeScript name ''
      #!${cfg.python}/bin/python3
      ${builtins.readFile (./. + "/${name}")}
    '';
  virtiofsd =
    if cfg.storeCache then
      cfg.package.overrideAttrs (old: {
        patches = old.patches or [ ] ++ [ (storeCachePatch old.version) ];
      })
    else
      cfg.package;
  storeCachePatch =
    version:
    let
      later = lib.filter (line: lib.versionAtLeast version line.since) linesOfLaterVersions;
    in
    if later == [ ] then
      ./virtiofsd-cache-policy-store.patch
    else
      pkgs.writeText "virtiofsd-cache-policy-store.patch" (
        lib.replaceStrings (map (line: line.was) later) (map (line: line.is) later) (
          builtins.readFile ./virtiofsd-cache-policy-store.patch
        )
      );
  # What the patch has to say otherwise, because virtiofsd has other types since a version.
  linesOfLaterVersions = [
    {
      # Of the patch's tests, which nixpkgs builds and runs.
      since = "1.13.3";
      was = "off: u64) -> io::Result<usize> {";
      is = "off: u64, _flags: Option<crate::oslib::ReadvFlags>) -> io::Result<usize> {";
    }
    {
      since = "1.14";
      was = "offset as libc::off64_t";
      is = "offset";
    }
  ];
  mounts = program "keystone-mounts";
  storeView = program "keystone-store-view";
in
{
  imports = [
    ./host-guests.nix
    ./live-store-host.nix
  ];

  options.keystone.virtualization.host.virtiofs = {
    enable = lib.mkEnableOption "sharing this machine's Nix store with libvirt guests over virtiofs";

    package = lib.mkPackageOption pkgs "virtiofsd" {
      example = [
        "pkgsStatic"
        "virtiofsd"
      ];
    };

    users = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = lib.literalExpression ''[ "alice" ]'';
      description = ''
        Users to add to the group `libvirtd`, who can then manage guests. Membership is equivalent to root.
      '';
    };

    python = lib.mkOption {
      type = lib.types.package;
      default = pkgs.python3.withPackages (python: [
        python.libvirt
        python.lxml
      ]);
      defaultText = lib.literalExpression "pkgs.python3.withPackages (python: [ python.libvirt python.lxml ])";
      example = lib.literalExpression "pkgs.python313.withPackages (python: [ python.libvirt python.lxml ])";
      description = ''
        Python with libvirt and lxml, for Ansible: `ansible_python_interpreter: /etc/keystone/python3`.
      '';
    };

    network = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*");
      default = "keystone-net";
      example = null;
      description = ''
        Name of a libvirt network with NAT for the guests, which starts with the host; null for none. An existing network
        of this name is not changed.
      '';
    };

    networkPrefix = lib.mkOption {
      type = lib.types.strMatching "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}";
      default = "192.168.100";
      example = "10.20.30";
      description = "The first three bytes of the addresses in that network.";
    };

    networkFirewall = lib.mkOption {
      type = lib.types.bool;
      default = true;
      example = false;
      description = ''
        Whether guests of that network, and of networks that the Ansible role `vm` creates, reach no service of this machine,
        at none of its addresses, except DHCP and DNS of the network.
      '';
    };

    exportDatabase = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether to keep a copy of the Nix database in `${database}`, the source of the second share of guests with the
        store registration `overlay-store`. The copy is updated whenever the database changes.
      '';
    };

    storeCache = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether to add the cache policy `store` to `package`, which must be virtiofsd 1.13 or 1.14 and is then built from source.
        A guest with that policy reads the store about as fast as a local disk. New read-only shares of the store get it by
        default.
      '';
    };

    shareClosureOnly = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether to install `keystone-store-view`, which `vm_share_closure_only` of the Ansible role `vm` needs to expose
        only a closure to a guest, and a service that recreates the views at boot.
      '';
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        virtualisation.libvirtd = {
          enable = lib.mkDefault true;
          # Not suspended: a saved guest does not resume once the host has collected a path that the guest had open.
          onShutdown = lib.mkDefault "shutdown";
          qemu = {
            # libvirt finds virtiofsd here: a store path in a domain would be garbage-collected eventually.
            vhostUserPackages = [ virtiofsd ];
            swtpm.enable = lib.mkDefault true;
          };
        };

        users.groups.libvirtd.members = cfg.users;

        environment.systemPackages = [
          virtiofsd
          pkgs.erofs-utils # store images
        ];
        environment.etc."keystone/python3".source = lib.mkDefault "${cfg.python}/bin/python3";

        # Contains a directory per guest, with links to the paths that the guest needs.
        systemd.tmpfiles.rules = [ "d /nix/var/nix/gcroots/keystone-virtiofs/domains 0755 root root -" ];

        assertions = [
          {
            assertion = config.virtualisation.libvirtd.enable;
            message = "virtualisation.libvirtd.enable: ${prefix}.enable requires libvirt. Remove this option, or set ${prefix}.enable to false.";
          }
        ];
      }

      {
        # The modules expect the program at this path on every distribution.
        systemd.tmpfiles.rules = [ "L+ /usr/local/sbin/keystone-mounts - - - - ${mounts}" ];

        systemd.services.keystone-mounts = {
          description = "Mounts of directories that guests share";
          wantedBy = [ "multi-user.target" ];
          # A source may be on another machine.
          after = [ "remote-fs.target" ];
          # A guest that starts with the host must not get the directory below the mount.
          before = [ "libvirtd.service" ];
          serviceConfig = hardening.remounts // {
            Type = "oneshot";
            TimeoutStartSec = "5min"; # a device may take systemd's 90 s to appear
            CapabilityBoundingSet = "CAP_DAC_READ_SEARCH CAP_SYS_ADMIN"; # sources may be anybody's
            RestrictSUIDSGID = false; # it would take openat2(2) away
            ExecStart = mounts;
          };
        };
      }

      (lib.mkIf (cfg.network != null) {
        systemd.services.keystone-network = {
          description = "libvirt network ${cfg.network}";
          wantedBy = [ "multi-user.target" ];
          requires = [ "libvirtd.socket" ];
          after = [ "libvirtd.socket" ];
          path = [ config.virtualisation.libvirtd.package ];
          serviceConfig = hardening.sandboxed // {
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
      })

      {
        networking.firewall = {
          # DHCP and DNS for guests: libvirt's own rules cannot accept packets that NixOS's firewall drops. In firewalld,
          # libvirt has a zone of its own.
          interfaces = lib.mkIf (firewall != "firewalld") {
            "${bridge}${anyNumber.${firewall}}" = {
              allowedTCPPorts = [ 53 ];
              allowedUDPPorts = [
                53
                67
              ];
            };
          };
          extraForwardRules = lib.mkIf config.networking.firewall.filterForward ''
            iifname "${bridge}*" accept comment "guests, to other networks"
          '';
        };
      }

      (lib.mkIf cfg.networkFirewall {
        systemd.services.keystone-firewall = {
          description = "Firewall between this host and the guests of its networks";
          wantedBy = [ "multi-user.target" ];
          requiredBy = lib.optional (cfg.network != null) "keystone-network.service";
          # A restart or reload of nftables.service may flush all rules.
          after = [ "nftables.service" ];
          partOf = [ "nftables.service" ];
          unitConfig.ReloadPropagatedFrom = "nftables.service";
          path = [ pkgs.nftables ];
          # The rules must be in force when a network starts with the host.
          before = [
            "libvirtd.service"
            "keystone-network.service"
          ];
          serviceConfig = hardening.sandboxed // {
            Type = "oneshot";
            RemainAfterExit = true;
            CapabilityBoundingSet = "CAP_NET_ADMIN";
            RestrictAddressFamilies = "AF_NETLINK";
          };
          script = loadFirewall;
          reload = loadFirewall;
          postStop = "nft delete table inet keystone_virtiofs || true";
        };
      })

      (lib.mkIf cfg.shareClosureOnly {
        # The roles expect the program at this path on every distribution.
        systemd.tmpfiles.rules = [ "L+ /usr/local/sbin/keystone-store-view - - - - ${storeView}" ];

        systemd.services.keystone-store-views = {
          description = "Views of the Nix store for guests";
          wantedBy = [ "multi-user.target" ];
          # The view must exist before a guest that starts with the host.
          before = [ "libvirtd.service" ];
          unitConfig.ConditionPathExistsGlob = "/var/lib/keystone-virtiofs/domains/*/view";
          path = [ config.nix.package ];
          serviceConfig =
            hardening.inSharedMounts
            // hardening.opensStore
            // {
              Type = "oneshot";
              ExecStart = "${storeView} restore";
            };
        };
      })

      (lib.mkIf cfg.exportDatabase {
        systemd.services.keystone-nix-database = {
          description = "Copy of the Nix database for guests";
          wantedBy = [ "multi-user.target" ];
          before = [ "libvirtd.service" ];
          path = [ cfg.python ];
          serviceConfig =
            hardening.sandboxed
            // {
              Type = "oneshot";
              StateDirectory = "keystone-virtiofs";
              ReadWritePaths = "/nix";
            };
          unitConfig.StartLimitIntervalSec = 0; # each build starts it
          script = ''
            umask 022
            new=${database}.new
            trap 'rm -f "$new"' EXIT
            last_change() { find /nix/var/nix/db '(' -name db.sqlite -o -name db.sqlite-wal ')' -printf '%p %T@\n' | sort; }

            # PathModified also fires when a reader closes the database, which Nix opens read-write.
            [ "$(last_change)" != "$(cat ${database}/last-change 2>/dev/null)" ] || exit 0

            # Nix requires these directories.
            mkdir -p ${database}/db ${database}/gcroots ${database}/profiles ${database}/temproots
            cp /nix/var/nix/db/schema ${database}/db/schema

            # The path unit does not fire while this service runs. A store that changes all the time starts the service again.
            for _ in 1 2 3; do
              copied=$(last_change)
              rm -f "$new"
              # In one transaction, which no writer waits for or interrupts.
              python3 - "$new" <<'END'
            import sqlite3, sys
            database = sqlite3.connect("file:/nix/var/nix/db/db.sqlite?mode=ro", uri=True)
            database.execute("VACUUM INTO ?", sys.argv[1:])
            END
              # A guest that is reading keeps the file that it has opened.
              mv "$new" ${database}/db/db.sqlite
              echo "$copied" >${database}/last-change
              [ "$copied" != "$(last_change)" ] || break
            done
          '';
        };
        systemd.paths.keystone-nix-database = {
          description = "Changes of the Nix database";
          wantedBy = [ "multi-user.target" ];
          pathConfig.PathModified = [
            "/nix/var/nix/db/db.sqlite"
            "/nix/var/nix/db/db.sqlite-wal"
          ];
        };
      })
    ]
  );
}
