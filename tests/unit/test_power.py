"""File systems that the guest's agent freezes and thaws: whether it can is asked before, and that it is away is no "nothing is frozen"."""

import json
from typing import Any

import libvirt
import pytest

from ferryman.drivers.libvirt import power

CONNECTED = (
    "<domain><devices><channel><target name='org.qemu.guest_agent.0' state='connected'/></channel></devices></domain>"
)
FREEZE, THAW = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"


class Domain:
    """A guest whose agent has closed its channel."""

    def __init__(self, *, active: bool) -> None:
        self._active = active

    def isActive(self) -> bool:  # noqa: N802
        return self._active

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        return "<domain><devices/></domain>"

    def agentSetResponseTimeout(self, seconds: int) -> None:  # noqa: N802
        pass

    def fsThaw(self) -> int:  # noqa: N802
        raise libvirt.libvirtError("QEMU guest agent is not connected")


def thaw(domain: Any) -> None:
    power.thaw(domain)


def test_a_guest_that_may_be_frozen_is_not_taken_for_thawed_when_its_agent_is_away() -> None:
    with pytest.raises(libvirt.libvirtError, match="not connected"):
        thaw(Domain(active=True))


def test_of_one_that_does_not_run_nothing_is_frozen() -> None:
    thaw(Domain(active=False))


@pytest.mark.parametrize(
    ("allowed", "can"), [({FREEZE: True, THAW: True}, True), ({FREEZE: True, THAW: False}, False), ({"guest-ping": True}, False)]
)  # fmt: skip
def test_only_an_agent_that_may_freeze_and_thaw_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, allowed: dict[str, bool], can: bool
) -> None:
    said = {"return": {"supported_commands": [{"name": name, "enabled": on} for name, on in allowed.items()]}}
    monkeypatch.setattr(Domain, "XMLDesc", lambda self, flags=0: CONNECTED)
    monkeypatch.setattr("libvirt_qemu.qemuAgentCommand", lambda *asked: json.dumps(said))
    assert power.can_freeze(Domain(active=True)) is can
    assert not power.is_frozen(Domain(active=True))
    assert not power.can_freeze(Domain(active=False))


@pytest.mark.parametrize(
    ("said", "frozen"),
    [({"return": "frozen"}, True), ({"return": "thawed"}, False), ({"error": {"class": "CommandNotFound", "desc": "unknown"}}, False)],
)  # fmt: skip
def test_whether_file_systems_are_frozen_is_what_the_agent_says(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], frozen: bool
) -> None:
    def answer(domain: Any, command: str, *_: Any) -> str:
        assert "guest-fsfreeze-status" in command
        if "error" in said:
            raise libvirt.libvirtError("unable to execute QEMU agent command")
        return json.dumps(said)

    monkeypatch.setattr(Domain, "XMLDesc", lambda self, flags=0: CONNECTED)
    monkeypatch.setattr("libvirt_qemu.qemuAgentCommand", answer)
    assert power.is_frozen(Domain(active=True)) is frozen
