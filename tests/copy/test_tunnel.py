"""What ssh is told, and what is said when a tunnel cannot be."""

import socket

import pytest

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.drivers.copy.tunnel import Tunnel
from ferryman.model.host import Host
from tests.copy.conftest import SOURCE


def test_a_tunnel_to_an_endpoint_that_is_gone_is_an_error_of_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(errors.Unreachable, match="tunnel from host here to host b"):
        Tunnel(SOURCE, port, Host("b", "qemu+ssh://root@b/system"), 1)


@pytest.mark.parametrize(
    "host",
    [
        Host("b", "qemu+ssh://root@b/system", ssh="-oProxyCommand=touch /tmp/owned"),
        Host("b", "qemu+ssh://-oProxyCommand=touch@b/system"),
    ],
    ids=["target", "user of the URI"],
)
def test_an_ssh_target_that_would_be_an_option_is_refused(host: Host) -> None:
    with pytest.raises(errors.DriverError, match="would be an option of ssh") as caught:
        ssh.run(host, ["true"])
    assert "--ssh USER@ADDRESS" in caught.value.remedy
