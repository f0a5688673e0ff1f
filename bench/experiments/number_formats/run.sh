#!/usr/bin/env bash
# What bfloat16 training and 8-bit delivery cost in accuracy: four fleets of the same seeds, partitions and selection, trained in float32, in bfloat16, and in both for 8-bit integers. Scores final.pt and
# final-int8.pt of each. Writes a table and table.json.
#
#   bench/experiments/number_formats/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3 4 5"), ROUNDS (30), CLIENTS (100, of which 10 a round), BATCH (10), ARCHITECTURE (fedavg_cnn), RATE (0.1) and FLEETS (name=flags;...) shorten or change it.
set -euo pipefail
here=$(dirname "$0")
bin=${1:-build/release/bin}
out=${2:-$(mktemp -d)}
mkdir -p "$out"
fleets=${FLEETS:-"float32=;bfloat16=fit.format=bfloat16;int8=training.quantization=int8;int8_bfloat16=training.quantization=int8 fit.format=bfloat16"}
common=(--config examples/simulated_fleet/fashion_mnist_2nn.toml --threads 1 --set "model.architecture=${ARCHITECTURE:-fedavg_cnn}" --set "federation.rounds=${ROUNDS:-30}"
        --set "partition.clients=${CLIENTS:-100}" --set "federation.wait_for_clients=${CLIENTS:-100}" --set "training.batch_size=${BATCH:-10}" --set "training.client_learning_rate=${RATE:-0.1}"
        --set training.learning_rate_schedule=cosine --set "federation.evaluate_every=${ROUNDS:-30}" --set energy.device_class=server_core)
for seed in ${SEEDS:-1 2 3 4 5}; do
  IFS=';' read -ra named <<<"$fleets"
  for fleet in "${named[@]}"; do
    name=${fleet%%=*}
    run="$out/$name/$seed"
    [ -s "$run/summary.json" ] && continue
    echo "$name seed $seed" >&2
    rm -rf "$run"
    set=()
    for key in ${fleet#*=}; do set+=(--set "$key"); done
    "$bin/fedwatt-fleet" "${common[@]}" "${set[@]}" --seed "$seed" --out "$run" >/dev/null 2>"$out/log" || { tail -n 5 "$out/log" >&2; exit 1; }
  done
done
python3 "$here/table.py" "$out"
