#!/usr/bin/env bash
# The results table of the README: Fashion-MNIST, mlp_2nn, 100 clients, 10 a round, float32 both ways; three seeds each.
#
#   bench/accuracy.sh [BIN_DIRECTORY] [OUT]
#
# LONG_ROUNDS and SHORT_ROUNDS (300 and 100) shorten it for a trial.
set -euo pipefail
bin=${1:-build/release/bin}
out=${2:-$(mktemp -d)}
long=${LONG_ROUNDS:-300} short=${SHORT_ROUNDS:-100}
config=examples/simulated_fleet/fashion_mnist_2nn.toml
for seed in 1 2 3; do
  "$bin/fedwatt-fleet" --config "$config" --seed "$seed" --out "$out/iid-$seed" --set federation.rounds="$long" >/dev/null
  "$bin/fedwatt-fleet" --config "$config" --seed "$seed" --out "$out/dirichlet-$seed" --set partition.kind=dirichlet --set partition.alpha=0.3 \
    --set federation.rounds="$short" >/dev/null
done
python3 - "$out" "$short" "$long" <<'PYTHON'
import json, sys

def accuracies(name, rounds):
    values = []
    for seed in (1, 2, 3):
        lines = [json.loads(line) for line in open(f"{sys.argv[1]}/{name}-{seed}/rounds.jsonl")]
        values.append(lines[rounds - 1]["eval_accuracy"])
    return values

short, long = int(sys.argv[2]), int(sys.argv[3])
for name, rounds in (("iid", short), ("iid", long), ("dirichlet", short)):
    values = accuracies(name, rounds)
    print(f"{name:10} {rounds:4} rounds: mean {sum(values) / 3:.4f}  seeds " + " ".join(f"{v:.4f}" for v in values))
PYTHON
