#!/usr/bin/env bash
# Conformance with the real SkyRL server on its JAX backend: installs it, starts it in one process and in two, and holds
# gradient norms and weights against the embedded engine's. Opt-in: 5.6 GB of packages below the first argument.
#
#   benches/remote/skyrl.sh DIR            needs uv, Python 3.12, 12 GB of disk where nothing is installed yet
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v uv >/dev/null || { echo "skipped: uv is not installed"; exit 0; }
cd "$dir"
if [ ! -d skyrl ]; then
    free=$(df --output=avail -k . | tail -1)
    [ "$free" -ge $((12 << 20)) ] || { echo "skipped: 12 GB of disk are needed"; exit 0; }
    uv venv -q --python 3.12 skyrl || { echo "skipped: no Python 3.12"; exit 0; }
    # The API imports torch and aiohttp, which the package does not ask for.
    uv pip install -q --python skyrl/bin/python 'skyrl[tinker,jax]==0.4.0' torch==2.13.0 aiohttp ||
        { echo "skipped: SkyRL cannot be installed"; exit 0; }
fi
export JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1 UV_OFFLINE=1 VIRTUAL_ENV="$dir/skyrl"
[ -d model ] || skyrl/bin/python "$root/benches/remote/model.py" model

stop() { for pid in $(jobs -p); do pkill -TERM -P "$pid" || true; kill "$pid" 2>/dev/null || true; done; wait || true; }
trap stop EXIT

# conform NAME PORT MORE: a server with more backend settings, and what it says.
conform() {
    rm -rf "ckpt-$1" "tinker-$1.db"*
    config="{\"max_lora_adapters\":3,\"max_lora_rank\":8,\"train_micro_batch_size\":4,\"sample_max_num_sequences\":8$3}"
    # It reads its own parent's command line: it must be started by `uv run`.
    uv run --no-project --active -m skyrl.tinker.api --base-model "$dir/model" --backend jax --backend-config "$config" \
        --host 127.0.0.1 --port "$2" --checkpoints-base "$dir/ckpt-$1" --database-url "sqlite:///$dir/tinker-$1.db" \
        >"server-$1.log" 2>&1 &
    for _ in $(seq 120); do
        if curl -sf "http://127.0.0.1:$2/api/v1/healthz" >/dev/null; then break; fi
        sleep 1
    done
    echo "== SkyRL 0.4.0, JAX, $1"
    (cd "$root" && AEPO_TINKER_URL="http://127.0.0.1:$2" AEPO_TINKER_MODEL="$dir/model" \
        cargo test -q -p aepo-remote --test tinker real -- --nocapture)
}

conform one-process 8211 ""
stop
skyrl/bin/python -m skyrl.backends.jax --coordinator-address 127.0.0.1:7777 --num-processes 2 --process-id 1 \
    >worker.log 2>&1 &
conform two-processes 8212 \
    ',"fully_sharded_data_parallel_size":2,"coordinator_address":"127.0.0.1:7777","num_processes":2'
