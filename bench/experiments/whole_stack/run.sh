#!/usr/bin/env bash
# Fit and bytes together against float32 FedAvg, one convolution model, Fashion-MNIST: clients' processor seconds to 0.87 and, apart from them, bytes.
#
#   bench/experiments/whole_stack/run.sh [BIN_DIRECTORY] [OUT]
#
# `compute` has the stack's models and number format and float32 on the wire, `bytes` the wire's codecs and float32 FedAvg's models, `stack` both. SEEDS ("1 2 3") and the settings of
# ../joules_to_accuracy/run.sh, which runs it, change it.
set -euo pipefail
fit=${FIT:-"training.batch_size=50 training.client_learning_rate=0.3 fit.format=bfloat16 prune.target=0.3 prune.channels=ordered"}
plain=${PLAIN:-"training.batch_size=20 training.client_learning_rate=0.2"}
export SEEDS=${SEEDS:-1 2 3} SETTINGS=${SETTINGS:-cnn}
export ARMS=${ARMS:-"float32=$plain compression.preset=float32;compute=$fit compression.preset=float32;bytes=$plain compression.preset=no_regret;stack=$fit compression.preset=no_regret"}
exec "$(dirname "$0")/../joules_to_accuracy/run.sh" "$@"
