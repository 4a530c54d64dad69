"""What a guest's firmware and TPM have stored moves with it: read from the files at both hosts, never from libvirt."""

import secrets

import pytest

from lab import firmware, guests
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab


def marked(address: str) -> GuestSpec:
    """A guest with UEFI and a TPM that writes a mark of its own into both when it starts."""
    return GuestSpec(name="secure", address=address, nvram=True, tpm=True, memory_mib=256, mark=secrets.token_hex(8))


def stored(lab: Lab, guest: Guest, at: str) -> tuple[bytes, bytes]:
    """The variable store and the TPM's state at a host; both bear the guest's mark, which no other guest has."""
    variables, tpm = firmware.variables(lab, guest, at), firmware.tpm_state(lab, guest, at)
    mark = guest.spec.mark.encode()
    assert variables.count(mark) >= 1, f"{at}: {len(variables)} bytes of variables: {guests.console(lab, guest)}"
    assert tpm.count(mark) == 1, f"{at}: {len(tpm)} bytes of TPM state: {guests.console(lab, guest)}"
    return variables, tpm


def start_anew(lab: Lab, guest: Guest, at: str) -> None:
    """Off and on at that host: what it has stored there is all that it has. Its second mark says whether its own index was there."""
    host = lab.host(at)
    host.run(["virsh", "destroy", guest.name])
    host.run(["virsh", "start", guest.name])
    guests.wait_healthy(lab, guest, within=120)
    console = host.run(["cat", f"/var/log/libvirt/qemu/{guest.name}-console.log"]).stdout
    # The TPM refuses to define an index that is there (TPM_RC_NV_DEFINED).
    assert "TPM answers 80010000000a0000014c" in console.rpartition("lab guest at")[0].rpartition("lab guest at")[2], (
        console[-500:]
    )


def test_uefi_variables_and_tpm_state_move_with_the_guest(whole: Lab, operator: Operator) -> None:
    secure = guests.start(whole, "a", marked("10.77.0.112"), within=120)
    try:
        assert stored(whole, secure, "a")[0] != firmware.template(whole, "a")
        assert (firmware.variables(whole, secure, "b"), firmware.tpm_state(whole, secure, "b")) == (b"", b"")
        result = operator.migrate(secure, "b")
        assert result.returncode == SUCCEEDED, result.stdout + result.stderr
        judge(whole, secure, at="b", operator=operator)
        stored(whole, secure, "b")
        start_anew(whole, secure, "b")
        stored(whole, secure, "b")
    finally:
        guests.remove(whole, secure)
