# SPDX-License-Identifier: GPL-3.0-or-later
# How a libvirt domain boots a NixOS configuration with the guest module from its host's store, without any installation.
rec {
  # The kernel command line of a system. The Ansible role nixos_guest evaluates this function, too: of the systems that it
  # boots, such as the one before a rollback, it may have the store path only.
  directBootCmdline =
    {
      toplevel,
      registration, # of all paths of the system
      kernelParams, # in one string
    }:
    "init=${toplevel}/init regInfo=${registration} ${kernelParams}";

  # Of a configuration, as nixpkgs.lib.nixosSystem returns it: its system, and what the kernel is started with.
  directBoot =
    nixos:
    let
      inherit (nixos.config.system.build) toplevel;
      registration = nixos.pkgs.closureInfo { rootPaths = [ toplevel ]; };
    in
    {
      inherit registration toplevel;
      kernel = "${toplevel}/kernel";
      initrd = "${toplevel}/initrd";
      cmdline = directBootCmdline {
        inherit toplevel;
        registration = "${registration}/registration";
        kernelParams = toString nixos.config.boot.kernelParams;
      };
    };

  # The XML of such a domain.
  directBootDomain =
    {
      nixos,
      name ? nixos.config.networking.hostName,
      memory ? 2048, # MiB
      vcpus ? 2,
      network ? "keystone-net",
      virtType ? "kvm",
      boot ? directBoot nixos,
      devices ? "", # more XML
    }:
    let
      guest = nixos.config.keystone.virtualization.guest.virtiofs;

      share = tag: directory: ''
        <filesystem type="mount" accessmode="passthrough">
          <driver type="virtiofs" queue="1024"/>
          <source dir="${escape directory}"/>
          <target dir="${escape tag}"/>
          <readonly/>
        </filesystem>
      '';
      shares =
        share guest.shareName "/nix/store"
        + (
          if guest.storeRegistration == "overlay-store" then
            share guest.databaseShareName "/var/lib/keystone-virtiofs/database"
          else
            ""
        );

      # The way of a live store to the host.
      vsock =
        if guest.storeRegistration == "live" then
          ''<vsock model="virtio"><cid auto="yes"/></vsock>''
        else
          "";

      # Both stay the same for a name, so that a domain that is defined again keeps its address.
      uuid =
        let
          digits = start: length: builtins.substring start length (builtins.hashString "sha256" name);
        in
        "${digits 0 8}-${digits 8 4}-4${digits 13 3}-a${digits 17 3}-${digits 20 12}";
      mac =
        let
          digits = start: builtins.substring start 2 (builtins.hashString "sha256" "${name}/0");
        in
        "52:54:00:${digits 0}:${digits 2}:${digits 4}";

      cpu =
        if virtType == "kvm" then
          ''<cpu mode="host-passthrough"/>''
        else
          ''<cpu mode="custom" match="exact"><model fallback="allow">qemu64</model></cpu>'';
    in
    assert guest.enable || throw "${name}: set keystone.virtualization.guest.virtiofs.enable in this configuration.";
    assert !guest.storeImage || throw "${name}: a guest with storeImage needs a disk, which the Ansible role vm provides.";
    ''
      <domain type="${escape virtType}">
        <name>${escape name}</name>
        <uuid>${uuid}</uuid>
        <memory unit="MiB">${toString memory}</memory>
        <memoryBacking>
          <source type="memfd"/>
          <access mode="shared"/>
        </memoryBacking>
        <vcpu>${toString vcpus}</vcpu>
        ${cpu}
        <os>
          <type machine="q35">hvm</type>
          <kernel>${escape boot.kernel}</kernel>
          <initrd>${escape boot.initrd}</initrd>
          <cmdline>${escape boot.cmdline}</cmdline>
        </os>
        <features>
          <acpi/>
          <apic/>
        </features>
        <clock offset="utc"/>
        <devices>
          ${shares}
          <interface type="network">
            <mac address="${mac}"/>
            <source network="${escape network}"/>
            <model type="virtio"/>
          </interface>
          <serial type="pty"/>
          <console type="pty"/>
          <rng model="virtio">
            <backend model="random">/dev/urandom</backend>
          </rng>
          <channel type="unix">
            <target type="virtio" name="org.qemu.guest_agent.0"/>
          </channel>
          ${vsock}
          ${devices}
        </devices>
      </domain>
    '';

  escape = builtins.replaceStrings [ "&" "<" ">" "\"" ] [ "&amp;" "&lt;" "&gt;" "&quot;" ];
}
