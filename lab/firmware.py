"""What a guest's firmware has stored, read from the files at a host: no word of libvirt or of the guest is believed."""

from lab.guests import Guest, host_path, nvram_path
from lab.host import Lab


def variables(lab: Lab, guest: Guest, at: str) -> bytes:
    """The UEFI variable store that the guest uses at that host; empty when there is none."""
    return _content(lab, at, nvram_path(guest))


def template(lab: Lab, at: str) -> bytes:
    """The variable store that a new guest of that host begins with."""
    return _content(lab, at, "/usr/share/OVMF/OVMF_VARS_4M.fd")


def tpm_state(lab: Lab, guest: Guest, at: str) -> bytes:
    """The permanent state of the guest's TPM at that host: its seeds, keys and NV indices; empty when there is none."""
    return _content(lab, at, f"/var/lib/libvirt/swtpm/{guest.uuid}/tpm2/tpm2-00.permall")


def _content(lab: Lab, at: str, path: str) -> bytes:
    file = host_path(lab.host(at), path)
    return file.read_bytes() if file.exists() else b""
