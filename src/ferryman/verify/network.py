"""Does the network know the guest's new place? Evidence of probes in, findings out."""

from collections.abc import Mapping

from ferryman.model.finding import Finding, note, warning

LONG_BLACKOUT_FACTOR = 5.0  # a blackout this many times the hypervisor's downtime is the network's doing
LONG_BLACKOUT_FLOOR = 2.0  # seconds; shorter ones are not worth a finding


def network_findings(
    *,
    answers: bool | None,
    answered_before: bool | None,
    probe: str,
    destination: str,
    not_announced: str,
    blackout: float | None,
    downtime: float | None,
) -> tuple[Finding, ...]:
    """What was seen from a third place after the switchover.

    `answers`: whether the guest answered within the bound (None: it was not asked, or could not be); `answered_before`:
    whether it did before the move (None: it could not be asked); `probe`: the address asked;
    `not_announced`: why ferryman could not announce it again (empty: it did); times in seconds.
    """
    findings: list[Finding] = []
    if not_announced:
        findings.append(
            note(
                "not-announced",
                f"announcement at {destination}",
                f"not sent again, because {not_announced}",
                "QEMU announced the guest itself when it started there",
            )
        )
    if answers is None:
        why, remedy = "no address of the guest is known", "name one with --probe ADDRESS:PORT"
        if probe and answered_before is False:
            why = f"{probe} did not answer before the move either"
        elif probe:
            why = f"this user may not send ICMP echoes, so {probe} could not be asked"
            remedy = "name a TCP port with --probe ADDRESS:PORT; or let users send echoes: sysctl net.ipv4.ping_group_range='0 2147483647'"
        findings.append(
            note(
                "answer-not-checked",
                "guest's answer after the move",
                f"not checked, because {why}",
                remedy,
            )
        )
    elif not answers:
        findings.append(
            warning(
                "guest-dark",
                f"guest at {destination}",
                f"it runs there but {probe} does not answer",
                f"look whether the bridges at {destination} carry the same network segment and whether the switches "
                "have learned the guest's MAC address (send an ARP from the guest, or clear their tables)",
            )
        )
    if blackout is not None and blackout > max(LONG_BLACKOUT_FLOOR, LONG_BLACKOUT_FACTOR * (downtime or 0.0)):
        stopped = (
            f"the hypervisor stopped it for {downtime:.2f} s only"
            if downtime is not None
            else "longer than a switchover takes"
        )
        findings.append(
            warning(
                "long-blackout",
                f"guest at {destination}",
                f"clients saw {blackout:.1f} s without an answer, {stopped}",
                "the network learned the new place late: look at the switches' MAC ageing and at spanning tree",
            )
        )
    return tuple(findings)


def check_findings(seen: Mapping[str, str], destination: str) -> tuple[Finding, ...]:
    """The operator's checks that were not good, with what was seen."""
    return tuple(
        warning(
            "check-failed",
            f"check {check}",
            f"the guest runs at {destination}, and this was not good: {words}",
            "look at the guest; its source's disks are kept until ferryman retire",
        )
        for check, words in seen.items()
        if words
    )
