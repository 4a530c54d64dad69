"""What a host lacks to be a source or a destination, looked at from where it is used: from the other host itself."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.host import Answer, Check, Host, HostFacts
from ferryman.model.site import TransportFacts
from ferryman.ports import Hypervisor

CERTIFICATES = {
    "libvirt": ("/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/private/serverkey.pem",
                "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"),
    "qemu": ("/etc/pki/qemu/ca-cert.pem", "/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/server-key.pem",
             "/etc/pki/qemu/client-cert.pem", "/etc/pki/qemu/client-key.pem"),
}  # fmt: skip
PORTS = {"qemu+tls": 16514, "qemu+ssh": 22, "qemu+tcp": 16509}
MIGRATION_PORTS = (49152, 49215)  # libvirt's default range
TRY_WITHIN = 5  # seconds for each way that is tried from a host
CLOCK_TOLERANCE = 1.0  # seconds; certificates and logs bear no more


def transport(source: Host, destination: Host) -> TransportFacts:
    """The ways from the source to the destination, each tried from the source over ssh."""
    peer, address = destination.effective_peer_uri, migration_address(destination)
    with ThreadPoolExecutor() as pool:
        way = pool.submit(peer_answers, source, peer)
        migration = pool.submit(address_answers, source, address)
        ours = pool.submit(certificates_in_place, source, "qemu")
        theirs = pool.submit(certificates_in_place, destination, "qemu")
    return TransportFacts(
        peer_uri=peer,
        peer_reachable=way.result()[0],
        peer_detail=way.result()[1],
        migration_address=address,
        migration_reachable=migration.result()[0],
        migration_detail=migration.result()[1],
        source_tls=ours.result()[0],
        destination_tls=theirs.result()[0],
        tls_detail="; ".join(detail for _, detail in (ours.result(), theirs.result()) if detail),
    )


def migration_address(host: Host) -> str:
    """Where QEMU connects: as registered, by default the address of the peer URI."""
    return host.migration_address or urlsplit(host.effective_peer_uri).hostname or host.address


def peer_answers(source: Host, peer_uri: str) -> tuple[bool | None, str]:
    """Whether the source's own libvirt client reaches that URI; None with the reason when it could not be tried."""
    try:
        answer = ssh.run(source, ["timeout", str(TRY_WITHIN), "virsh", "--connect", peer_uri, "hostname"])
    except errors.DriverError as error:
        return None, error.why
    if answer.code == 127:
        return None, f"{source.name} has no virsh"
    words = answer.err.strip().splitlines()
    if answer.code == 124:
        words = [f"no answer within {TRY_WITHIN} s"]
    return answer.code == 0, "" if answer.code == 0 else (words[-1] if words else f"virsh ended with {answer.code}")


def address_answers(source: Host, address: str) -> tuple[bool | None, str]:
    """Whether the source reaches that address; nobody listens in the migration ports yet, so a refusal is an answer too."""
    script = f"timeout {TRY_WITHIN} bash -c 'exec 3<>/dev/tcp/{address}/{MIGRATION_PORTS[0]}'"
    try:
        answer = ssh.run(source, ["sh", "-c", script])
    except errors.DriverError as error:
        return None, error.why
    if answer.code == 0 or "refused" in answer.err.lower():
        return True, ""
    if answer.code == 127:
        return None, f"{source.name} has no bash"
    words = answer.err.strip().splitlines()
    return False, words[0].rpartition("bash: ")[2] if words else f"no answer within {TRY_WITHIN} s"


def certificates_in_place(host: Host, service: str) -> tuple[bool | None, str]:
    """Whether all certificate files of a service can be read at the host."""
    script = "; ".join(f"test -r {path} || echo {path}" for path in CERTIFICATES[service])
    try:
        missing = ssh.run(host, ["sh", "-c", script]).out.split()
    except errors.DriverError as error:
        return None, f"certificates at {host.name} not checked, because {error.why}"
    return not missing, f"{host.name} lacks {', '.join(missing)}" if missing else ""


def check(hypervisor: Hypervisor, others: Sequence[Hypervisor]) -> tuple[Check, ...]:
    """All that is looked at, one line each. A host that does not answer has one line."""
    host = hypervisor.host
    try:
        facts = hypervisor.facts()
    except errors.DriverError as error:
        return (Check(host.name, "libvirtd", Answer.MISSING, error.why, error.remedy),)
    lines = [Check(host.name, "libvirtd", Answer.GOOD, _versions(facts))]
    lines += _storage_and_network(facts)
    lines += _certificates(host)
    lines += _clock(host)
    for other in others:
        if other.host.name != host.name:
            lines += _ways(host, other.host)
    return tuple(lines)


def _versions(facts: HostFacts) -> str:
    libvirt, qemu = (".".join(map(str, numbers)) for numbers in (facts.libvirt_version, facts.qemu_version))
    return f"libvirt {libvirt}, QEMU {qemu}, answers at {facts.host.uri}"


def _storage_and_network(facts: HostFacts) -> Iterator[Check]:
    name = facts.host.name
    active = [pool.name for pool in facts.pools if pool.active]
    if active:
        yield Check(name, "storage pools", Answer.GOOD, ", ".join(active))
    else:
        remedy = "virsh pool-define-as NAME dir --target PATH; virsh pool-start NAME; virsh pool-autostart NAME"
        yield Check(name, "storage pools", Answer.MISSING, "no active pool", remedy)
    if facts.bridges is None:
        yield Check(name, "bridges", Answer.NOT_CHECKED, "; ".join(facts.not_looked_at))
    elif facts.bridges or any(network.active for network in facts.networks):
        names = [*facts.bridges, *(f"network {network.name}" for network in facts.networks if network.active)]
        yield Check(name, "bridges", Answer.GOOD, ", ".join(names))
    else:
        yield Check(
            name,
            "bridges",
            Answer.MISSING,
            "no bridge and no active network",
            "make a bridge, or virsh net-start default",
        )


def _certificates(host: Host) -> Iterator[Check]:
    for service, purpose in (("libvirt", "peer to peer between hosts"), ("qemu", "encrypted memory")):
        good, detail = certificates_in_place(host, service)
        if good is None:
            yield Check(
                host.name, f"{service} certificates", Answer.NOT_CHECKED, detail, "register the host with --ssh"
            )
        elif good:
            yield Check(host.name, f"{service} certificates", Answer.GOOD, f"in place for {purpose}")
        else:
            remedy = f"install them, signed by a CA that all hosts trust (needed for {purpose})"
            yield Check(host.name, f"{service} certificates", Answer.MISSING, detail, remedy)


def _clock(host: Host) -> Iterator[Check]:
    if not host.effective_ssh:
        return
    began = time.time()
    try:
        answer = ssh.run(host, ["date", "+%s.%N"])
        theirs = float(answer.out)
    except (errors.DriverError, ValueError) as error:
        yield Check(host.name, "clock", Answer.NOT_CHECKED, f"because {error}", "register the host with --ssh")
        return
    ended = time.time()
    offset = theirs - (began + ended) / 2
    uncertain = (ended - began) / 2
    if abs(offset) > CLOCK_TOLERANCE + uncertain:
        yield Check(host.name, "clock", Answer.MISSING, f"{offset:+.1f} s off this machine's", "run chrony on both")
    else:
        yield Check(host.name, "clock", Answer.GOOD, f"within {max(abs(offset), uncertain):.1f} s of this machine's")


def _ways(host: Host, other: Host) -> Iterator[Check]:
    """The other host as a source, this one as its destination: each way tried from the other host itself."""
    peer, address = host.effective_peer_uri, migration_address(host)
    port = PORTS.get(urlsplit(peer).scheme, 0)
    for thing, (good, detail), remedy in (
        (f"peer URI {peer} from {other.name}", peer_answers(other, peer),
         f"make libvirtd at {host.name} listen (port {port}) for a client with {other.name}'s certificate or key; or set --peer-uri"),
        (f"migration address {address} from {other.name}", address_answers(other, address),
         f"open TCP {MIGRATION_PORTS[0]}-{MIGRATION_PORTS[1]} at {host.name} for {other.name}; or set --migration-address"),
    ):  # fmt: skip
        if good is None:
            yield Check(host.name, thing, Answer.NOT_CHECKED, f"because {detail}", f"register {other.name} with --ssh")
        elif good:
            yield Check(host.name, thing, Answer.GOOD, "answers")
        else:
            yield Check(host.name, thing, Answer.MISSING, detail, remedy)
