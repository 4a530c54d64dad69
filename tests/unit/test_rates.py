"""What earlier copies between the same two hosts tell, and which of them tell nothing."""

from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import DatabaseRecords, open_records
from ferryman.execute import rates
from ferryman.model.copy import Rate
from ferryman.model.request import Options, Request
from ferryman.model.units import MIB


def left(records: DatabaseRecords, name: str, options: Options, *, read: int, seconds: float, ahead: Any = ()) -> None:
    """A request from a to b that copied one disk, vda."""
    records.add_request(Request(name, "uuid", "db", "a", "b", options), "slot0")
    copied = {"size": read, "read": read, "written": 0, "wire": 0, "sent_again": 0, "seconds": seconds,
              "verify_seconds": 0.0, "source_digest": "", "destination_digest": "", "way": "tls"}  # fmt: skip
    records.keep_facts(name, {"copies": {"vda": copied}, "plan": {"ahead": list(ahead)}})


@pytest.fixture
def records(tmp_path: Path) -> DatabaseRecords:
    return open_records(tmp_path)


RAW = {"target": "vda", "remembers": False}
WARM, COLD = Options(warm=True), Options(cold=True)


def test_the_last_pass_over_a_disk_that_does_not_remember_tells_how_fast_one_is_read(records: DatabaseRecords) -> None:
    left(records, "read", WARM, read=512 * MIB, seconds=2.0, ahead=[RAW])
    left(records, "sent", COLD, read=512 * MIB, seconds=8.0)
    assert rates.read_again(records, "a", "b") == Rate(256 * MIB, "as request read did")
    assert rates.copied(records, "a", "b", read_back=True) == Rate(64 * MIB, "as request sent did")


def test_without_one_a_copy_of_all_of_it_tells_it_and_a_pass_over_what_was_written_does_not(
    records: DatabaseRecords,
) -> None:
    left(records, "sent", COLD, read=512 * MIB, seconds=8.0)
    left(records, "written", WARM, read=512 * MIB, seconds=1.0, ahead=[RAW | {"remembers": True}])
    assert rates.read_again(records, "a", "b") == Rate(64 * MIB, "as request sent did")


def test_nothing_is_told_by_other_hosts_or_by_little(records: DatabaseRecords) -> None:
    left(records, "little", WARM, read=MIB, seconds=1.0, ahead=[RAW])
    left(records, "sent", COLD, read=512 * MIB, seconds=8.0)
    assert rates.read_again(records, "b", "a") is None
    assert rates.read_again(records, "a", "b") == Rate(64 * MIB, "as request sent did")
