#!/bin/sh
# Makes .venv with the hashed requirements of a lock file and the project itself.
#   setup.sh PYTHON LOCK
set -eu
python=$1
lock=$2

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "no $python here; install Python 3.11 to 3.13"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
    fail "$("$python" --version) is not 3.11 to 3.13; name another one: make PYTHON=python3.12 ..."

version='import sys; print(sys.version_info[:2])'
if [ "$(.venv/bin/python -c "$version" 2>/dev/null)" != "$("$python" -c "$version")" ]; then
    # Debian and Ubuntu keep what makes an environment in a package of its own.
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        echo "Python lacks ensurepip: installing $package" >&2
        if [ "$(id -u)" = 0 ]; then
            apt-get update -q && apt-get install -qy "$package"
        elif command -v sudo >/dev/null; then
            sudo apt-get update -q && sudo apt-get install -qy "$package"
        else
            fail "install the package $package as root, then call make again"
        fi
    fi
    echo "Making .venv" >&2
    "$python" -m venv --clear .venv
fi

echo "Installing $lock" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
    --no-build-isolation --editable .
