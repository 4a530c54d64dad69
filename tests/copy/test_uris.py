"""Images that QEMU opens by a URI: of a real NBD server and a real HTTP server, in the format that was named."""

import http.server
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ferryman.app.copies import format_of
from ferryman.errors import DriverError
from ferryman.model.copy import CopyTask, Image
from tests.copy.conftest import Copies, fill, run, same

MIB = 1 << 20


@contextmanager
def served(image: Path, *options: str) -> Iterator[str]:
    """The URI at which a qemu-nbd serves the bytes of a file, to one client at a time, as it does by itself."""
    socket = image.with_suffix(".socket")
    server = subprocess.Popen(["qemu-nbd", "--persistent", "-f", "raw", "-k", socket, *options, image])
    try:
        while not socket.exists():
            time.sleep(0.01)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        server.terminate()
        server.wait()


def task(source: tuple[object, str], destination: tuple[object, str], **more: object) -> CopyTask:
    """From one place to another, each with its format."""
    return CopyTask("uri", Image(str(source[0]), source[1]), Image(str(destination[0]), destination[1]), **more)  # type: ignore[arg-type]


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    """A qcow2 with some data in it."""
    fill(tmp_path / "raw", 8 * MIB, seed=11)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "raw", tmp_path / "behind")
    return tmp_path / "behind"


def test_a_qcow2_behind_an_nbd_server_is_read_as_what_is_in_it(copies: Copies, tmp_path: Path, qcow2: Path) -> None:
    with served(qcow2, "--read-only") as uri:
        copies.copy(task((uri, "qcow2"), (tmp_path / "target", "raw")))
    assert (tmp_path / "target").read_bytes() == (tmp_path / "raw").read_bytes()


def test_an_nbd_server_that_is_read_as_raw_gives_the_bytes_it_serves(
    copies: Copies, tmp_path: Path, qcow2: Path
) -> None:
    with served(qcow2, "--read-only") as uri:
        copies.copy(task((uri, "raw"), (tmp_path / "target", "raw")))
    assert (tmp_path / "target").read_bytes() == qcow2.read_bytes()


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_copy_is_written_to_an_nbd_server_in_the_format_that_was_named(
    copies: Copies, tmp_path: Path, kind: str
) -> None:
    fill(tmp_path / "raw", 8 * MIB, seed=12)
    if kind == "raw":
        (tmp_path / "there").touch()
        os.truncate(tmp_path / "there", 8 * MIB)
    else:
        run("qemu-img", "create", "-f", kind, "-o", "preallocation=metadata", tmp_path / "there", "8M")
    with served(tmp_path / "there") as uri:
        copies.copy(task((tmp_path / "raw", "raw"), (uri, kind), existing="update"))
    assert same(tmp_path / "raw", "raw", tmp_path / "there", kind)


def test_a_server_that_has_another_format_than_was_named_is_refused(copies: Copies, tmp_path: Path) -> None:
    fill(tmp_path / "raw", 8 * MIB, seed=13)
    with served(tmp_path / "raw", "--read-only") as uri, pytest.raises(DriverError, match="not in qcow2 format"):
        copies.copy(task((uri, "qcow2"), (tmp_path / "target", "raw")))


class Ranges(http.server.BaseHTTPRequestHandler):
    """Serves one file, also parts of it, as QEMU asks for them."""

    def __init__(self, image: Path, *rest: object) -> None:
        self._image = image
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        """How long it is, and that it comes in parts."""
        self._answer(200, self._image.stat().st_size)

    def do_GET(self) -> None:
        """The part that was asked for."""
        whole = self._image.read_bytes()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = whole[int(first) : int(last or len(whole)) + 1]
        self._answer(206, len(part), f"bytes {first}-{int(first) + len(part) - 1}/{len(whole)}")
        self.wfile.write(part)

    def _answer(self, code: int, length: int, where: str = "") -> None:
        self.send_response(code)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        if where:
            self.send_header("Content-Range", where)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing: pytest shows what matters."""


def opens(protocol: str) -> bool:
    """Whether QEMU here has a driver for it."""
    told = subprocess.run(["qemu-img", "info", f"{protocol}://127.0.0.1:1/x"], capture_output=True, text=True).stderr
    return "Unknown protocol" not in told


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_an_image_at_a_web_server_is_a_source(copies: Copies, tmp_path: Path, qcow2: Path, kind: str) -> None:
    if not opens("http"):
        pytest.skip("QEMU here does not open http: apt install qemu-block-extra")
    image = tmp_path / "raw" if kind == "raw" else qcow2
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, image)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        copies.copy(task((f"http://127.0.0.1:{server.server_port}/image", kind), (tmp_path / "target", "raw")))
        server.shutdown()
    assert (tmp_path / "target").read_bytes() == (tmp_path / "raw").read_bytes()


@pytest.mark.parametrize(
    "uri", ["rbd:pool/image", "nfs://host/export/image", "iscsi://host/name/0", "ssh://host/image"]
)
def test_a_driver_that_qemu_lacks_is_named_with_its_package(copies: Copies, tmp_path: Path, uri: str) -> None:
    protocol = uri.partition(":")[0]
    if opens(protocol):
        pytest.skip(f"QEMU here opens {protocol}")
    with pytest.raises(DriverError, match=f"cannot open {protocol}") as caught:
        copies.copy(task((uri, "raw"), (tmp_path / "target", "raw")))
    assert caught.value.remedy == "apt install qemu-block-extra"


def test_a_protocol_that_nobody_knows_is_no_missing_file(copies: Copies, tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="cannot open odd") as caught:
        copies.copy(task(("odd://host/image", "raw"), (tmp_path / "target", "raw")))
    assert "apt" not in caught.value.remedy


def test_what_a_uri_says_to_the_server_is_no_part_of_the_name() -> None:
    assert format_of("https://host/images/web.qcow2?token=a.raw") == "qcow2"
    assert format_of("nbd+unix:///?socket=/run/web.qcow2") == ""
