"""What a host and its emulator can, read from what a real libvirtd (11.3) wrote."""

from pathlib import Path

import pytest

from ferryman.drivers.libvirt.capabilities import cpu_features, emulator_capabilities, host_capabilities

DATA = Path(__file__).resolve().parent.parent / "data"
EMULATOR = (DATA / "emulator-capabilities.xml").read_text()


def test_a_host() -> None:
    host = host_capabilities((DATA / "host-capabilities.xml").read_text())
    assert host.security_models == ("none", "dac")
    assert (host.uuid, host.cpu_ids, host.numa_nodes) == ("0b9489c6-56f6-46fd-a501-414934c8e62c", (0, 1), (0,))


def test_a_host_that_does_not_tell_its_topology() -> None:
    host = host_capabilities("<capabilities><host><uuid>1</uuid></host></capabilities>")
    assert (host.cpu_ids, host.numa_nodes) == ((), ())


def test_an_emulator() -> None:
    can = emulator_capabilities(EMULATOR)
    assert (can.emulator, can.max_vcpus) == ("/usr/bin/qemu-system-x86_64", 4096)
    assert "/usr/share/OVMF/OVMF_CODE_4M.fd" in can.loaders
    assert can.tpm_backends == ("passthrough", "emulator", "external")
    assert can.model == "EPYC"
    model, features = cpu_features(can.host_model)
    assert model == "EPYC"
    assert {"erms", "umip", "cmp_legacy"} <= set(features)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<tpm supported='yes'>", "<tpm supported='no'>", ()),
        ("<value>emulator</value>", "", ("passthrough", "external")),
        ("tpm supported", "nothing supported", None),
    ],
)
def test_a_tpm_emulator_is_there_or_not_or_not_told(old: str, new: str, expected: tuple[str, ...] | None) -> None:
    text = EMULATOR.replace(old, new)
    if "nothing" in new:
        text = text.replace("</tpm>", "</nothing>")
    assert emulator_capabilities(text).tpm_backends == expected


def test_an_emulator_without_a_host_model_offers_no_cpu() -> None:
    text = EMULATOR.replace("<mode name='host-model' supported='yes'>", "<mode name='host-model' supported='no'>")
    assert emulator_capabilities(text).host_model == ""


def test_features_that_a_cpu_is_told_to_lack_are_none() -> None:
    text = "<cpu><model>EPYC</model><feature policy='disable' name='svm'/><feature policy='require' name='aes'/><feature name='avx'/></cpu>"
    assert cpu_features(text) == ("EPYC", ("aes", "avx"))
