#!/usr/bin/env bash
# Fine-tuning an imported network, whole or by low-rank adapters over it frozen in 8 bits: accuracy, bytes both ways and processor seconds, paired by seed.
# The network is a built-in fedavg_cnn that a federation has trained on Fashion-MNIST; the task is Fashion-MNIST from another camera: moved, mirrored, at half the contrast. Writes a table and table.json.
#
#   bench/experiments/adapters/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3"), BASE_ROUNDS (12), ROUNDS (12), DATA (/usr/share/datasets/fashion-mnist) and ARMS (name=keys;...) shorten or change it. Each arm has a learning rate of its own, picked on seed 1: rank 16 of 1 and 3, rank 64 of 0.5 and 2.
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
data=${DATA:-/usr/share/datasets/fashion-mnist}
arms=${ARMS:-"whole=training.client_learning_rate=0.1;\
rank16=model.options={adapter_rank=16} training.client_learning_rate=1;\
rank64=model.options={adapter_rank=64} training.client_learning_rate=0.5"}
common=(--set partition.clients=50 --set federation.clients_per_round=5 --set training.batch_size=50 --set training.learning_rate_schedule=cosine --threads 1)
[ -s "$out/task/train-images-idx3-ubyte" ] || python3 "$here/task.py" "$data" "$out/task"
for seed in ${SEEDS:-1 2 3}; do
  run_fleet "$bin" "$out/base/$seed" "$seed" "${common[@]}" --set "data.path=$data" --set model.architecture=fedavg_cnn --set "federation.rounds=${BASE_ROUNDS:-12}" \
    --set training.client_learning_rate=0.1 --set training.momentum=0.9
  run_fleets "$bin" "$out/arms" "$seed" "$arms" "${common[@]}" --set "data.path=$out/task" --set "model.torchscript=$out/base/$seed/model/final.pt" --set "model.input_shape=[1,28,28]" \
    --set "federation.rounds=${ROUNDS:-12}"
done
python3 "$here/table.py" "$out"
