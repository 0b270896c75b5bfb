#!/bin/sh
# make_venv.sh DIRECTORY: a virtual environment made by $PYTHON (3.11 or later), left alone when it is there.
set -eu
venv=$1
python=${PYTHON:-python3}

fail() {
  echo "isthmus: $*" >&2
  exit 1
}

[ -x "$venv/bin/python" ] && [ -x "$venv/bin/pip" ] && exit 0
command -v "$python" >/dev/null || fail "there is no $python here: install Python 3.11 or later, or name it with PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Python 3.11 or later is needed, and $("$python" --version) is older: name another with PYTHON=..."
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  # Debian keeps these two modules in a package of their own.
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv >/dev/null ||
      fail "python3-venv could not be installed"
  else
    fail "$python cannot make virtual environments: install the package python3-venv"
  fi
fi
exec "$python" -m venv "$venv"
