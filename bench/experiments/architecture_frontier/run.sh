#!/usr/bin/env bash
# What architectures cost and reach: processor time and memory over length, next characters at equal rounds, a spiking network against integers, and long recall.
# Writes a table (markdown), frontier.json and frontier.svg.
#
#   TEXT=input.txt bench/experiments/architecture_frontier/run.sh [BIN_DIRECTORY] [OUT]
#
# PARTS ("length characters images recall") and SEEDS ("1 2 3") shorten it; characters need TEXT, Karpathy's tiny Shakespeare. Learning rates are of one glance at seed 1, not of a search.
# LENGTHS ("1024 2048 4096 8192"), TURNS (3), ROUNDS (12), IMAGE_ROUNDS (15), RECALL_LENGTH (4096), RECALL_ROUNDS (20). BUDGET, in processor seconds of clients, adds a column: the last training
# loss that each run had before it spent them.
#
# Joules are processor seconds of the clients' threads times the watts of a busy core unless the record says another tier. Theoretical picojoules are in a column of their own.
set -euo pipefail
. "$(dirname "$0")/../run_fleet.sh"
parts=${PARTS:-length characters images recall}
sequence=(softmax_transformer linear_transformer local_transformer performer gru min_gru)

rate() { case $1 in gru) echo 0.2 ;; lif_snn) echo 0.15 ;; mlp_2nn | mobile_cnn) echo 0.05 ;; *) echo 0.01 ;; esac; }

for part in $parts; do
  case $part in
    length)
      : >"$out/length.jsonl"
      for length in ${LENGTHS:-1024 2048 4096 8192}; do
        for name in "${sequence[@]}"; do "$bin/architecture_bench" "$name" "$length" 1 "${TURNS:-3}" >>"$out/length.jsonl"; done
      done
      # In turns, since the machine may be busy with other work.
      : >"$out/recurrent.jsonl"
      for _ in 1 2 3; do for name in gru min_gru; do "$bin/architecture_bench" "$name" 256 16 5 >>"$out/recurrent.jsonl"; done; done
      ;;
    characters)
      for seed in ${SEEDS:-1 2 3}; do
        for name in "${sequence[@]}"; do
          run_fleet "$bin" "$out/characters/$name/$seed" "$seed" --config "$here/characters.toml" --set "data.path=${TEXT:?the text file}" --set "model.architecture=$name" \
            --set "training.client_learning_rate=$(rate "$name")" --set "federation.rounds=${ROUNDS:-12}" --set "federation.evaluate_every=${ROUNDS:-12}" --threads 1
        done
      done
      ;;
    images)
      for seed in ${SEEDS:-1 2 3}; do
        for name in lif_snn mlp_2nn mobile_cnn; do
          run_fleet "$bin" "$out/images/$name/$seed" "$seed" --config examples/simulated_fleet/fashion_mnist_2nn.toml --set "model.architecture=$name" --set training.momentum=0.5 \
            --set "training.client_learning_rate=$(rate "$name")" --set "federation.rounds=${IMAGE_ROUNDS:-15}" --set "federation.evaluate_every=${IMAGE_ROUNDS:-15}" --threads 1
        done
        "$bin/spiking_report" "$out/images/lif_snn/$seed" /usr/share/datasets/fashion-mnist >"$out/images/lif_snn/$seed/spikes.txt"
      done
      ;;
    recall)
      for seed in ${SEEDS:-1 2 3}; do
        for name in softmax_transformer linear_transformer local_transformer min_gru; do
          run_fleet "$bin" "$out/recall/$name/$seed" "$seed" --set data.format=associative_recall --set "data.sequence_length=${RECALL_LENGTH:-4096}" --set data.examples=2000 \
            --set partition.clients=10 --set "federation.rounds=${RECALL_ROUNDS:-20}" --set "federation.evaluate_every=${RECALL_ROUNDS:-20}" --set federation.clients_per_round=5 \
            --set "model.architecture=$name" --set training.batch_size=4 --set training.local_steps=10 --set training.momentum=0.9 --set "training.client_learning_rate=$(rate "$name")" --threads 1
        done
      done
      ;;
    *) echo "unknown part '$part'; known: length characters images recall" >&2; exit 2 ;;
  esac
done
python3 "$here/table.py" "$out" ${BUDGET:+"$BUDGET"}
