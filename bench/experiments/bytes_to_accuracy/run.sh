#!/usr/bin/env bash
# Bytes to an accuracy: float32 against the compression presets, three seeds each, everything else equal. Writes a table, a JSON file and a plot.
#
#   bench/experiments/bytes_to_accuracy/run.sh [BIN_DIRECTORY] [OUT]
#
# What is measured: payload bytes up and down of all clients, each client on its own: first contact and catching up after rounds missed included.
# SEEDS ("1 2 3"), LONG_ROUNDS (300), SHORT_ROUNDS (120), CNN_ROUNDS (20), LSTM_ROUNDS (30), SETTINGS ("iid dirichlet cnn", and "lstm" where TEXT names a
# play as text) and CODECS (name=uplink/downlink ...) shorten or change it. The presets on the other models alone, and about one bit up against float32:
#   SETTINGS="cnn lstm" TEXT=tiny-shakespeare/input.txt bench/experiments/bytes_to_accuracy/run.sh
#   SETTINGS=iid CODECS="float32=preset one_bit=dct,dithered:rate=1.0/chain:multiple=0.25" bench/experiments/bytes_to_accuracy/run.sh
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
seeds=${SEEDS:-1 2 3} long=${LONG_ROUNDS:-300} short=${SHORT_ROUNDS:-120}
settings=${SETTINGS:-iid dirichlet cnn${TEXT:+ lstm}}
codecs=${CODECS:-float32=preset no_regret=preset smallest=preset}
config=examples/simulated_fleet/fashion_mnist_2nn.toml

declare -A flags=(
  [iid]="--config $config --set federation.rounds=$long"
  [dirichlet]="--config $config --set federation.rounds=$short --set partition.kind=dirichlet --set partition.alpha=0.3"
  [cnn]="--config $config --set federation.rounds=${CNN_ROUNDS:-20} --set model.architecture=fedavg_cnn --set data.normalization=unit"
  [lstm]="--config ${here}/char_lstm.toml --set data.path=${TEXT:-} --set federation.rounds=${LSTM_ROUNDS:-30}"
)
for setting in $settings; do
  for codec in $codecs; do
    name=${codec%%=*} spec=${codec#*=}
    if [ "$spec" = preset ]; then
      compression=(--set "compression.preset=$name" --set compression.uplink= --set compression.downlink=)
    else
      compression=(--set "compression.uplink=${spec%%/*}" --set "compression.downlink=${spec##*/}")
    fi
    for seed in $seeds; do
      # shellcheck disable=SC2086
      run_fleet "$bin" "$out/$setting/$name/$seed" "$seed" ${flags[$setting]} "${compression[@]}"
    done
  done
done
python3 "$here/table.py" "$out"
