#!/usr/bin/env bash
# What bfloat16 training and 8-bit delivery cost in accuracy: four fleets of the same seeds, partitions and selection, trained in float32, in bfloat16, and in both for 8-bit integers. Scores final.pt and
# final-int8.pt of each. Writes a table and table.json.
#
#   bench/experiments/number_formats/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3 4 5"), ROUNDS (30), CLIENTS (100, of which 10 a round), BATCH (10), ARCHITECTURE (fedavg_cnn), RATE (0.1) and FLEETS (name=flags;...) shorten or change it.
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
fleets=${FLEETS:-"float32=;bfloat16=fit.format=bfloat16;int8=training.quantization=int8;int8_bfloat16=training.quantization=int8 fit.format=bfloat16"}
common=(--config examples/simulated_fleet/fashion_mnist_2nn.toml --threads 1 --set "model.architecture=${ARCHITECTURE:-fedavg_cnn}" --set "federation.rounds=${ROUNDS:-30}"
        --set "partition.clients=${CLIENTS:-100}" --set "federation.wait_for_clients=${CLIENTS:-100}" --set "training.batch_size=${BATCH:-10}" --set "training.client_learning_rate=${RATE:-0.1}"
        --set training.learning_rate_schedule=cosine --set "federation.evaluate_every=${ROUNDS:-30}" --set energy.device_class=server_core)
for seed in ${SEEDS:-1 2 3 4 5}; do run_fleets "$bin" "$out" "$seed" "$fleets" "${common[@]}"; done
python3 "$here/table.py" "$out"
