# SPDX-License-Identifier: GPL-3.0-or-later
# A NixOS host with a guest that boots directly from the host's store, without any installation.
# For machines with nixpkgs: `nix flake check`. The machines of this project have no nixpkgs: tests/nix evaluates this file
# with stand-ins and never runs it.
#   nixosSystem   makes a configuration of modules
{ pkgs, nixosSystem }:

let
  nixos = nixosSystem [
    ../modules/guest-virtiofs.nix
    {
      keystone.virtualization.guest.virtiofs.enable = true;

      boot.loader.grub.enable = false;
      fileSystems."/" = {
        device = "none";
        fsType = "tmpfs";
        options = [ "mode=0755" ];
      };
      networking.hostName = "guest";
      system.stateVersion = "26.05";
    }
  ];

  inherit (import ../modules/direct-boot.nix) directBoot directBootDomain;
  boot = directBoot nixos;
  guest = boot.toplevel;

  # The host of the test may have KVM or not.
  domain = directBootDomain {
    inherit nixos;
    memory = 768;
    virtType = "KIND";
  };
in
{
  name = "virtiofs";

  nodes.host = {
    imports = [ ../modules/host-virtiofs.nix ];

    keystone.virtualization.host.virtiofs.enable = true;

    environment.etc."guest.xml".text = domain;
    virtualisation = {
      additionalPaths = [
        guest
        boot.registration
      ];
      memorySize = 2048;
      writableStore = true;
    };
  };

  testScript = ''
    import base64
    import json
    import time

    BOOT_TIMEOUT = 900  # seconds; an emulated guest in an emulated host takes minutes


    def agent(command, **arguments):
        request = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(host.succeed(f"virsh qemu-agent-command guest '{request}'"))["return"]


    def in_guest(script):
        """The output of a script in the guest; fails if the script fails."""
        shell = "/run/current-system/sw/bin/sh"
        started = agent("guest-exec", path=shell, arg=["-lc", script], **{"capture-output": True})
        while not (status := agent("guest-exec-status", pid=started["pid"]))["exited"]:
            time.sleep(1)
        output = base64.b64decode(status.get("out-data", "")).decode()
        assert status["exitcode"] == 0, f"{script}: {output} {status}"
        return output


    host.wait_for_unit("multi-user.target")
    host.succeed("virsh net-list --name | grep --line-regexp keystone-net")
    host.succeed("/etc/keystone/python3 -c 'import libvirt, lxml'")

    kind = "kvm" if host.execute("test -e /dev/kvm")[0] == 0 else "qemu"
    host.succeed(f"sed 's/KIND/{kind}/' /etc/guest.xml >/tmp/guest.xml")
    host.succeed("virsh define --validate /tmp/guest.xml", "virsh start guest")
    host.wait_until_succeeds("virsh qemu-agent-command guest '{\"execute\": \"guest-ping\"}'", timeout=BOOT_TIMEOUT)

    with subtest("the guest runs from the host's store"):
        mounts = in_guest("mount")
        assert "nix-store-share on /sysroot/nix/.ro-store type virtiofs" in mounts
        assert "overlay on /nix/store type overlay" in mounts
        assert "tmpfs" in in_guest("df /sysroot/nix/.rw-store")
        in_guest("touch /nix/store/.test && rm /nix/store/.test")

    with subtest("the guest's system is valid for the guest's Nix, and nothing was copied"):
        in_guest("nix-store --check-validity $(nix-store --query --requisites ${guest})")
        assert in_guest("ls /sysroot/nix/.rw-store/upper") == ""

    with subtest("the guest sees a new path of the host at once"):
        host.succeed("echo new >/tmp/new")
        path = host.succeed("nix-store --add /tmp/new").strip()
        assert in_guest(f"for second in 1 2 3 4 5; do cat {path} && exit; sleep 1; done; exit 1") == "new\n"

    with subtest("the guest cannot write to the host's store"):
        in_guest("! { mount -o remount,rw /sysroot/nix/.ro-store && touch /sysroot/nix/.ro-store/written; }")
        host.fail("test -e /nix/store/written")
  '';
}
