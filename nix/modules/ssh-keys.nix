# SPDX-License-Identifier: GPL-3.0-or-later
# Root's authorized keys: the lines of the environment variable KEYSTONE_SSH_KEYS, of any type that OpenSSH knows.
# A flake sees the environment only when evaluated with --impure; otherwise there is no key.
{ lib, ... }:

let
  keys = lib.filter (line: line != "") (lib.splitString "\n" (builtins.getEnv "KEYSTONE_SSH_KEYS"));

  # The type names itself once more, in base64, in the key that follows it.
  type = "(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\\.com)";
  isPublicKey = line: builtins.match "${type} AAAA[A-Za-z0-9+/]+=*( .*)?" line != null;
in
{
  users.users.root.openssh.authorizedKeys.keys = keys;

  assertions = map (line: {
    assertion = isPublicKey line;
    # A part only: it may be a private key.
    message = "KEYSTONE_SSH_KEYS: '${lib.substring 0 16 line}...' is no public key. It takes lines such as those of ~/.ssh/id_ed25519.pub.";
  }) keys;
}
