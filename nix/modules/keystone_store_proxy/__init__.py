# SPDX-License-Identifier: GPL-3.0-or-later
"""A read-only view of this host's Nix database for one guest, in Nix's worker protocol."""
