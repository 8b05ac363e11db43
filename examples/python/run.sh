#!/bin/sh
# Runs the Python client, subscriber and heartbeats against the Rust examples; exits with 0 if all work.
#
# ./run.sh [folder of the built examples]      by default builds them first
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
server=
ticker=

finish() {
    status=$?
    for process in $server $ticker; do
        kill "$process" 2>/dev/null || true
    done
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ $# -gt 0 ]; then
    examples=$1
else
    (cd "$root" && cargo build --quiet --example account_server --example ticker)
    examples=${CARGO_TARGET_DIR:-$root/target}/debug/examples
fi

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"

# Waits until a process has said where it listens.
endpoint_in() {
    for _ in $(seq 100); do
        endpoint=$(sed -n 's/^listening on //p' "$1")
        if [ -n "$endpoint" ]; then
            echo "$endpoint"
            return
        fi
        sleep 0.1
    done
    echo "$1: no endpoint after 10 s" >&2
    cat "$1" >&2
    return 1
}

"$examples/account_server" tcp://127.0.0.1:0 >"$work/server.log" 2>&1 &
server=$!
"$examples/ticker" tcp://127.0.0.1:0 >"$work/ticker.log" 2>&1 &
ticker=$!

"$work/venv/bin/python" "$here/client.py" "$(endpoint_in "$work/server.log")"
"$work/venv/bin/python" "$here/subscriber.py" "$(endpoint_in "$work/ticker.log")" ACME 3
"$work/venv/bin/python" "$here/heartbeats.py" "$(endpoint_in "$work/server.log")" "$(endpoint_in "$work/ticker.log")"
