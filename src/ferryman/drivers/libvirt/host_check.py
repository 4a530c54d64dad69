"""What a host lacks to be a source or a destination, looked at from where it is used: from the other host itself."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from ferryman import errors
from ferryman.drivers import link
from ferryman.drivers.libvirt.visit import CERTIFICATES, MIGRATION_PORTS, Visit, Way, visit
from ferryman.model.host import Answer, Check, Host, HostFacts
from ferryman.model.preparation import RENEW_WITHIN
from ferryman.model.units import format_size
from ferryman.ports import Hypervisor

PORTS = {"qemu+tls": 16514, "qemu+ssh": 22, "qemu+tcp": 16509}
CLOCK_TOLERANCE = 1.0  # seconds; certificates and logs bear no more


def check(hypervisor: Hypervisor, others: Sequence[Hypervisor], *, measure_link: bool = False) -> tuple[Check, ...]:
    """All that is looked at, one line each. A host that does not answer has one line.

    `measure_link`: also how fast each other host's data arrives at the migration address, one after another.
    """
    host = hypervisor.host
    sources = [other.host for other in others if other.host.name != host.name]
    with ThreadPoolExecutor(len(sources) + 1) as pool:
        visited = pool.submit(visit, host, dates=True)
        ways = [pool.submit(visit, other, peer_uri=host.effective_peer_uri, address=host.effective_migration_address)
                for other in sources]  # fmt: skip
        try:
            facts = hypervisor.facts()
        except errors.DriverError as error:
            return (Check(host.name, "libvirtd", Answer.MISSING, error.why, error.remedy),)
    seen = visited.result()
    lines = [Check(host.name, "libvirtd", Answer.GOOD, _versions(facts)), *_storage(facts), *_bridges(facts, seen)]
    lines += [*_certificates(host, seen), *_clock(host, seen), *_copies(host, seen)]
    for way in ways:
        lines += _ways(host, way.result())
    if measure_link:
        lines += [_speed(host, source) for source in sources]
    return tuple(lines)


def _versions(facts: HostFacts) -> str:
    libvirt, qemu = (".".join(map(str, numbers)) for numbers in (facts.libvirt_version, facts.qemu_version))
    return f"libvirt {libvirt}, QEMU {qemu}, answers at {facts.host.uri}"


def _storage(facts: HostFacts) -> Iterator[Check]:
    active = [pool.name for pool in facts.pools if pool.active]
    if active:
        yield Check(facts.host.name, "storage pools", Answer.GOOD, ", ".join(active))
    else:
        yield Check(facts.host.name, "storage pools", Answer.MISSING, "no active pool",
                    f"at {facts.host.name}: virsh pool-define-as default dir --target /var/lib/libvirt/images; "
                    "virsh pool-build default; virsh pool-start default; virsh pool-autostart default")  # fmt: skip


def _bridges(facts: HostFacts, seen: Visit) -> Iterator[Check]:
    networks = [f"network {network.name}" for network in facts.networks if network.active]
    if seen.bridges or networks:
        yield Check(facts.host.name, "bridges", Answer.GOOD, ", ".join([*seen.bridges, *networks]))
    elif seen.failed:
        yield Check(facts.host.name, "bridges", Answer.NOT_CHECKED, f"because {seen.failed}", _REGISTER_SSH.format(host=facts.host.name))  # fmt: skip
    else:
        yield Check(facts.host.name, "bridges", Answer.MISSING, "no bridge and no active network",
                    "make a bridge with an uplink; or virsh net-start default, whose guests lose their connections when they move")  # fmt: skip


_REGISTER_SSH = "make ssh to {host} work without a password, or register it with another --ssh"


def _certificates(host: Host, seen: Visit) -> Iterator[Check]:
    by_tls = any(uri.startswith("qemu+tls") for uri in (host.uri, host.effective_peer_uri))
    for service, purpose, needed in (
        ("libvirt", "peer to peer between hosts by qemu+tls", by_tls),
        ("qemu", "encrypted memory", True),
    ):
        yield _line(
            host,
            f"{service} certificates",
            seen.certificates(service),
            f"in place for {purpose}",
            f"ferryman host prepare {host.name} (needed for {purpose})",
            host,
            lacking=Answer.MISSING if needed else Answer.OPTIONAL,
        )
        if not seen.failed and not set(CERTIFICATES[service]) <= set(seen.missing):
            yield _dates(host, service, seen, time.time())


def _dates(host: Host, service: str, seen: Visit, now: float) -> Check:
    """When the first certificate of a service ends."""
    thing, renew = f"{service} certificates' dates", f"ferryman host prepare {host.name} renews it"
    ends = sorted((seen.ends[path], path) for path in CERTIFICATES[service] if path in seen.ends)
    if not seen.dated or not ends:
        why = "there is no openssl there" if not seen.dated else "openssl could not read them"
        return Check(host.name, thing, Answer.NOT_CHECKED, f"because {why}", f"at {host.name}: apt install openssl")
    at, path = ends[0]
    if at <= now:
        return Check(host.name, thing, Answer.MISSING, f"{path} has ended on {_day(at)}", renew)
    if at - now < RENEW_WITHIN:
        return Check(host.name, thing, Answer.WARNING, f"{path} ends on {_day(at)}, in {(at - now) / 86400:.0f} days", renew)  # fmt: skip
    return Check(host.name, thing, Answer.GOOD, f"the first ends on {_day(at)}")


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _clock(host: Host, seen: Visit) -> Iterator[Check]:
    if seen.failed:
        yield Check(
            host.name, "clock", Answer.NOT_CHECKED, f"because {seen.failed}", _REGISTER_SSH.format(host=host.name)
        )
    elif abs(seen.clock_offset) > CLOCK_TOLERANCE + seen.clock_uncertainty:
        yield Check(host.name, "clock", Answer.MISSING, f"{seen.clock_offset:+.1f} s off this machine's", "apt install chrony, at both")  # fmt: skip
    else:
        within = max(abs(seen.clock_offset), seen.clock_uncertainty)
        yield Check(host.name, "clock", Answer.GOOD, f"within {within:.1f} s of this machine's")


def _copies(host: Host, seen: Visit) -> Iterator[Check]:
    """What the endpoints of disk copies need: moves of running guests do without."""
    if seen.failed:
        yield Check(host.name, "disk copies", Answer.NOT_CHECKED, f"because {seen.failed}", _REGISTER_SSH.format(host=host.name))  # fmt: skip
    elif seen.lacks:
        yield Check(host.name, "disk copies", Answer.OPTIONAL, f"no {', '.join(seen.lacks)}: ferryman can neither copy a disk from there nor to there",
                    f"at {host.name}: apt install {' '.join(seen.lacks)}")  # fmt: skip
    else:
        yield Check(host.name, "disk copies", Answer.GOOD, "qemu-utils, python3-libnbd and python3-zstandard are there")


def _ways(host: Host, source: Visit) -> Iterator[Check]:
    """Another host as a source, this one as its destination: each way was tried from the other host itself."""
    peer, other = host.effective_peer_uri, source.host.name
    carried = f"until then ferryman carries the handshake itself for moves from {other}"
    if peer:
        yield _line(
            host,
            f"peer URI {peer} from {other}",
            source.peer,
            "answers",
            f"{_open_the_way(host, other, peer)}; or set --peer-uri; {carried}",
            source.host,
            lacking=Answer.OPTIONAL,
        )
    else:
        yield Check(host.name, f"peer URI from {other}", Answer.OPTIONAL, f"it is registered as {host.uri}, which leads another host to itself",
                    f"ferryman host add {host.name} {host.uri} --peer-uri qemu+tls://ADDRESS/system; {carried}")  # fmt: skip
    if not host.effective_migration_address:
        yield Check(host.name, f"migration address from {other}", Answer.MISSING, f"{host.uri} names no address",
                    f"ferryman host add {host.name} {host.uri} --migration-address ADDRESS")  # fmt: skip
        return
    yield _line(
        host,
        f"migration address {host.effective_migration_address} from {other}",
        source.address,
        "answers",
        f"open TCP {MIGRATION_PORTS[0]}-{MIGRATION_PORTS[1]} at {host.name} for {other}; or set --migration-address",
        source.host,
    )


def _open_the_way(host: Host, other: str, peer: str) -> str:
    """What makes one host's libvirtd reach another's."""
    scheme = urlsplit(peer).scheme
    if scheme == "qemu+tls":
        return f"ferryman host prepare {host.name} {other}"
    return f"ferryman host prepare {host.name} {other}, which gives them certificates; or let root at {other} in at {host.name} (port {PORTS.get(scheme, 0)}) by an ssh key"


def _speed(host: Host, source: Host) -> Check:
    speed = link.measure(source, host)
    thing = f"link from {source.name} to {host.effective_migration_address}"
    if speed.rate is None:
        return Check(host.name, thing, Answer.NOT_CHECKED, f"because {speed.detail}", _REGISTER_SSH.format(host=host.name))  # fmt: skip
    return Check(host.name, thing, Answer.GOOD, f"{format_size(speed.rate)}/s measured")


def _line(
    host: Host, thing: str, way: Way, good: str, remedy: str, looked_from: Host, lacking: Answer = Answer.MISSING
) -> Check:
    if way.good is None:
        return Check(host.name, thing, Answer.NOT_CHECKED, f"because {way.detail}", _REGISTER_SSH.format(host=looked_from.name))  # fmt: skip
    if way.good:
        return Check(host.name, thing, Answer.GOOD, good)
    return Check(host.name, thing, lacking, way.detail, remedy)
