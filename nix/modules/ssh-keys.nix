# SPDX-License-Identifier: GPL-3.0-or-later
# Root's authorized keys: the lines of the environment variable KEYSTONE_SSH_KEYS, of any type that OpenSSH knows.
# A flake sees the environment only when evaluated with --impure; otherwise there is no key.
{ lib, ... }:

let
  keys = lib.filter (line: line != "") (lib.splitString "\n" (builtins.getEnv "KEYSTONE_SSH_KEYS"));

  # The base64 text of the key repeats the type.
  type = "(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\\.com)";
  isPublicKey = line: builtins.match "${type} AAAA[A-Za-z0-9+/]+=*( .*)?" line != null;
in
{
  users.users.root.openssh.authorizedKeys.keys = keys;

  assertions = map (line: {
    assertion = isPublicKey line;
    # Only the beginning: the line may be a private key.
    message = "KEYSTONE_SSH_KEYS: '${lib.substring 0 16 line}...' is not a public key. Use lines like those in ~/.ssh/id_ed25519.pub.";
  }) keys;
}
