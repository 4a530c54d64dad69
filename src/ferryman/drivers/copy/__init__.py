"""Copying a disk between two hosts: starts an endpoint of ferryman_copy on each, joins them, and starts them again after a cut."""

from ferryman.drivers.copy.copier import SshCopier

__all__ = ["SshCopier"]
