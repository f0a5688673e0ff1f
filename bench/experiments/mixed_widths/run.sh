#!/usr/bin/env bash
# A HeteroFL mix of five widths, kept by clients (mix) or taken in turns (turns), against a fleet whose clients all train the whole model: accuracy of the whole model, processor seconds and virtual
# joules of the clients, paired by seed, everything else equal. Writes a table and table.json.
#
#   bench/experiments/mixed_widths/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3 4 5"), SETTINGS ("cnn mlp"), CNN_ROUNDS (100), MLP_ROUNDS (300), CLIENTS (10 a round), RATE (0.1, falling along a cosine) and
# FLEETS (name=flags;...) shorten or change it.
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
config=examples/simulated_fleet/fashion_mnist_2nn.toml
mix='fit.policy=by_capability fit.widths=[1,0.5,0.25,0.125,0.0625]'
fleets=${FLEETS:-"full=;mix=$mix;turns=${mix/by_capability/by_turns}"}
common=(--config "$config" --set "federation.clients_per_round=${CLIENTS:-10}" --set "training.client_learning_rate=${RATE:-0.1}"
        --set training.learning_rate_schedule=cosine --set federation.evaluate_every=5 --set energy.device_class=raspberry_pi_4)
declare -A flags=(
  [mlp]="--set federation.rounds=${MLP_ROUNDS:-300}"
  [cnn]="--set federation.rounds=${CNN_ROUNDS:-100} --set model.architecture=fedavg_cnn"
)
for setting in ${SETTINGS:-cnn mlp}; do
  # shellcheck disable=SC2086
  for seed in ${SEEDS:-1 2 3 4 5}; do run_fleets "$bin" "$out/$setting" "$seed" "$fleets" "${common[@]}" ${flags[$setting]}; done
done
python3 "$here/table.py" "$out"
