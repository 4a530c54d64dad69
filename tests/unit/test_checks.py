"""An operator's checks, asked of real listeners on this machine."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ferryman.drivers.checks import ask, parse
from ferryman.errors import BadInput


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good" else 503)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """A small HTTP server."""
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_each_kind_says_what_it_saw(address: str) -> None:
    assert ask(f"tcp:{address}", 0) == ""
    assert ask(f"http:http://{address}/good", 0) == ""
    assert "503" in ask(f"http:http://{address}/bad", 0)
    assert ask("command:true", 0) == ""
    assert ask("command:echo no luck; exit 7", 0) == "it ended with 7: no luck"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert "refused" in ask(f"tcp:127.0.0.1:{free.getsockname()[1]}", 0).lower()
        assert "refused" in ask(f"http:http://127.0.0.1:{free.getsockname()[1]}/", 0).lower()


def test_it_is_tried_again_until_it_is_good(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    assert ask(f"command:echo x >>{tries}; [ $(wc -l <{tries}) -ge 2 ]", 10) == ""
    assert len(tries.read_text().split()) == 2


@pytest.mark.parametrize(
    "text",
    ["", "tcp:", "tcp:10.0.0.1", "http:ftp://x/", "http:/x", "http:10.0.0.1", "command:", "command: ", "ping:10.0.0.1"],
)
def test_what_is_no_check_is_refused_with_what_may_be_written(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(text)
    assert refused.value.remedy
