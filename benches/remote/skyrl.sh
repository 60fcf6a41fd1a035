#!/usr/bin/env bash
# Conformance with the real SkyRL server on its JAX backend: installs it, starts it in one process and in two, and holds
# gradient norms and weights against the embedded engine's. Opt-in: 5.6 GB of packages below the first argument.
#
#   benches/remote/skyrl.sh DIR            needs Python 3.12 (or PYTHON names it), 12 GB of disk where nothing is installed yet
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -eq 1 ] || { echo "usage: $0 DIR, where packages are installed or lie already"; exit 2; }
dir=$(mkdir -p "$1" && cd "$1" && pwd)
. "$root/benches/remote/skyrl-server.sh"
[ -d model ] || skyrl/bin/python "$root/benches/remote/model.py" model

# conform NAME PORT MORE: a server with more backend settings, and what it says.
conform() {
    start "$1" "$2" "$dir/model" "$3"
    echo "== SkyRL 0.4.0, JAX, $1"
    # One test at a time: a server that learns for two at once is another experiment.
    (cd "$root" && AEPO_TINKER_URL="http://127.0.0.1:$2" AEPO_TINKER_MODEL="$dir/model" \
        timeout 600 cargo test -q -p aepo-remote --test tinker real -- --nocapture --test-threads=1)
    stop
}

conform one-process 8211 ""
setsid skyrl/bin/python -m skyrl.backends.jax --coordinator-address 127.0.0.1:7777 --num-processes 2 --process-id 1 \
    >worker.log 2>&1 &
conform two-processes 8212 \
    ',"fully_sharded_data_parallel_size":2,"coordinator_address":"127.0.0.1:7777","num_processes":2'
