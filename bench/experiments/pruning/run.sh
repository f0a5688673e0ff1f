#!/usr/bin/env bash
# A federation whose model is pruned to 30 % of its parameters, by several schedules, against one that stays dense: final accuracy, and the clients' processor seconds and bytes until a target
# accuracy is reached, rounds included; paired by seed, everything else equal. Writes a table and table.json.
#
#   bench/experiments/pruning/run.sh [BIN_DIRECTORY] [OUT]
#
# SEEDS ("1 2 3"), SETTINGS ("mlp cnn"), MLP_ROUNDS (150), CNN_ROUNDS (60), CLIENTS (10 a round), RATE (0.1, falling along a cosine), TARGET_mlp (0.87), TARGET_cnn (0.88)
# and FLEETS (name=flags;...) shorten or change it.
set -euo pipefail
here=$(dirname "$0")
bin=${1:-build/release/bin}
out=${2:-$(mktemp -d)}
mkdir -p "$out"
config=examples/simulated_fleet/fashion_mnist_2nn.toml
fleets=${FLEETS:-"dense=;\
narrow=prune.target=0.3 prune.channels=ordered;\
once=prune.target=0.3 prune.channels=taylor prune.begin=1 prune.end=1;\
gradual=prune.target=0.3 prune.channels=taylor prune.begin=1 prune.end=13 prune.every=4;\
regrown=prune.target=0.3 prune.channels=taylor prune.begin=1 prune.end=13 prune.every=4 prune.regrow=0.2;\
magnitude=prune.target=0.3 prune.channels=magnitude prune.begin=1 prune.end=13 prune.every=4"}
common=(--config "$config" --set "federation.clients_per_round=${CLIENTS:-10}" --set "training.client_learning_rate=${RATE:-0.1}"
        --set training.learning_rate_schedule=cosine --set energy.device_class=raspberry_pi_4 --set simulation.workers=1)
declare -A flags=(
  [mlp]="--set federation.rounds=${MLP_ROUNDS:-150}"
  [cnn]="--set federation.rounds=${CNN_ROUNDS:-60} --set model.architecture=fedavg_cnn"
)
for setting in ${SETTINGS:-mlp cnn}; do
  for seed in ${SEEDS:-1 2 3}; do
    IFS=';' read -ra named <<<"$fleets"
    for fleet in "${named[@]}"; do
      name=${fleet%%=*}
      run="$out/$setting/$name/$seed"
      [ -s "$run/summary.json" ] && continue
      echo "$setting $name seed $seed" >&2
      rm -rf "$run"
      keys=()
      for key in ${fleet#*=}; do keys+=(--set "$key"); done
      # shellcheck disable=SC2086
      "$bin/fedwatt-fleet" "${common[@]}" ${flags[$setting]} "${keys[@]}" --seed "$seed" --out "$run" >/dev/null 2>"$out/log" || { tail -n 5 "$out/log" >&2; exit 1; }
    done
  done
done
TARGET_mlp=${TARGET_mlp:-0.87} TARGET_cnn=${TARGET_cnn:-0.88} python3 "$here/table.py" "$out"
