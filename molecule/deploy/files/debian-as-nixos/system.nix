# SPDX-License-Identifier: GPL-3.0-or-later
# One system. Its toplevel has what a NixOS toplevel has: kernel, initrd, kernel-params, init, activate,
# bin/switch-to-configuration, etc, sw, system; all of it in the store. It is built by /bin/sh alone: no nixpkgs, no network.
{
  name,
  variant ? "", # VARIANT_ID in /etc/os-release
  root ? "tmpfs", # or a disk
  service ? ":", # what keystone-generation.service does when it is started,
  undo ? ":", # and when it is stopped
  activation ? ":", # what activation does besides
  boot ? ":", # what installing the boot loader does besides
}:

let
  # The embedded test guest, which the role test_guest has built on this machine.
  guest = import ./guest.nix;

  build =
    what: script:
    derivation {
      name = "debian-as-nixos-${what}";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [
        "-euc"
        script
      ];
      PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
    };

  # Shared by all systems, as nixpkgs' packages are.
  debian = build "debian" ''
    mkdir $out
    debugfs -R "rdump /usr /etc $out" ${guest.image}
  '';
  busybox = "${debian}/usr/bin/busybox";

  kernel = build "kernel" "cp ${guest.kernel} $out";

  # What stage 1 mounts. On tmpfs it is what the Nix guest module evaluates to, with another root; the copied system is
  # whole without the share.
  mounts = {
    tmpfs = "s|^/dev/vda / ext4 |tmpfs / tmpfs mode=0755,|";
    "/dev/vda" = "/^.dev.vda /!d";
  };

  # Of stage 1, and of the system that it boots.
  fstabs = build "fstabs" ''
    mkdir $out
    cd $out
    ${busybox} cpio --quiet -id etc/sysroot.fstab system/etc/fstab < ${guest.initrd}
    sed -i '${mounts.${root}}' etc/sysroot.fstab system/etc/fstab
  '';

  # The test guest's, with these mounts: the kernel unpacks one archive over the other.
  initrd = build "initrd" ''
    cp -r ${fstabs}/etc ${fstabs}/system .
    chmod -R u+w .
    # systemd wants to see one before it goes to another root.
    echo ID=nixos > system/etc/os-release
    find etc system | ${busybox} cpio --quiet -o -H newc > archive
    cat ${guest.initrd} ${guest.initrd_systemd} archive > $out
  '';

  payload = build "payload-${name}" "yes ${name} | head -c 16777216 > $out";

  etc = build "etc-${name}" ''
    mkdir -p $out/systemd/system
    echo 'ID=nixos
    NAME="NixOS (stand-in: Debian in its shape)"
    VARIANT_ID=${variant}' > $out/os-release
    echo ${name} > $out/generation
    ln -s ${fstabs}/system/etc/fstab $out/fstab
    echo '[Unit]
    Description=Difference of generation ${name} from others
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/sh -c "${service}"
    ExecStop=/bin/sh -c "${undo}"' > $out/systemd/system/keystone-generation.service
  '';

in
{
  config.system.build.diskoScript = build "disko-script" ''
    echo '#!${busybox} sh
    echo "the stand-in for disko partitions nothing" >&2
    exit 1' > $out
    chmod +x $out
  '';
  config.system.build.toplevel = build "system-${name}" ''
    mkdir -p $out/bin
    ln -s ${kernel} $out/kernel
    ln -s ${initrd} $out/initrd
    ln -s ${etc} $out/etc
    ln -s ${debian}/usr $out/sw
    ln -s ${payload} $out/payload
    echo -n x86_64-linux > $out/system
    echo -n ${guest.cmdline} > $out/kernel-params

    program() {
      sed "s|@busybox@|${busybox}|; s|@debian@|${debian}|; s|@toplevel@|$out|; s|@activation@|${activation}|; s|@boot@|${boot}|" $1 > $out/$2
      chmod +x $out/$2
    }
    program ${./stage-2} init
    program ${./activate} activate
    program ${./switch-to-configuration} bin/switch-to-configuration
  '';
}
