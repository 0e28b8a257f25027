#!/usr/bin/env bash
# Installs the Autobahn testsuite into a virtual environment of its own, once.
#
# The environment is $AUTOBAHN_VENV, or else autobahn-testsuite-venv in the
# user's cache. Exit code: 0 installed, 1 an installation failed, 2 no Python 2.7.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${AUTOBAHN_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/autobahn-testsuite-venv}
version=$(sed -n 's/^autobahntestsuite==//p' "$here/requirements.txt")

installed() { "$venv/bin/wstest" --autobahnversion 2>/dev/null | grep -qxF "AutobahnTestSuite $version"; }

# Prints the path of the first CPython 2.7 found. A pyenv shim runs only when its
# version is selected, so candidates are tried, and asked where they really are.
python2() {
    local candidate where='import sys; sys.version_info[:2] == (2, 7) or sys.exit(1); print(sys.executable)'
    for candidate in "${PYTHON2:-}" python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
        "$candidate" -c "$where" 2>/dev/null && return
    done
    return 1
}

apt_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@")
    "${install[@]}" >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}"; } >/dev/null 2>&1
}

if installed; then
    echo "Autobahn testsuite $version is in $venv"
    exit
fi
if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
    echo "$venv exists and is no virtual environment: move it away or set AUTOBAHN_VENV" >&2
    exit 1
fi

# Some of the suite's packages have no binary for 2.7: building them takes a C
# compiler and the headers.
python=$(python2) || { apt_install python2.7 python2.7-dev gcc libc6-dev && python=$(python2); } || {
    cat >&2 <<'TEXT'
The Autobahn testsuite needs CPython 2.7 and none was found. Looked for: $PYTHON2,
python2.7 on PATH, pyenv's versions, and (as root) the package python2.7 of apt.
To provide one, run "pyenv install 2.7.18", or set PYTHON2 to the path of another.
TEXT
    exit 2
}

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONWARNINGS=ignore
python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip || {
    echo "python3 has no pip: install one" >&2
    exit 1
}
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
# The last virtualenv that makes environments for 2.7; it brings a pip for them.
python3 -m pip install --quiet --target "$tool" 'virtualenv==20.21.1'
PYTHONPATH=$tool python3 -m virtualenv --quiet --clear --python "$python" "$venv"
"$venv/bin/pip" install --quiet --no-deps --requirement "$here/requirements.txt" \
    2> >(grep -v '^DEPRECATION' >&2)
installed || { echo "wstest does not run: $venv/bin/wstest --autobahnversion" >&2; exit 1; }
echo "installed Autobahn testsuite $version in $venv"
