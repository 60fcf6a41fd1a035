#!/usr/bin/env bash
# Ten steps of AEPO that a real SkyRL server learns and this program samples: does the loss fall over the epochs of a
# step, does the reward rise, and does this program load what was saved? The model is the quickstart's, with all numbers
# in f32 on both sides. Opt-in: it needs what skyrl.sh installs.
#
#   benches/remote/ten-steps.sh DIR        as in skyrl.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -eq 1 ] || { echo "usage: $0 DIR, where packages are installed or lie already"; exit 2; }
dir=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$root"
cargo build -q --release -p aepo-cli
aepo=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/aepo
. "$root/benches/remote/skyrl-server.sh"

rm -rf quickstart-f32 ten-steps
mkdir quickstart-f32
cp "$root"/recipes/quickstart/model/* "$root/recipes/quickstart/tokenizer.json" quickstart-f32/
printf '{"tokenizer_class":"PreTrainedTokenizerFast"}\n' >quickstart-f32/tokenizer_config.json
skyrl/bin/python - quickstart-f32 <<'PYTHON'
import json, sys
from safetensors.torch import load_file, save_file
config, weights = f"{sys.argv[1]}/config.json", f"{sys.argv[1]}/model.safetensors"
save_file({name: tensor.float() for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
said = json.load(open(config)) | {"torch_dtype": "float32"}
json.dump(said, open(config, "w"))
PYTHON

start ten-steps 8213 "$dir/quickstart-f32" ""
"$aepo" doctor --engine http://127.0.0.1:8213
"$aepo" train quickstart --out ten-steps --quiet \
    --set model.init="$dir/quickstart-f32" --set policy.train.engine=tinker --set policy.train.url=http://127.0.0.1:8213 \
    --set lora.rank=8 --set lora.alpha=32 --set train.max_grad_norm=1e6 --set train.learning_rate=2e-3 \
    --set train.steps=10 --set train.tasks_per_step=8 --set train.minibatches=1 --set train.epochs=3 \
    --set train.warmup_steps=1 --set eval.n_tasks=60 --set eval.samples=1 --set train.checkpoint_every=5
stop

echo "== the objective of each epoch, and the reward"
skyrl/bin/python - ten-steps/metrics.jsonl <<'PYTHON'
import json, sys
for row in map(json.loads, open(sys.argv[1])):
    if (update := row.get("update")) is None:
        continue
    losses = update["loss_by_epoch"]
    falls = all(a > b for a, b in zip(losses, losses[1:]))
    print(f"step {row['step']}: loss {' > '.join(f'{l:+.4f}' for l in losses)}{'' if falls else '  DOES NOT FALL'}, "
          f"gradient norm {update['grad_norm']:.4f}, reward {row['reward']:+.3f}, "
          f"sampler against trainer {update['logp_diff_max']:.1e} nats at most")
PYTHON
echo "== the run"
"$aepo" show ten-steps
echo "== the checkpoint, loaded without the server"
"$aepo" eval ten-steps --set eval.n_tasks=60 --set eval.samples=1
