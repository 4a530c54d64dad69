"""The same preparation as commands to type, for a host that ferryman does not reach as root."""

import shlex
from collections.abc import Mapping
from ipaddress import ip_address

from ferryman.model.preparation import Service, Wish

_OLD_STATE = "etc/pki etc/libvirt/qemu.conf etc/libvirt/libvirtd.conf etc/default/libvirtd"


def commands(host: str, wish: Wish, authorities: Mapping[Service, tuple[str, str]]) -> str:
    """Three blocks: at the host, at ferryman's machine, at the host again. `authorities`: certificate and key, as files."""
    common = shlex.quote(f"/CN={wish.names[0][:64]}")
    make = [f"openssl req -new -newkey rsa:3072 -nodes -subj {common} -keyout {service}.key -out {service}.csr" for service in Service]  # fmt: skip
    sign = []
    for service, (certificate, key) in authorities.items():
        sign += [
            f"openssl x509 -req -in {service}.csr -CA {shlex.quote(certificate)} -CAkey {shlex.quote(key)} "
            f'-set_serial "0x$(openssl rand -hex 16)" -days 730 -extfile extensions -out {service}.pem',
            f"cp {shlex.quote(certificate)} {service}-ca.pem",
        ]
    return "\n".join([
        f"# 1. At {host}, as root: private keys, which stay there, and requests to sign.",
        "mkdir -p -m 700 /root/ferryman && cd /root/ferryman && umask 077",
        *make,
        "",
        "# 2. Bring libvirt.csr and qemu.csr into a directory of this machine, and sign them there:",
        f"printf '%s\\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature,keyEncipherment \\\n"
        f"    extendedKeyUsage=serverAuth,clientAuth {shlex.quote(f'subjectAltName={_alternatives(wish)}')} >extensions",
        *sign,
        "",
        f"# 3. Take libvirt.pem, qemu.pem, libvirt-ca.pem and qemu-ca.pem to /root/ferryman at {host}; there, as root:",
        "cd /root/ferryman && umask 022",
        f'tar -cf "before-$(date +%F-%H%M%S).tar" -C / $(cd / && ls -d {_OLD_STATE} 2>/dev/null)',
        "mkdir -p /etc/pki/CA /etc/pki/qemu /etc/pki/libvirt && mkdir -p -m 700 /etc/pki/libvirt/private",
        "group=$(getent group libvirt-qemu qemu | head -n 1 | cut -d: -f1)",
        "install -m 644 libvirt-ca.pem /etc/pki/CA/cacert.pem",
        "install -m 644 qemu-ca.pem /etc/pki/qemu/ca-cert.pem",
        "for end in server client; do",
        '    install -m 644 libvirt.pem "/etc/pki/libvirt/${end}cert.pem"',
        '    install -m 600 libvirt.key "/etc/pki/libvirt/private/${end}key.pem"',
        '    install -m 644 qemu.pem "/etc/pki/qemu/$end-cert.pem"',
        '    install -m 640 -g "${group:-root}" qemu.key "/etc/pki/qemu/$end-key.pem"',
        "done",
        *_settings(wish),
        "# no migration may run now; guests go on",
        "if [ -d /run/systemd/system ]; then",
        "    systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket",
        "    systemctl enable libvirtd-tls.socket",
        "    systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tls.socket libvirtd.service",
        "else",
        "    sed -i '/^LIBVIRTD_ARGS=/d' /etc/default/libvirtd && echo 'LIBVIRTD_ARGS=\"--listen\"' >>/etc/default/libvirtd",
        "    pid=$(cat /run/libvirtd.pid) && kill \"$pid\" && while [ -e \"/proc/$pid\" ]; do sleep 0.2; done",
        "    /usr/sbin/libvirtd --daemon --listen",
        "fi",
        "rm -f /root/ferryman/*.key",
    ])  # fmt: skip


def _alternatives(wish: Wish) -> str:
    return ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in wish.names)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _settings(wish: Wish) -> list[str]:
    lines = []
    if wish.migration_address:
        lines += [
            "sed -i '/^[[:space:]]*migration_host[[:space:]]*=/d' /etc/libvirt/qemu.conf",
            _appended(f'migration_host = "{wish.migration_address}"'),
        ]
    if wish.shared_directories:
        paths = ", ".join(f'"{path}"' for path in wish.shared_directories)
        lines += [
            "# only libvirt 11 and later know this setting; directories that were listed before belong into the new list too",
            "sed -i '/^[[:space:]]*shared_filesystems[[:space:]]*=/,/\\]/d' /etc/libvirt/qemu.conf",
            _appended(f"shared_filesystems = [ {paths} ]"),
        ]
    return lines


def _appended(setting: str) -> str:
    return f"printf '%s\\n' {shlex.quote(setting)} >>/etc/libvirt/qemu.conf"
