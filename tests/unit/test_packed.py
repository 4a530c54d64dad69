"""Two packed directories: owners' numbers are a host's own, all else counts."""

import base64
import io
import tarfile
from typing import Any

import pytest

from ferryman.verify.packed import same_files


def packed(content: bytes = b"secret", owner: int = 5001, **changes: Any) -> str:
    """As a host packs the state of a TPM: the user of that name has that number there."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind in ((".", tarfile.DIRTYPE), ("./tpm2-00.permall", tarfile.REGTYPE)):
            one = tarfile.TarInfo(name)
            one.type, one.mode, one.uname, one.uid, one.gid = kind, 0o700, "swtpm", owner, owner
            one.size = len(content) if one.isfile() else 0
            for field, value in changes.items() if one.isfile() else ():
                setattr(one, field, value)
            archive.addfile(one, io.BytesIO(content))
    return base64.encodebytes(stream.getvalue()).decode()


def test_a_user_who_has_another_number_at_the_other_host_is_no_difference() -> None:
    assert packed() != packed(owner=5002)
    assert same_files(packed(), packed(owner=5002))


@pytest.mark.parametrize(
    "other", [packed(b"Secret"), packed(mode=0o755), packed(name="./other"), packed(type=tarfile.SYMTYPE, linkname="x"), packed()[:2000], "", "new"]
)  # fmt: skip
def test_all_else_is(other: str) -> None:
    assert not same_files(packed(), other)
    assert not same_files(other, packed())
