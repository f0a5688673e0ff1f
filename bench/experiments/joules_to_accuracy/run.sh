#!/usr/bin/env bash
# Client joules, processor seconds and bytes until an accuracy is reached: float32 FedAvg against the default settings and against a stack of pruning and clients' momentum, everything else equal, paired by seed.
# Writes a table and table.json.
#
#   bench/experiments/joules_to_accuracy/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3 4 5"), SETTINGS ("iid dirichlet", and cnn), IID_ROUNDS (110), DIRICHLET_ROUNDS (300), CNN_ROUNDS (30), TARGET (0.87), EVERY (2: rounds from one evaluation to the next) and
# ARMS (name=keys;...) shorten or change it. Each arm has a learning rate and batch size of its own, picked on seed 1 of iid: float32's of batch 10 at 0.1 and 0.15, 20 at 0.2 and 0.25, 32 at 0.25, 50 at 0.3 and 0.4;
# the stack's of batch 20, 32, 50 at 0.03 to 0.1, 0.3 to 0.5 of the parameters, and with or without cosine transforms and scales, which take as much time as half of such a network's training. `float32` is FedAvg with the batches of McMahan et al. 2017, `float32_50` with those that were the least work.
#
# Joules are processor seconds of the clients' threads times the watts of a busy core: no meter covers a thread. In a ratio the watts cancel as far as all arms draw alike.
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
stack='training.batch_size=32 training.client_learning_rate=0.08 training.momentum=0.9 prune.target=0.5 prune.channels=ordered compression.uplink=dithered:rate=0.4:scales=off'
arms=${ARMS:-"float32=training.batch_size=10 training.client_learning_rate=0.1 compression.preset=float32;\
float32_50=training.batch_size=50 training.client_learning_rate=0.4 compression.preset=float32;\
default=training.batch_size=10 training.client_learning_rate=0.1;\
stack=$stack"}
common=(--config examples/simulated_fleet/fashion_mnist_2nn.toml --threads 1 --set compression.uplink= --set compression.downlink= --set training.learning_rate_schedule=cosine
        --set "federation.evaluate_every=${EVERY:-2}" --set energy.device_class=server_core)
declare -A flags=(
  [iid]="--set federation.rounds=${IID_ROUNDS:-110}"
  [dirichlet]="--set federation.rounds=${DIRICHLET_ROUNDS:-300} --set partition.kind=dirichlet --set partition.alpha=0.3"
  [cnn]="--set federation.rounds=${CNN_ROUNDS:-30} --set model.architecture=fedavg_cnn"
)
for seed in ${SEEDS:-1 2 3 4 5}; do
  # shellcheck disable=SC2086
  for setting in ${SETTINGS:-iid dirichlet}; do run_fleets "$bin" "$out/$setting" "$seed" "$arms" "${common[@]}" ${flags[$setting]}; done
done
python3 "$here/table.py" "$out" "${TARGET:-0.87}"
