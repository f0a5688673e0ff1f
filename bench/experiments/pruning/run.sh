#!/usr/bin/env bash
# A federation whose model is pruned to 30 % of its parameters, by several schedules, against one that stays dense: final accuracy, and the clients' processor seconds and bytes until a target
# accuracy is reached, rounds included; paired by seed, everything else equal. Writes a table and table.json.
#
#   bench/experiments/pruning/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3"), SETTINGS ("mlp cnn"), MLP_ROUNDS (150), CNN_ROUNDS (30), CLIENTS (10 a round), RATE (0.1 of mlp, falling along a cosine), TARGET_mlp and TARGET_cnn (0.87)
# and FLEETS (name=flags;...) shorten or change it. cnn has batches of 20 and momentum, at a rate picked on seed 1; names that end in 40 have 40 rounds.
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
config=examples/simulated_fleet/fashion_mnist_2nn.toml
mlp=${FLEETS:-"dense=;\
narrow=prune.target=0.3 prune.channels=ordered;\
once=prune.target=0.3 prune.channels=taylor prune.begin=1 prune.end=1;\
gradual=prune.target=0.3 prune.channels=taylor prune.begin=1 prune.end=13 prune.every=4;\
regrown=prune.target=0.3 prune.channels=taylor prune.begin=1 prune.end=13 prune.every=4 prune.regrow=0.2;\
magnitude=prune.target=0.3 prune.channels=magnitude prune.begin=1 prune.end=13 prune.every=4"}
taylor='prune.target=0.3 prune.channels=taylor prune.begin=1'
cnn=${FLEETS:-"dense=;\
once=$taylor prune.end=1;\
once40=$taylor prune.end=1 federation.rounds=40;\
gradual40=$taylor prune.end=5 prune.every=2 federation.rounds=40"}
common=(--config "$config" --set "federation.clients_per_round=${CLIENTS:-10}" --set training.learning_rate_schedule=cosine --set energy.device_class=raspberry_pi_4 --set simulation.workers=1)
declare -A flags=(
  [mlp]="--set federation.rounds=${MLP_ROUNDS:-150} --set training.client_learning_rate=${RATE:-0.1}"
  [cnn]="--set federation.rounds=${CNN_ROUNDS:-30} --set model.architecture=fedavg_cnn --set training.batch_size=20 --set training.client_learning_rate=0.06 --set training.momentum=0.9"
)
for setting in ${SETTINGS:-mlp cnn}; do
  # shellcheck disable=SC2086
  for seed in ${SEEDS:-1 2 3}; do run_fleets "$bin" "$out/$setting" "$seed" "${!setting}" "${common[@]}" ${flags[$setting]}; done
done
TARGET_mlp=${TARGET_mlp:-0.87} TARGET_cnn=${TARGET_cnn:-0.87} python3 "$here/table.py" "$out"
