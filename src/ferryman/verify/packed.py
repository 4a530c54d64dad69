"""Two packed directories (ports.Hypervisor.pack): do they hold the same?"""

import base64
import binascii
import hashlib
import io
import tarfile


def same_files(one: str, other: str) -> bool:
    """Names, kinds, modes and content count. Owners do not: the user of one name has another number at another host."""
    if one == other:
        return True
    try:
        return _files(one) == _files(other)
    except (tarfile.TarError, binascii.Error):  # one of them is none, or only a part
        return False


def _files(packed: str) -> list[tuple[str, bytes, int, str, str]]:
    """Name, kind, mode, where a link leads, and the digest of the content."""
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
        return [
            (one.name, one.type, one.mode, one.linkname, hashlib.sha256(content.read() if content else b"").hexdigest())
            for one in archive
            for content in [archive.extractfile(one) if one.isfile() else None]
        ]
