#!/bin/sh
# system_packages.sh COMMAND=PACKAGE...: installs the Debian packages whose commands are missing, when root on such a
# machine. Anywhere else it says what is missing and goes on: the tests that need it are skipped and say so.
set -eu
missing=
for pair in "$@"; do
  command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "isthmus: not installed here:$missing; what needs them is skipped" >&2
  exit 0
fi
# shellcheck disable=SC2086
{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >/dev/null ||
  echo "isthmus: could not install$missing; what needs them is skipped" >&2
