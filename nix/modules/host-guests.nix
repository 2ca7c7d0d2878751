# SPDX-License-Identifier: GPL-3.0-or-later
# Guests that boot directly from the host's store, declared in the host's own configuration.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.keystone.virtualization.host.virtiofs;
  prefix = "keystone.virtualization.host.virtiofs";

  hardening = import ./hardening.nix;
  inherit (import ./direct-boot.nix) directBootDomain;

  hasLiveStore =
    guest: guest.nixos.config.keystone.virtualization.guest.virtiofs.storeRegistration or "" == "live";

  # A guest sees the whole store, and builds nothing on the host.
  proxy = pkgs.writeText "proxy" ''
    SHOWN=
    BUILDS=
  '';

  rootsOfDomains = "/nix/var/nix/gcroots/keystone-virtiofs/domains";

  guest =
    { name, ... }:
    {
      options = {
        nixos = lib.mkOption {
          type = lib.types.raw;
          example = lib.literalExpression "self.nixosConfigurations.web";
          description = ''
            The guest's configuration, as `nixpkgs.lib.nixosSystem` returns it. It has the guest module, and neither a boot
            loader nor a disk is required.
          '';
        };

        memory = lib.mkOption {
          type = lib.types.ints.positive;
          default = 2048;
          example = 4096;
          description = "Memory in MiB.";
        };

        vcpus = lib.mkOption {
          type = lib.types.ints.positive;
          default = 2;
          example = 4;
          description = "Number of virtual CPUs.";
        };

        network = lib.mkOption {
          type = lib.types.str;
          default = if cfg.network == null then "default" else cfg.network;
          defaultText = lib.literalExpression "config.keystone.virtualization.host.virtiofs.network";
          example = "default";
          description = "libvirt network of the guest.";
        };

        virtType = lib.mkOption {
          type = lib.types.enum [
            "kvm"
            "qemu"
          ];
          default = "kvm";
          example = "qemu";
          description = "`qemu` emulates the processor, many times slower.";
        };

        devices = lib.mkOption {
          type = lib.types.lines;
          default = "";
          example = ''
            <disk type="block"><source dev="/dev/vg/web"/><target dev="vda" bus="virtio"/></disk>
          '';
          description = "XML of further devices of the libvirt domain.";
        };
      };
    };

  service =
    name: guest:
    let
      domain = pkgs.writeText "${name}.xml" (directBootDomain ({ inherit name; } // guest));
      roots = "${rootsOfDomains}/${name}/guest";
      # The new definition's paths belong to the host's system. A running guest may have been started with others.
      keepRoots = ''
        virsh() { command virsh --quiet --connect qemu:///system "$@"; }
        used=$(virsh dumpxml ${name} 2>/dev/null | grep --only-matching '/nix/store/[0-9A-Za-z+?=._-]*' || true)
        mkdir -p ${roots}
        for path in $used; do
          ln -sfn "$path" "${roots}/''${path##*/}"
        done
        for root in ${roots}/*; do
          case "$used " in *"/''${root##*/}"*) ;; *) rm -f "$root" ;; esac
        done
      '';
    in
    lib.nameValuePair "keystone-guest-${name}" {
      description = "Guest ${name}";
      wantedBy = [ "multi-user.target" ];
      requires = [ "libvirtd.socket" ];
      wants = lib.optional (hasLiveStore guest) "keystone-store-proxy@${name}.socket";
      after = [
        "keystone-network.service"
        "libvirtd.socket"
      ];
      path = [ config.virtualisation.libvirtd.package ];
      serviceConfig = hardening.sandboxed // {
        Type = "oneshot";
        RemainAfterExit = true;
        ReadWritePaths = rootsOfDomains;
      };
      script = ''
        ${keepRoots}
        virsh define --validate ${domain}
        virsh domstate ${name} | grep --quiet running || virsh start ${name}
      '';
      # The guest itself goes on running: libvirt shuts it down with the host.
      preStop = keepRoots;
    };
in
{
  options.keystone.virtualization.host.virtiofs.guests = lib.mkOption {
    type = lib.types.attrsOf (lib.types.submodule guest);
    default = { };
    example = lib.literalExpression "{ web.nixos = self.nixosConfigurations.web; }";
    description = ''
      Guests that boot directly from this host's store, by name. They are defined and started with the host. A guest that
      runs already gets a new system at its next start. A guest that is no longer listed keeps running until
      `virsh destroy` and `virsh undefine` remove its domain.
    '';
  };

  config = lib.mkIf cfg.enable {
    assertions =
      lib.mapAttrsToList (name: _: {
        assertion = builtins.match "[A-Za-z0-9_][A-Za-z0-9_-]*" name != null;
        message = "${prefix}.guests.\"${name}\": a name consists of letters, digits, dashes and underscores. Choose another name.";
      }) cfg.guests
      ++ lib.mapAttrsToList (name: guest: {
        assertion = cfg.liveStore || cfg.hostBuilds || !hasLiveStore guest;
        message = "${prefix}.guests.${name}: the guest's storeRegistration \"live\" requires the host's option liveStore. Set ${prefix}.liveStore.";
      }) cfg.guests;

    systemd.services = lib.mapAttrs' service cfg.guests;

    systemd.tmpfiles.rules = lib.mapAttrsToList (
      name: _: "L+ /var/lib/keystone-virtiofs/guests/live/${name}/proxy - - - - ${proxy}"
    ) (lib.filterAttrs (_: hasLiveStore) cfg.guests);
  };
}
