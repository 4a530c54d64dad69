# What `ferryman host prepare` runs at a machine: functions; the caller adds the lines that call them. Plain sh, root, coreutils.
# $base/STAMP holds one preparation: what it made (new/), what it replaced (kept/), its state, its log, and its journal,
# in which a line is written before each act. So the machine itself can put everything back, whoever goes away meanwhile.
set -eu
umask 022
LC_ALL=C
PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
export LC_ALL PATH
TAB=$(printf '\t')
ITSELF="qemu:///system"

say() { # WORD VALUE…: one line of an answer
    printf '%s' "$1"
    shift
    [ $# -eq 0 ] || printf '\t%s' "$@"
    printf '\n'
}

# ---- looking ----

known() { # FILE…: its mode, owner and content; of a private key only the digest of its public half
    for path in "$@"; do
        [ -e "$path" ] || continue
        state=$(stat -L -c "%a$TAB%U$TAB%G" "$path")
        case $path in
            *key.pem) say key "$path" "$state" "$(public_half "$path" | sha256sum | cut -d' ' -f1)" ;;
            *) say file "$path" "$state" "$(base64 -w0 <"$path")" ;;
        esac
    done
}

public_half() { # KEY: its public key, DER
    if command -v openssl >/dev/null; then
        openssl pkey -in "$1" -pubout -outform DER 2>/dev/null || true
    elif command -v certtool >/dev/null; then
        certtool --pubkey-info --load-privkey "$1" --no-text 2>/dev/null | grep -v '^-----' | base64 -d 2>/dev/null || true
    fi
}

daemon_pid() { # without a program for each process that runs here: a host may have thousands
    for entry in /proc/[0-9]*; do
        { read -r name <"$entry/comm"; } 2>/dev/null && [ "$name" = libvirtd ] || continue
        case $(cut -d' ' -f3 "$entry/stat" 2>/dev/null) in Z) ;; *) echo "${entry#/proc/}" && return ;; esac
    done
}

daemon() { # how libvirtd is started here, and with which arguments
    pid=$(daemon_pid)
    if [ -d /run/systemd/system ]; then
        if ! systemctl cat libvirtd.service >/dev/null 2>&1; then say manager other "its systemd has no libvirtd.service"
        elif ! systemctl cat libvirtd-tls.socket >/dev/null 2>&1; then say manager service
        else case $(systemctl is-enabled libvirtd.socket 2>&1) in masked*) say manager service ;; *) say manager sockets ;; esac
        fi
    elif [ -z "$pid" ]; then say manager other "it has no systemd, and libvirtd does not run"
    elif tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qx -e --daemon -e -d; then say manager arguments
    else say manager other "it has no systemd, and libvirtd was not started as a daemon"
    fi
    [ -z "$pid" ] || say arguments "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
}

listens() { # PORT: whether libvirtd listens there (or systemd for it), and nobody else: of two families it is content with one
    inodes=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf '%04X' "$1")" \
        '$4 == "0A" && substr($2, index($2, ":") + 1) == port { print $10 }')
    [ -n "$inodes" ] || return 1
    theirs=$(for pid in $(daemon_pid) $([ ! -d /run/systemd/system ] || echo 1); do ls -l "/proc/$pid/fd" 2>/dev/null; done)
    for inode in $inodes; do
        case $theirs in *"socket:[$inode]"*) ;; *) return 1 ;; esac
    done
}

busy() { # one line for each guest that has a job: a restart of libvirtd would break it
    command -v virsh >/dev/null || return 0
    for guest in $(timeout 10 virsh -q -c $ITSELF list --uuid 2>/dev/null); do
        state=$(timeout 5 virsh -c $ITSELF domstate --reason "$guest" 2>&1 | head -n 1)
        case $state in *migrating* | *post-copy*) say job "$guest" "$state"; continue ;; esac
        job=$(timeout 5 virsh -c $ITSELF domjobinfo "$guest" 2>/dev/null | sed -n 's/^Job type: *//p')
        case ${job:-unknown} in None*) ;; *) say job "$guest" "its job: ${job:-libvirt does not say}" ;; esac
    done
}

guests() { # the QEMU of each running guest: name, pid, start time
    for file in /run/libvirt/qemu/*.pid; do
        pid=$(cat "$file" 2>/dev/null) && [ -r "/proc/$pid/stat" ] || continue
        case $(cat "/proc/$pid/comm") in libvirtd | virtqemud) continue ;; esac # driver.pid is libvirtd's own
        say guest "$(basename "$file" .pid)" "$pid" "$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)"
    done
}

survey() { # PORT FILE… -- DIRECTORY…: all that is decided by
    say user "$(id -u)"
    say hostname "$(uname -n)"
    say fqdn "$(timeout 3 hostname -f 2>/dev/null || true)"
    for program in openssl certtool; do command -v $program >/dev/null && say generator $program && break; done
    for name in libvirt-qemu qemu; do
        getent passwd $name >/dev/null 2>&1 && say qemu $name "$(getent group $name | cut -d: -f1)" && break
    done
    [ "$full" = no ] || daemon
    ! listens "$1" || say listens
    shift
    while [ "$1" != -- ]; do known "$1"; shift; done
    shift
    for directory in "$@"; do [ -d "$directory" ] || say absent "$directory"; done
    for service in vnc spice nbd migrate backup; do [ ! -d /etc/pki/libvirt-$service ] || say special $service; done
    ! cat /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so /usr/lib*/libvirt/connection-driver/libvirt_driver_qemu.so \
        2>/dev/null | grep -q shared_filesystems || say knows shared_filesystems
    if [ "$full" = yes ]; then guests; busy; fi
    for state in "$base"/*/state; do
        [ -r "$state" ] && say preparation "$(basename "$(dirname "$state")")" "$(cat "$state")"
    done
    say end
}

# ---- acting ----

open_directory() { # STAMP
    dir=$base/$1
    mkdir -p "$base"
    chmod 700 "$base"
    exec 9>"$base/lock"
    if command -v flock >/dev/null && ! flock -n 9; then say result refused "another preparation is under way there"; exit 0; fi
}

make_request() { # SERVICE NAME: a new private key, that never leaves this machine, and the request to sign it
    mkdir -p "$dir/new"
    chmod 700 "$dir" "$dir/new"
    echo staged >"$dir/state"
    (
        umask 077
        if command -v openssl >/dev/null; then
            openssl req -new -newkey rsa:3072 -nodes -subj "/CN=$2" -keyout "$dir/new/$1.key" -out "$dir/new/$1.csr" 2>/dev/null
        else
            printf 'cn = "%s"\n' "$2" >"$dir/new/$1.template"
            certtool --generate-privkey --key-type rsa --bits 3072 --no-text --outfile "$dir/new/$1.key" 2>/dev/null
            certtool --generate-request --load-privkey "$dir/new/$1.key" --template "$dir/new/$1.template" --no-text \
                --outfile "$dir/new/$1.csr" 2>/dev/null
        fi
    )
    say request "$1" "$(base64 -w0 <"$dir/new/$1.csr")"
}

take_files() { # names and contents from standard input, one a line, into new/
    mkdir -p "$dir/new"
    chmod 700 "$dir" "$dir/new"
    while IFS=$TAB read -r name content; do (umask 077 && printf '%s' "$content" | base64 -d >"$dir/new/$name"); done
}

note() { printf '%s\t%s\n' "$1" "${2:-}" >>"$dir/journal"; }

keep() { # PATH: what is there now is what undo puts back
    ! grep -qxF -e "file$TAB$1" -e "new$TAB$1" "$dir/journal" 2>/dev/null || return 0
    if [ -e "$1" ] || [ -L "$1" ]; then
        mkdir -p "$dir/kept$(dirname "$1")"
        cp -a -- "$1" "$dir/kept$1"
        note file "$1"
    else
        parents "$1"
        note new "$1"
    fi
}

parents() { # PATH: the directories above it, those that are missing
    above=$(dirname "$1")
    [ ! -d "$above" ] || return 0
    parents "$above"
    above=$(dirname "$1")
    note directory "$above"
    case $above in */private) mkdir -m 700 "$above" ;; *) mkdir -m 755 "$above" ;; esac
}

place() { # NAME PATH MODE OWNER: a file of new/, put there as a whole
    keep "$2"
    cp -- "$dir/new/$1" "$2.ferryman"
    [ "$4" = - ] || chown "$4" "$2.ferryman"
    chmod "$3" "$2.ferryman"
    mv -f -- "$2.ferryman" "$2"
}

itself() { # PATH: where a link to a file leads; keeping the link alone would not keep what is written through it
    if [ -L "$1" ]; then readlink -f -- "$1"; else printf '%s\n' "$1"; fi
}

access() { # PATH MODE OWNER
    set -- "$(itself "$1")" "$2" "$3"
    keep "$1"
    [ "$3" = - ] || chown "$3" "$1"
    chmod "$2" "$1"
}

setting() { # FILE KEY SEPARATOR VALUE: in place of the first that is in force, else at the end; everything else stays
    set -- "$(itself "$1")" "$2" "$3" "$4"
    keep "$1"
    [ -e "$1" ] || (umask 077 && : >"$1")
    cp -a -- "$1" "$1.ferryman"
    setting_key=$2 setting_line=$2$3$4 awk '
        BEGIN { key = ENVIRON["setting_key"]; line = ENVIRON["setting_line"] }
        inside { if ($0 ~ /\]/) inside = 0; next }
        $0 ~ "^[ \t]*" key "[ \t]*=" { if (!done) print line; done = 1; if ($0 ~ /\[/ && $0 !~ /\]/) inside = 1; next }
        { print }
        END { if (!done) print line }' "$1" >"$1.ferryman"
    mv -f -- "$1.ferryman" "$1"
}

restart() { # MANAGER PORT MORE…: libvirtd only; guests are processes of their own
    manager=$1 port=$2
    shift 2
    [ -z "$(busy)" ] || { echo "a job has begun meanwhile: $(busy | head -n 1)"; return 1; }
    if [ "$manager" = arguments ]; then tr '\0' '\n' <"/proc/$(daemon_pid)/cmdline" >"$dir/arguments"; fi
    note restart "$manager"
    case $manager in
        arguments) start_again "$@" ;;
        *) restart_service ;;
    esac
    answers
    tries=0
    until listens "$port"; do
        tries=$((tries + 1))
        [ $tries -lt 10 ] || { echo "libvirtd answers, and does not listen on port $port, or somebody else does (ss -ltnp)"; return 1; }
        sleep 0.2
    done
}

listen() { # the TLS socket starts only while neither the service nor its other sockets run
    [ -z "$(busy)" ] || { echo "a job has begun meanwhile: $(busy | head -n 1)"; return 1; }
    case $(systemctl is-enabled libvirtd-tls.socket 2>&1) in enabled*) ;; *) note socket libvirtd-tls.socket ;; esac
    for socket in libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket; do
        ! systemctl --quiet is-active $socket || echo $socket
    done >"$dir/sockets"
    note restart sockets
    # shellcheck disable=SC2046
    systemctl stop libvirtd.service $(cat "$dir/sockets")
    systemctl enable libvirtd-tls.socket
    # shellcheck disable=SC2046
    systemctl start $(cat "$dir/sockets") libvirtd-tls.socket ||
        { echo "systemd does not get port 16514 for libvirtd-tls.socket; perhaps somebody else has it (ss -ltnp)"; return 1; }
}

restart_service() { # with the sockets that it had. A start that failed leaves all of them failed, and counted as too many
    systemctl reset-failed libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tls.socket 2>/dev/null || true
    if [ -s "$dir/sockets" ]; then
        # shellcheck disable=SC2046
        systemctl start $(cat "$dir/sockets")
    fi
    systemctl restart libvirtd.service
}

start_again() { # MORE…: the daemon with the arguments it had, and more
    pid=$(daemon_pid)
    if [ -n "$pid" ]; then
        kill "$pid"
        tries=0
        while [ -n "$(daemon_pid)" ]; do
            tries=$((tries + 1))
            [ $tries -lt 300 ] || { echo "libvirtd does not end"; return 1; }
            sleep 0.1
        done
    fi
    more=$*
    set --
    while IFS= read -r word; do set -- "$@" "$word"; done <"$dir/arguments"
    # shellcheck disable=SC2086
    "$@" $more </dev/null 9>&-
}

answers() {
    tries=0
    until timeout 5 virsh -c $ITSELF version >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || { echo "libvirtd does not answer; its log: journalctl -u libvirtd, or /var/log/libvirt"; return 1; }
        sleep 0.25
    done
}

undo() { # files first, last first; then the daemon as it was. Returns 1 when something could not be put back
    wrong=0
    [ -e "$dir/journal" ] || { echo undone >"$dir/state"; return 0; }
    tac "$dir/journal" >"$dir/journal.reversed"
    while IFS=$TAB read -r act path; do
        case $act in
            file) rm -f -- "$path.ferryman"; cp -a -- "$dir/kept$path" "$path.ferryman" && mv -f -- "$path.ferryman" "$path" || wrong=1 ;;
            new) rm -f -- "$path" "$path.ferryman" || wrong=1 ;;
            directory) rmdir -- "$path" 2>/dev/null || true ;;
            socket) systemctl disable --now "$path" || wrong=1 ;;
        esac
    done <"$dir/journal.reversed"
    manager=$(sed -n "s/^restart$TAB//p" "$dir/journal" | head -n 1)
    case $manager in
        '') ;;
        arguments) start_again || wrong=1 ;;
        *) restart_service || wrong=1 ;;
    esac
    [ -z "$manager" ] || answers || wrong=1
    [ $wrong -ne 0 ] || echo "${1:-undone}" >"$dir/state"
    return $wrong
}

same_guests() { # each QEMU that ran before runs still, as the same process
    guests >"$dir/guests-after"
    while IFS= read -r line; do
        grep -qxF -- "$line" "$dir/guests-after" || say ended "$(printf '%s' "$line" | cut -f2)" "$(printf '%s' "$line" | cut -f3)"
    done <"$dir/guests-before"
    say untouched "$(sort "$dir/guests-before" "$dir/guests-after" | uniq -d | wc -l)"
}

carry_out() { # the caller's function `acts`, all or nothing
    guests >"$dir/guests-before"
    echo begun >"$dir/state"
    trap 'undo >>"$dir/log" 2>&1; exit 1' HUP INT TERM
    set +e
    (set -e; acts) >"$dir/log" 2>&1
    code=$?
    if [ $code -eq 0 ]; then
        echo "done" >"$dir/state"
        rm -rf "$dir/new"
        same_guests
        say result done
    else
        reason=$(grep -v '^$' "$dir/log" | tail -n 1)
        if undo >>"$dir/log" 2>&1; then
            rm -rf "$dir/new"
            same_guests
            say result undone "$reason"
        else
            say result stuck "$reason; and $(tail -n 1 "$dir/log")"
        fi
    fi
}

put_back() { # STATE: undo at the operator's word, or after a preparation that broke off; what is there now is kept beside
    guests >"$dir/guests-before"
    if [ -n "$(busy)" ]; then say result refused "$(busy | head -n 1 | cut -f3)"; exit 0; fi
    set +e
    if [ "$1" = reverted ] && [ -e "$dir/journal" ]; then
        sed -n "s/^file$TAB//p; s/^new$TAB//p" "$dir/journal" | while IFS= read -r path; do
            [ ! -e "$path" ] || { mkdir -p "$dir/before-revert$(dirname "$path")" && cp -a -- "$path" "$dir/before-revert$path"; }
        done
    fi
    if [ "$(sed -n "s/^restart$TAB//p" "$dir/journal" 2>/dev/null | head -n 1)" = arguments ] && [ ! -s "$dir/arguments" ]; then
        say result stuck "the arguments of libvirtd were not kept"
    elif undo "$1" >>"$dir/log" 2>&1; then
        rm -rf "$dir/new"
        same_guests
        say result undone ""
    else
        say result stuck "$(tail -n 1 "$dir/log")"
    fi
}
