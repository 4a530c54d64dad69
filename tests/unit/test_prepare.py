"""What a host needs, decided without one: from a bare host and a prepared one, and from each single fault."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.model.preparation import (
    HOST_PLACES,
    Access,
    Certificate,
    Change,
    Changes,
    End,
    File,
    Listen,
    MachineState,
    Manager,
    Place,
    Restart,
    Service,
    Setting,
    Wish,
    controller_places,
)
from ferryman.prepare import by_hand, for_controller, for_host, refusal
from ferryman.prepare.daemon import listed, value_of

NOW, DAY = 1_800_000_000.0, 86400.0
QEMU, LIBVIRTD, DEFAULTS = "/etc/libvirt/qemu.conf", "/etc/libvirt/libvirtd.conf", "/etc/default/libvirtd"
WISH = Wish(
    NOW,
    ("a", "a-migration", "10.0.0.1"),
    {Service.LIBVIRT: "libvirt authority", Service.QEMU: "qemu authority"},
    migration_address="a-migration",
)
USAGES = frozenset(("key encipherment", "digital signature", "server", "client"))
BARE = MachineState(
    "a", True, "a", generator="openssl", qemu_user="libvirt-qemu", qemu_group="libvirt-qemu", manager=Manager.SOCKETS,
    knows_shared_filesystems=True, files={QEMU: File(QEMU, 0o600, "root", "root", '#migration_host = "host"\n')},
)  # fmt: skip


def prepared() -> MachineState:
    """As it looks after everything was done."""
    files = {QEMU: File(QEMU, 0o600, "root", "root", 'migration_host = "a-migration"\n')}
    certificates = {}
    for path in HOST_PLACES.authorities.values():
        files[path] = File(path, 0o644, "root", "root", "PEM")
    for pair in HOST_PLACES.pairs:
        qemu = pair.service is Service.QEMU
        files[pair.certificate] = File(pair.certificate, 0o644, "root", "root", "PEM")
        files[pair.key] = File(pair.key, 0o640 if qemu else 0o600, "root", "libvirt-qemu" if qemu else "root", key_digest="1")  # fmt: skip
        certificates[pair.certificate] = Certificate("a", "x", WISH.names, NOW + 700 * DAY, USAGES, "1", True)
    return replace(BARE, files=files, certificates=certificates, trusting=frozenset(Service), listens=True)


SERVER, CLIENT, QEMU_SERVER, QEMU_CLIENT = HOST_PLACES.pairs


def acts(changes: Changes, kind: type) -> list[Change]:
    return [change for change in changes.changes if isinstance(change.act, kind)]


def paths(changes: Changes) -> set[str]:
    return {change.act.path for change in changes.changes if isinstance(change.act, Place)}


def test_a_bare_host_gets_everything_and_restarts_last() -> None:
    changes = for_host(BARE, WISH)
    assert paths(changes) == set(HOST_PLACES.files)
    assert set(changes.new_keys) == set(Service)
    assert isinstance(changes.changes[-1].act, Listen)
    owners = {change.act.path: (change.act.mode, change.act.owner) for change in changes.changes if isinstance(change.act, Place)}  # fmt: skip
    assert owners[QEMU_SERVER.key] == ("640", "root:libvirt-qemu")
    assert owners[SERVER.key] == ("600", "root:root")
    assert all(change.why and change.undo for change in changes.changes)


def test_a_prepared_host_needs_nothing() -> None:
    assert for_host(prepared(), WISH) == Changes(())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ends_at": NOW + 29 * DAY}, "ends in 29 days"),
        ({"ends_at": NOW - DAY}, "has ended"),
        ({"trusted": False}, "signed by 'x', not by"),
        ({"names": ("a", "a-migration")}, "does not bear 10.0.0.1"),
        ({"usages": USAGES - {"key encipherment"}}, "lack key encipherment"),
        ({"usages": USAGES - {"server"}}, "lack server"),
        ({"key_digest": "2"}, "is not its key"),
    ],
)
def test_a_certificate_that_is_no_longer_right_is_made_anew_alone(change: dict[str, object], why: str) -> None:
    seen = prepared()
    wrong = {**seen.certificates, SERVER.certificate: replace(seen.certificates[SERVER.certificate], **change)}  # type: ignore[arg-type]
    changes = for_host(replace(seen, certificates=wrong), WISH)
    assert paths(changes) == {SERVER.certificate, SERVER.key}
    assert changes.new_keys == (Service.LIBVIRT,)
    assert why in changes.changes[0].why
    assert isinstance(changes.changes[-1].act, Restart)  # libvirtd serves it


def test_a_client_certificate_needs_no_names_and_no_restart() -> None:
    seen = prepared()
    client = replace(seen.certificates[CLIENT.certificate], names=())
    assert for_host(replace(seen, certificates={**seen.certificates, CLIENT.certificate: client}), WISH) == Changes(())
    client = replace(client, ends_at=NOW)
    changes = for_host(replace(seen, certificates={**seen.certificates, CLIENT.certificate: client}), WISH)
    assert paths(changes) == {CLIENT.certificate, CLIENT.key}
    assert not acts(changes, Restart)


def test_30_days_are_enough() -> None:
    seen = prepared()
    long = {path: replace(one, ends_at=NOW + 30 * DAY) for path, one in seen.certificates.items()}
    assert not for_host(replace(seen, certificates=long), WISH).changes


def test_another_authority_is_replaced_and_what_that_costs_is_said() -> None:
    changes = for_host(replace(prepared(), trusting=frozenset({Service.QEMU})), WISH)
    assert paths(changes) == {HOST_PLACES.authorities[Service.LIBVIRT]}
    assert "--ca-certificate" in changes.notes[0]


@pytest.mark.parametrize(
    ("key", "mode", "group", "wanted"),
    [
        (QEMU_SERVER.key, 0o600, "root", Access(QEMU_SERVER.key, "640", "root:libvirt-qemu")),
        (QEMU_CLIENT.key, 0o644, "libvirt-qemu", Access(QEMU_CLIENT.key, "640", "root:libvirt-qemu")),
        (SERVER.key, 0o644, "root", Access(SERVER.key, "600", "root:root")),
    ],
)
def test_a_key_that_qemu_cannot_read_or_that_everybody_can_is_mended(
    key: str, mode: int, group: str, wanted: Access
) -> None:
    seen = prepared()
    files = {**seen.files, key: File(key, mode, "root", group, key_digest="1")}
    assert [change.act for change in for_host(replace(seen, files=files), WISH).changes] == [wanted]


def test_whom_qemu_runs_as_is_what_its_configuration_says() -> None:
    files = {QEMU: File(QEMU, 0o600, "root", "root", 'user = "root"\ngroup = "root"\n')}
    changes = for_host(replace(BARE, files=files), WISH)
    modes = {change.act.mode for change in changes.changes if isinstance(change.act, Place) and "key.pem" in change.act.path}  # fmt: skip
    assert modes == {"600"}


def with_text(path: str, text: str, **more: object) -> MachineState:
    seen = replace(prepared(), **more)  # type: ignore[arg-type]
    return replace(seen, files={**seen.files, path: File(path, 0o600, "root", "root", text)})


def settings(seen: MachineState, wish: Wish = WISH) -> list[Setting]:
    return [change.act for change in for_host(seen, wish).changes if isinstance(change.act, Setting)]


def test_the_migration_address_is_set_unless_libvirt_would_say_it_anyhow() -> None:
    assert settings(with_text(QEMU, "")) == [Setting(QEMU, "migration_host", '"a-migration"')]
    assert settings(with_text(QEMU, 'migration_host="elsewhere"\n')) == [Setting(QEMU, "migration_host", '"a-migration"')]  # fmt: skip
    assert settings(with_text(QEMU, ""), replace(WISH, migration_address="a")) == []
    assert settings(with_text(QEMU, ""), replace(WISH, migration_address="")) == []


def test_a_migration_address_of_somebodys_own_stays_where_none_is_registered() -> None:
    seen, derived = with_text(QEMU, 'migration_host = "10.9.9.1"\n'), replace(WISH, migration_address_given=False)
    assert settings(seen, derived) == []
    assert "--migration-address 10.9.9.1" in " ".join(for_host(seen, derived).notes)
    assert settings(with_text(QEMU, ""), derived) == [Setting(QEMU, "migration_host", '"a-migration"')]


def test_a_shared_directory_that_is_commented_out_stays_out() -> None:
    text = 'migration_host = "a-migration"\nshared_filesystems = [\n  "/srv/one#1",\n#  "/srv/old",\n]\n'
    wish = replace(WISH, shared_directories=("/srv/new",))
    assert settings(with_text(QEMU, text), wish) == [
        Setting(QEMU, "shared_filesystems", '[ "/srv/one#1", "/srv/new" ]')
    ]


def test_a_setting_changed_means_a_restart() -> None:
    assert isinstance(for_host(with_text(QEMU, ""), WISH).changes[-1].act, Restart)


def test_certificates_of_migration_are_looked_for_where_they_are() -> None:
    text = 'migration_host = "a-migration"\n'
    own = Setting(QEMU, "migrate_tls_x509_cert_dir", '"/etc/pki/qemu"'), Setting(QEMU, "nbd_tls_x509_cert_dir", '"/etc/pki/qemu"')  # fmt: skip
    assert settings(with_text(QEMU, text + 'default_tls_x509_cert_dir = "/etc/pki/other"\n')) == list(own)
    assert settings(with_text(QEMU, text, special=frozenset({"migrate", "vnc"}))) == [own[0]]
    assert settings(with_text(QEMU, text + 'default_tls_x509_cert_dir = "/etc/pki/qemu/"\n')) == []


def test_a_shared_directory_is_added_to_those_there_are_where_libvirt_knows_the_setting() -> None:
    text = 'migration_host = "a-migration"\nshared_filesystems = [\n  "/srv/one", # mine\n  "/srv/two/"\n]\n'
    wish = replace(WISH, shared_directories=("/srv/two", "/srv/three"))
    assert settings(with_text(QEMU, text), wish) == [
        Setting(QEMU, "shared_filesystems", '[ "/srv/one", "/srv/two/", "/srv/three" ]')
    ]
    changes = for_host(with_text(QEMU, text, knows_shared_filesystems=False), wish)
    assert not changes.changes
    assert "before 11" in changes.notes[0]


def test_libvirtd_serves_the_certificates_that_are_installed() -> None:
    assert settings(with_text(LIBVIRTD, 'cert_file = "/etc/ssl/mine.pem"\n')) == [
        Setting(LIBVIRTD, "cert_file", f'"{SERVER.certificate}"')
    ]


def test_without_systemd_it_listens_by_its_arguments_now_and_at_its_next_start() -> None:
    seen = with_text(DEFAULTS, 'LIBVIRTD_ARGS="--verbose"\n', manager=Manager.ARGUMENTS, listens=False,
                     arguments="/usr/sbin/libvirtd --daemon")  # fmt: skip
    seen = replace(seen, files={**seen.files, LIBVIRTD: File(LIBVIRTD, 0o644, "root", "root", "listen_tls = 0\n")})
    assert settings(seen) == [
        Setting(LIBVIRTD, "listen_tls", "1"),
        Setting(DEFAULTS, "LIBVIRTD_ARGS", '"--verbose --listen"', "="),
    ]
    assert for_host(seen, WISH).changes[-1].act == Restart(Manager.ARGUMENTS, ("--listen",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"is_root": False}, "root"),
        ({"generator": ""}, "openssl"),
        ({"jobs": ("guest web: its job",)}, "guest web"),
        ({"manager": Manager.OTHER, "manager_detail": "libvirtd does not run"}, "does not run"),
    ],
)
def test_what_cannot_be_done_now_is_refused(change: dict[str, object], words: str) -> None:
    seen = replace(BARE, **change)  # type: ignore[arg-type]
    no = refusal(seen, for_host(seen, WISH))
    assert no is not None
    assert words in no[0] + no[1]


def test_a_job_is_no_hindrance_where_nothing_is_restarted() -> None:
    seen = replace(prepared(), jobs=("guest web: its job",))
    assert refusal(seen, for_host(seen, WISH)) is None


def test_ferrymans_own_machine_gets_a_client_certificate_only() -> None:
    places = controller_places("/home/one")
    changes = for_controller(MachineState("here", True, "here", owner="-"), WISH, places)
    assert paths(changes) == {f"/home/one/.pki/libvirt/{name}.pem" for name in ("cacert", "clientcert", "clientkey")}
    assert {change.act.owner for change in changes.changes if isinstance(change.act, Place)} == {"-"}
    assert {pair.end for pair in controller_places("").pairs} == {End.CLIENT}


def test_settings_are_read_as_libvirt_reads_them() -> None:
    text = '#key = "no"\n  key="one" # words\nkey = "two"\nlist = [ "a",\n "b" ]\n'
    assert value_of(text, "key").strip('"') == "one"
    assert listed(value_of(text, "list")) == ("a", "b")
    assert value_of(text, "ke") == ""


def test_commands_to_type_name_everything() -> None:
    files = {service: (f"/state/{service}-ca.pem", f"/state/{service}-ca-key.pem") for service in Service}
    text = by_hand.commands("a", replace(WISH, shared_directories=("/srv/shared",)), files)
    assert "subjectAltName=DNS:a,DNS:a-migration,IP:10.0.0.1" in text
    for path in ("/state/qemu-ca-key.pem", "/etc/pki/CA/cacert.pem", "migration_host", "libvirtd-tls.socket", "/srv/shared"):  # fmt: skip
        assert path in text


def test_names_and_paths_are_words_to_the_shell_that_reads_the_commands(tmp_path: Path) -> None:
    odd = '/srv/it\'s $(touch made) & "more"'
    wish = replace(WISH, names=("a", "$(touch made)"), migration_address="b';touch made;'", shared_directories=(odd,))
    lines = by_hand.commands("a", wish, {}).splitlines()
    script = [
        line
        for line in lines
        if "keyUsage" in line or "subjectAltName" in line or line.endswith(">>/etc/libvirt/qemu.conf")
    ]
    text = "\n".join(script).replace("/etc/libvirt/qemu.conf", "qemu.conf")
    subprocess.run(["sh", "-euc", text], cwd=tmp_path, check=True)
    assert (tmp_path / "extensions").read_text().splitlines()[-1] == "subjectAltName=DNS:a,DNS:$(touch made)"
    assert (tmp_path / "qemu.conf").read_text().splitlines() == [
        "migration_host = \"b';touch made;'\"", f'shared_filesystems = [ "{odd}" ]',
    ]  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"extensions", "qemu.conf"}
