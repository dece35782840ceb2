#!/usr/bin/env bash
# Resolves the locks in requirements/ again. Pins stay where they are unless UPGRADE=1 is given or pyproject.toml
# no longer allows them. One lock serves x86_64 and aarch64, Python 3.11 and later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# uv resolves for machines other than this one, which pip cannot; it lives apart so that nobody else has to install it.
if [[ ! -x .venv-lock/bin/uv ]]; then
    "${PYTHON:-python3}" -m venv .venv-lock
    .venv-lock/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --only-binary=:all: -r requirements/locker.lock
fi

resolve() {
    local lock=$1
    shift
    printf 'Resolving %s …\n' "$lock"
    .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --custom-compile-command 'make lock' ${UPGRADE:+--upgrade} --output-file "$lock" "$@"
}

resolve requirements/dev.lock pyproject.toml --extra webcam --extra pkcs11 --extra encryption --extra dev
# The camera runs the very versions that were tested.
resolve requirements/run.lock pyproject.toml --constraint requirements/dev.lock
resolve requirements/footage.lock requirements/footage.in --no-deps
resolve requirements/fuzz.lock requirements/fuzz.in
# What Raspberry Pi OS has and Debian does not, for the virtual device.
resolve requirements/rig.lock requirements/rig.in --no-deps
resolve requirements/locker.lock requirements/locker.in
