"""A guest stopped, started, frozen and watched: asked by agent or power button, its links opened, a reboot or a crash noticed."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from xml.etree import ElementTree

import libvirt
import libvirt_qemu

from ferryman.ports import StopWay

PING_WITHIN = 5  # seconds
FREEZE_WITHIN = 20  # seconds; libvirt by itself waits for ever for an agent that hangs
_LOOK_EVERY = 0.1
_FLAGS = {
    StopWay.AGENT: libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    StopWay.ACPI: libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
}


def ask_to_stop(domain: libvirt.virDomain, way: StopWay) -> None:
    """Returns at once."""
    domain.shutdownFlags(_FLAGS[way])


_ACTIONS: dict[str, int] = {
    "destroy": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY,
    "restart": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART,
    "preserve": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_PRESERVE,
    "rename-restart": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART_RENAME,
}
# What a definition may want when the guest turns itself off or reboots, and what holds when it says nothing.
_WHEN = (
    (libvirt.VIR_DOMAIN_LIFECYCLE_POWEROFF, "on_poweroff", "destroy"),
    (libvirt.VIR_DOMAIN_LIFECYCLE_REBOOT, "on_reboot", "restart"),
)


def let_it_end(domain: libvirt.virDomain, on: bool) -> None:
    """Whether the running guest ends when it turns itself off or reboots; off: what its definition says."""
    root = ElementTree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    now = ElementTree.fromstring(domain.XMLDesc(0))
    for when, name, otherwise in _WHEN:
        wanted = "destroy" if on else root.findtext(name) or otherwise
        if (now.findtext(name) or otherwise) != wanted:
            domain.setLifecycleAction(when, _ACTIONS[wanted], libvirt.VIR_DOMAIN_AFFECT_LIVE)


def agent_connected(xml: str) -> bool:
    """Whether a live definition says that the guest's agent has opened its channel."""
    root = ElementTree.fromstring(xml)
    return any(
        target.get("name") == "org.qemu.guest_agent.0" and target.get("state") == "connected"
        for target in root.findall("devices/channel/target")
    )


def agent_answers(domain: libvirt.virDomain) -> bool:
    """One ping."""
    return _asked(domain, "guest-ping") is not None


def can_freeze(domain: libvirt.virDomain) -> bool:
    """Many an agent answers that was built without it, or whose owner has forbidden it: such a one would not thaw either."""
    said: dict[str, Any] = _asked(domain, "guest-info") or {}
    allowed = {one["name"] for one in said.get("supported_commands", ()) if one["enabled"]}
    return allowed >= {"guest-fsfreeze-freeze", "guest-fsfreeze-thaw"}


def is_frozen(domain: libvirt.virDomain) -> bool:
    """An agent that does not say so has frozen nothing that is known of."""
    return bool(_asked(domain, "guest-fsfreeze-status") == "frozen")


def _asked(domain: libvirt.virDomain, command: str) -> Any:
    """What the guest's agent answers; None when it does not."""
    if not domain.isActive() or not agent_connected(domain.XMLDesc(0)):
        return None
    with suppress(libvirt.libvirtError):
        answer = libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": command}), PING_WITHIN, 0)
        return json.loads(answer)["return"]
    return None


def freeze(domain: libvirt.virDomain) -> int:
    """How many file systems were frozen. After that libvirt waits for the agent as long as it always does."""
    domain.agentSetResponseTimeout(FREEZE_WITHIN)
    try:
        return int(domain.fsFreeze())
    finally:
        domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)


def thaw(domain: libvirt.virDomain) -> None:
    """Also when none is frozen: the agent knows. Raises libvirtError when it is not there to be asked."""
    if domain.isActive():
        domain.agentSetResponseTimeout(FREEZE_WITHIN)
        try:
            domain.fsThaw()
        finally:
            domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)


def open_links(domain: libvirt.virDomain, definition: str) -> None:
    """The running guest's interfaces, told apart by MAC, get the link states of the definition."""
    wanted = {_mac(one): _state(one) for one in ElementTree.fromstring(definition).findall("devices/interface")}
    for interface in ElementTree.fromstring(domain.XMLDesc(0)).findall("devices/interface"):
        state = wanted.get(_mac(interface), "up")
        if _state(interface) == state:
            continue
        link = interface.find("link")
        if link is None:
            link = ElementTree.SubElement(interface, "link")
        link.set("state", state)
        domain.updateDeviceFlags(ElementTree.tostring(interface, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _mac(interface: ElementTree.Element) -> str:
    mac = interface.find("mac")
    return "" if mac is None else mac.get("address", "").lower()


def _state(interface: ElementTree.Element) -> str:
    link = interface.find("link")
    return "up" if link is None else link.get("state", "up")


_STOPPED = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "it shut down",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "it was destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "it crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "its QEMU failed",
}


def watch(link: libvirt.virConnect, domain: libvirt.virDomain, seconds: float) -> str:
    """Events say what happened between two looks, such as a reboot; the looks say what no event told."""
    befell: list[str] = []
    noticed = threading.Event()

    def happened(words: str) -> None:
        befell.append(words)
        noticed.set()

    with _listening(link, domain, happened):
        deadline = time.monotonic() + seconds
        while not noticed.wait(_LOOK_EVERY):
            state, reason = domain.state()
            if state not in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
                happened(f"it does not run any more (state {state}, reason {reason})")
            elif time.monotonic() > deadline:
                return ""
    return befell[0]


@contextmanager
def _listening(link: libvirt.virConnect, domain: libvirt.virDomain, happened: Any) -> Iterator[None]:
    def lifecycle(_link: Any, _domain: Any, event: int, detail: int, _opaque: Any) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            happened(_STOPPED.get(detail, f"it stopped (detail {detail})"))
        elif event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            happened("it crashed")
        elif event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
            happened(f"it was paused (detail {detail})")

    def reboot(_link: Any, _domain: Any, _opaque: Any) -> None:
        happened("it rebooted")

    numbers = [
        link.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None),
        link.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, reboot, None),
    ]
    try:
        yield
    finally:
        for number in numbers:
            with suppress(libvirt.libvirtError):
                link.domainEventDeregisterAny(number)
