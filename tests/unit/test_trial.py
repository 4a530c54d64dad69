"""What libvirt says when it is asked to look through a definition, in the words of real daemons (9.0 and 11.3)."""

from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from ferryman.drivers.libvirt.trial import try_definition
from ferryman.errors import DriverError


def asked(number: int, words: str) -> None:
    def refuse(form: str, xml: str) -> Any:
        assert (form, xml) == ("qemu-argv", "<domain/>")
        error = libvirt.libvirtError(words)
        error.err = (number, 0, words, 0, "", "", "", 0, 0)
        raise error

    try_definition(SimpleNamespace(domainXMLToNative=refuse), "<domain/>", "definition of web", "qemu+tls://b/system")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: Emulator '/usr/bin/qemu' does not support machine type 'pc-q35-99.0'"),
        (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: domain configuration does not support video model 'qxl'"),
        (libvirt.VIR_ERR_XML_ERROR, "XML error: Invalid value for attribute 'bus' in element 'target': 'nonsense'."),
        (libvirt.VIR_ERR_NO_NETWORK, "Network not found: no network with matching name 'nonet'"),
        (libvirt.VIR_ERR_NO_SECRET, "Secret not found: no secret with matching uuid '1'"),
    ],
)  # fmt: skip
def test_a_definition_that_is_not_to_be_had_there_is_refused_in_libvirts_words(number: int, words: str) -> None:
    with pytest.raises(DriverError) as refused:
        asked(number, words)
    assert words in refused.value.why
    assert refused.value.what == "definition of web"
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, "internal error: invalid PCI passthrough type 'default'"),  # of the asking alone, by 9.0
        (libvirt.VIR_ERR_NO_STORAGE_VOL, "Storage volume not found: no storage vol with matching name 'web.qcow2'"),  # it comes with the copy
        (libvirt.VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: virConnectDomainXMLToNative"),
    ],
)  # fmt: skip
def test_what_comes_of_the_asking_alone_is_no_refusal(number: int, words: str) -> None:
    asked(number, words)
