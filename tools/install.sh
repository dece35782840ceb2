#!/usr/bin/env bash
# Installs the agent on a camera, or takes it away again: `make install`, `make uninstall`. See docs/operations.md.
#   DESTDIR  stands before every path, to build an image or a package; then nothing of this machine is touched
#   PREFIX   where the program goes (/opt/bodycam)
#   EXTRAS   further locked packages: encryption, pkcs11, webcam (all of them unless said; none)
#   PACKAGES no: leave out what comes from the package index, to look at everything else
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly destdir=${DESTDIR:-} prefix=${PREFIX:-/opt/bodycam} python=${PYTHON:-/usr/bin/python3}
readonly system=/usr/local/lib etc=/etc/bodycam
readonly program=$destdir$prefix
# Built beside the old one and then put in its place, so that an install that fails leaves a camera that works.
readonly built=$program.new
readonly shipped=$program/share/configuration.sha256
readonly units=(bodycam.service bodycam-fault.service bodycam-offload.service bodycam-offload.timer bodycam-timestamp.service
    bodycam-scrub.service bodycam-scrub.timer)

stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

[[ $prefix == /?* && $prefix != */ && $prefix != *[[:space:]]* ]] ||
    stop "PREFIX must be an absolute path without spaces and without a slash at its end, and is '$prefix'."
[[ $prefix == /*/* ]] || stop "PREFIX must be a folder of its own, such as /opt/bodycam, and is '$prefix'."
[[ -n $destdir || $(id -u) -eq 0 ]] ||
    stop "Only root can install into the system: use sudo, or DESTDIR=FOLDER to look at what would be installed."

# Everything outside PREFIX: mode, source, target. The configuration has rules of its own, below.
system_files() {
    local unit
    for unit in "${units[@]}"; do echo "644 systemd/$unit $system/systemd/system/$unit"; done
    echo "644 systemd/sysusers.conf $system/sysusers.d/bodycam.conf"
    echo "644 systemd/tmpfiles.conf $system/tmpfiles.d/bodycam.conf"
    echo "644 systemd/tmpfiles-dma-heap.conf $system/tmpfiles.d/bodycam-dma-heap.conf"
    echo "644 systemd/modules-load.conf $system/modules-load.d/bodycam.conf"
    # After the distribution's own rules, which give groups as well; before 73, where uaccess is handled.
    echo "644 systemd/udev.rules $system/udev/rules.d/72-bodycam.rules"
}

put() {
    local mode=$1 source=$2 target=$destdir$3
    install -d "$(dirname "$target")"
    sed "s,@PREFIX@,$prefix,g" "$source" >"$target.new"
    chmod "$mode" "$target.new"
    mv -f "$target.new" "$target"
}

# An edited file is never overwritten: the new one is put beside it.
put_configuration() {
    local source=$1 target=$2 old
    install -d "$(dirname "$destdir$target")"
    if [[ -e $destdir$target ]] && ! cmp -s "$source" "$destdir$target"; then
        old=$(sed -n "s,^\([0-9a-f]*\)  $target\$,\1,p" "$shipped" 2>/dev/null || true)
        if [[ $old != $(sha256sum <"$destdir$target" | cut -d' ' -f1) ]]; then
            install -m 644 "$source" "$destdir$target.new"
            echo "$target was changed and stays as it is; this version's is in $target.new."
            return
        fi
    fi
    install -m 644 "$source" "$destdir$target"
}

configuration_files() {
    local profile
    echo "config/bodycam.toml $etc/bodycam.toml"
    for profile in config/profiles/*.toml; do echo "$profile $etc/profiles/$(basename "$profile")"; done
}

# picamera2 exists only as a system package, and its neighbours are compiled against the system's numpy, beside which
# another one in the environment crashes them. So with picamera2 the environment sees the system's packages and brings no
# numpy; on Python 3.13 python3-lgpio comes from there, too.
sees_system() {
    "$python" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("picamera2"))'
}

locked_packages() {
    local with_numpy=$1
    awk -v with_numpy="$with_numpy" '
        /^[A-Za-z0-9]/ { keep = with_numpy == "yes" || $0 !~ /^numpy==/ }
        /^#/ { keep = 0 }
        keep' requirements/run.lock
    # The extras by their pins in the lock that was tested.
    awk -v extras="${EXTRAS:-encryption pkcs11 webcam}" '
        BEGIN {
            if (extras ~ /encryption/) wanted["pyrage"]
            if (extras ~ /pkcs11/) { wanted["python-pkcs11"]; wanted["asn1crypto"] }
            if (extras ~ /webcam/) wanted["opencv-python-headless"]
        }
        /^[A-Za-z0-9]/ { split($0, name, "=="); keep = name[1] in wanted }
        /^#/ { keep = 0 }
        keep' requirements/dev.lock
}

make_environment() {
    local options=() numpy=yes packages
    if sees_system; then
        options=(--system-site-packages)
        numpy=no
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        stop "$python cannot make virtual environments. Install the package python3-venv, then try again."
    rm -rf "$built"
    [[ ${PACKAGES:-yes} != no ]] || options+=(--without-pip)
    "$python" -m venv "${options[@]}" "$built"
    if [[ ${PACKAGES:-yes} != no ]]; then
        packages=$(mktemp)
        locked_packages "$numpy" >"$packages"
        # --no-deps: the lock is complete, and what the system brings is not to be brought again.
        "$built/bin/python" -m pip --disable-pip-version-check --no-input --quiet install \
            --require-hashes --only-binary=:all: --no-compile --no-deps -r "$packages"
        rm -f "$packages"
        # What is not there need not be kept up to date.
        "$built/bin/python" -m pip --disable-pip-version-check --quiet uninstall --yes pip 2>/dev/null
    fi
    rm -f "$built"/bin/pip* "$built"/bin/[Aa]ctivate*
}

# The agent is plain Python: it is copied as it lies here, so that a device needs no build tools.
put_agent() {
    local packages room
    packages=$(echo "$built"/lib/python3*/site-packages)
    for room in agent firmware_bridge; do
        [[ -d $room ]] || continue
        cp -R --no-preserve=mode,ownership "$room" "$packages/"
        find "$packages/$room" -name __pycache__ -prune -exec rm -rf {} +
    done
    # -s: a user's own packages are not the camera's.
    printf '#!%s/bin/python -s\nfrom agent.cli.main import main\n\nmain()\n' "$prefix" >"$built/bin/bodycam"
    chmod 755 "$built/bin/bodycam"
    # A script names its interpreter by its whole path, which is not where this was built.
    { grep -rlI --null "^#!$built/" "$built/bin" || true; } | xargs -0 -r sed -i "1s,^#!$built/,#!$prefix/,"
    sed -i "s,$built,$prefix,g" "$built/pyvenv.cfg"
    # Compiled now: the service may not write here. By hash, so that a clock that is wrong does not count. Some packages
    # bring files for other versions of Python, which do not compile.
    "$built/bin/python" -m compileall -q -f -s "$built" -p "$prefix" --invalidation-mode unchecked-hash "$packages" \
        >/dev/null || true
}

put_documents() {
    local page
    install -d "$built/share/doc"
    for page in LICENSE README.md docs/*; do install -m 644 "$page" "$built/share/doc/"; done
}

install_all() {
    local mode source target
    [[ -n $destdir ]] || ! systemctl --quiet is-active bodycam.service 2>/dev/null ||
        stop "The camera is running. Stop it first, which seals what it records: systemctl stop bodycam.service"
    umask 022
    make_environment
    put_agent
    put_documents
    install -d "$built/lib/bodycam" "$destdir/usr/local/bin"
    install -m 755 systemd/fault-light "$built/lib/bodycam/fault-light"
    ln -sfn "$prefix/bin/bodycam" "$destdir/usr/local/bin/bodycam"
    while read -r mode source target; do put "$mode" "$source" "$target"; done < <(system_files)
    while read -r source target; do put_configuration "$source" "$target"; done < <(configuration_files)
    while read -r source target; do
        echo "$(sha256sum <"$source" | cut -d' ' -f1)  $target"
    done < <(configuration_files) >"$built/share/configuration.sha256"
    [[ ! -e $program ]] || mv "$program" "$program.old"
    mv "$built" "$program"
    rm -rf "$program.old"
    [[ -n $destdir ]] && return
    if [[ -d /run/systemd/system ]]; then
        systemd-sysusers
        systemd-tmpfiles --create "$system/tmpfiles.d/bodycam.conf" "$system/tmpfiles.d/bodycam-dma-heap.conf"
        systemctl daemon-reload
        systemctl restart systemd-modules-load.service || true
        udevadm control --reload && udevadm trigger --action=change
    fi
    echo "Installed. What comes next is in $prefix/share/doc/operations.md, \"Installing on a device\"."
}

uninstall_all() {
    local mode source target
    if [[ -z $destdir && -d /run/systemd/system ]]; then
        # The agent first, then the fault light, which its end starts.
        systemctl disable --now "${units[@]}" 2>/dev/null || true
        systemctl stop bodycam-fault.service 2>/dev/null || true
    fi
    while read -r mode source target; do rm -f "$destdir$target"; done < <(system_files)
    rm -f "$destdir/usr/local/bin/bodycam"
    # Only what is plainly ours is removed as a tree.
    [[ ! -e $program/bin/bodycam ]] || rm -rf "$program"
    while read -r mode source target; do
        rmdir --ignore-fail-on-non-empty -p "$(dirname "$destdir$target")" 2>/dev/null || true
    done < <(system_files)
    if [[ -z $destdir && -d /run/systemd/system ]]; then
        systemctl daemon-reload
        udevadm control --reload
    fi
    echo "Removed. Vault, key and configuration are still there: /var/lib/bodycam, $etc; users and groups, too."
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) stop "Say install or uninstall." ;;
esac
