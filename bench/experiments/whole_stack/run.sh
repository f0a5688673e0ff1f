#!/usr/bin/env bash
# Fit and bytes together against float32 FedAvg, one convolution model, Fashion-MNIST: clients' processor seconds to 0.87 and, apart from them, bytes.
#
#   bench/experiments/whole_stack/run.sh [BIN_DIRECTORY] [OUT]
#
# `float32` is FedAvg with plain SGD, `momentum` has the stack's SGD with momentum on the whole model. `compute` adds what is cheaper to train: bfloat16, and a model pruned to a tenth of its parameters before the first round, whose rate falls
# over 40 rounds, not 30. `stack` adds cheaper bytes. SEEDS ("1 2 3") and the settings of ../joules_to_accuracy/run.sh, which runs it, change it.
set -euo pipefail
sgd=${SGD:-"training.batch_size=20 training.client_learning_rate=0.06 training.momentum=0.9"}
plain=${PLAIN:-"training.batch_size=20 training.client_learning_rate=0.2"}
fit=${FIT:-"fit.format=bfloat16 prune.target=0.1 prune.channels=ordered federation.rounds=40"}
export SEEDS=${SEEDS:-1 2 3} SETTINGS=${SETTINGS:-cnn} EVERY=${EVERY:-1}
export ARMS=${ARMS:-"float32=$plain compression.preset=float32;momentum=$sgd compression.preset=float32;compute=$sgd $fit compression.preset=float32;stack=$sgd $fit compression.preset=no_regret"}
exec "$(dirname "$0")/../joules_to_accuracy/run.sh" "$@"
