#!/usr/bin/env bash
# A Ray cluster of plain machines, one command on each; a token is needed to do anything with it.
#   ray.sh head [--node-ip-address=ADDRESS] [--port=PORT] [options of `ray start`]
#   ray.sh join HOST:PORT                                 [options of `ray start`]
#   ray.sh wait NODES [SECONDS]     until so many nodes are in the cluster that RAY_ADDRESS names
#   ray.sh stop                     ends every Ray process of this user on this machine
# `head` prints the two variables that a run needs, so: eval "$(scripts/cluster/ray.sh head)"
set -euo pipefail

venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.venv/bin
[ -d "$venv" ] && PATH=$venv:$PATH
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
export RAY_AUTH_MODE=token

die() {
    echo "ray.sh: $1" >&2
    exit 3
}

# A token that only this user can read: Ray's own `get-auth-token --generate` writes one for everyone.
make_token() {
    [ -z "${RAY_AUTH_TOKEN:-}" ] || return 0
    if [ ! -s "$token" ]; then
        (umask 077 && mkdir -p "$(dirname "$token")" && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$token")
    fi
    chmod 600 "$token"
}

find_token() {
    [ -n "${RAY_AUTH_TOKEN:-}" ] || [ -s "$token" ] ||
        die "$token: no token; copy the head's there (scp HEAD:.ray/auth_token ~/.ray/), readable by you alone"
    [ ! -f "$token" ] || chmod 600 "$token"
}

# The value of --NAME=VALUE among the arguments, or nothing.
option() {
    local name=$1 argument
    shift
    for argument in "$@"; do
        case $argument in --"$name"=*) echo "${argument#*=}" ;; esac
    done
}

start_head() {
    make_token
    local address port
    address=$(option node-ip-address "$@")
    address=${address:-$(hostname -I | cut -d' ' -f1)}
    [ -n "$address" ] || die "this machine has no address; give --node-ip-address=ADDRESS"
    port=$(option port "$@")
    # not the well-known 6379; a port from the system's own range is free now
    port=${port:-$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')}
    echo "export RAY_ADDRESS=$address:$port RAY_AUTH_MODE=token"
    exec ray start --head --node-ip-address="$address" --port="$port" \
        --include-dashboard=false --disable-usage-stats "$@" >&2
}

join_cluster() {
    case ${1:-} in *:*) ;; *) die "join needs the head's HOST:PORT, which \`ray.sh head\` prints" ;; esac
    find_token
    local head=$1
    shift
    exec ray start --address="$head" --disable-usage-stats "$@" >&2
}

wait_for_nodes() {
    [ -n "${RAY_ADDRESS:-}" ] || die "wait needs RAY_ADDRESS, which \`ray.sh head\` prints"
    find_token
    exec python3 - "${1:?how many nodes}" "${2:-300}" <<'PYTHON'
import sys
import time

import ray

wanted, deadline_s = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
try:
    ray.init(log_to_driver=False)
except (ConnectionError, ray.exceptions.AuthenticationError):
    sys.exit("ray.sh: RAY_ADDRESS: no cluster answers, or it refuses; is the token the head's?")
while (found := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline_s:
        sys.exit(f"ray.sh: {found} of {wanted} nodes have joined; see the log of the others")
    time.sleep(1)
print(f"ray.sh: {found} nodes", file=sys.stderr)
PYTHON
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
head) start_head "$@" ;;
join) join_cluster "$@" ;;
wait) wait_for_nodes "$@" ;;
stop) exec ray stop ;;
*) die "choose head, join, wait or stop; the first lines of this file say how" ;;
esac
