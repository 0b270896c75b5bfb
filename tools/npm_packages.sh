#!/bin/sh
# npm_packages.sh FOLDER: installs what the folder's package-lock.json names, hashes checked, when that has changed since
# the last time. Without npm it says so and goes on: the tests that need these packages are skipped and say so.
set -eu
cd "$1"
stamp=node_modules/.installed
[ -e "$stamp" ] && [ ! package-lock.json -nt "$stamp" ] && exit 0
if ! command -v npm >/dev/null; then
  echo "isthmus: npm is not installed here; what needs Node packages is skipped" >&2
  exit 0
fi
if npm ci --omit=optional --no-audit --no-fund --loglevel=error >&2; then
  touch "$stamp"
else
  echo "isthmus: could not install the Node packages; what needs them is skipped" >&2
fi
