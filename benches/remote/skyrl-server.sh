# How is a SkyRL server installed below $dir, started and stopped? Read by the scripts beside it.

# uv starts the server, too: it reads its own parent's command line, which must be `uv run`.
cd "$dir"
if ! command -v uv >/dev/null; then
    [ -x tools/bin/uv ] || { python3 -m venv tools && tools/bin/pip install -q uv; } ||
        { echo "skipped: uv is not installed and cannot be"; exit 0; }
    PATH="$dir/tools/bin:$PATH"
fi
if [ ! -x skyrl/bin/python ]; then
    free=$(df --output=avail -k . | tail -1)
    [ "$free" -ge $((12 << 20)) ] || { echo "skipped: 12 GB of disk are needed"; exit 0; }
    uv venv -q --python "${PYTHON:-python3.12}" skyrl ||
        { echo "skipped: no Python 3.12; set PYTHON to its path"; exit 0; }
    # The API imports torch and aiohttp, which the package does not ask for.
    uv pip install -q --python skyrl/bin/python 'skyrl[tinker,jax]==0.4.0' torch==2.13.0 aiohttp ||
        { rm -rf skyrl; echo "skipped: SkyRL cannot be installed"; exit 0; }
fi
# In several processes 0.4.0 does not tell its workers that a model is unloaded, so that the next one lies in another
# place there, and the server dies of it ("device_put is not the same on each process"). The missing method:
grep -q '"delete_model"' skyrl/lib/python3.*/site-packages/skyrl/backends/jax.py || {
    echo "mending SkyRL 0.4.0: its JAX backend now tells its workers which models are unloaded"
    skyrl/bin/python - skyrl/lib/python3.*/site-packages/skyrl/backends/jax.py <<'MEND'
import sys
before = "    def forward_backward(self, prepared_batch: types.PreparedModelPassBatch):\n        return self._broadcast"
told = '    def delete_model(self, model_id: str) -> None:\n        self._broadcast_and_call("delete_model", model_id=model_id)\n\n'
text = open(sys.argv[1]).read()
assert text.count(before) == 1, "this is not the backend that the mend was written for"
open(sys.argv[1], "w").write(text.replace(before, told + before))
MEND
}
export JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1 UV_OFFLINE=1 VIRTUAL_ENV="$dir/skyrl"

# Servers start processes of their own: each has a group, and the group is stopped.
stop() {
    for pid in $(jobs -p); do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for _ in $(seq 20); do [ -n "$(jobs -rp)" ] || break; sleep 0.5; done
    for pid in $(jobs -p); do kill -KILL -- "-$pid" 2>/dev/null || true; done
    wait || true
}
trap stop EXIT

# start NAME PORT MODEL MORE: a server with more backend settings.
start() {
    rm -rf "ckpt-$1" "tinker-$1.db"*
    config="{\"max_lora_adapters\":3,\"max_lora_rank\":8,\"train_micro_batch_size\":4,\"sample_max_num_sequences\":8$4}"
    setsid uv run --no-project --active -m skyrl.tinker.api --base-model "$3" --backend jax --backend-config "$config" \
        --host 127.0.0.1 --port "$2" --checkpoints-base "$dir/ckpt-$1" --database-url "sqlite:///$dir/tinker-$1.db" \
        >"server-$1.log" 2>&1 &
    for _ in $(seq 180); do
        if curl -sf "http://127.0.0.1:$2/api/v1/healthz" >/dev/null; then return; fi
        sleep 1
    done
    tail -30 "server-$1.log"
    echo "SkyRL did not start within 180 s"
    exit 1
}
