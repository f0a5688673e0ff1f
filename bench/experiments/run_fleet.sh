# Sourced by the experiments that compare fleets paired by seed: RUN.SH [BIN_DIRECTORY] [OUT]. Sets here, bin and out, and makes OUT.
here=$(dirname "$0")
bin=${1:-build/release/bin}
out=${2:-$(mktemp -d)}
mkdir -p "$out"

# run_fleet BIN_DIRECTORY RUN SEED FLAGS...: a fleet's run record in RUN, unless it is there already. What went wrong is told, and ends the experiment.
run_fleet() {
  local bin=$1 run=$2 seed=$3
  shift 3
  [ -s "$run/summary.json" ] && return
  echo "${run%/*} seed $seed" >&2
  rm -rf "$run"
  mkdir -p "${run%/*}"
  "$bin/fedwatt-fleet" "$@" --seed "$seed" --out "$run" >/dev/null 2>"$run.log" || { tail -n 5 "$run.log" >&2; exit 1; }
  rm -f "$run.log"
}

# run_fleets BIN_DIRECTORY OUT SEED "name=keys;name=keys" FLAGS...: one run for each name, OUT/name/SEED, with its keys (a.b=c, spaces between them) set.
run_fleets() {
  local bin=$1 out=$2 seed=$3 fleet key
  local -a named keys
  IFS=';' read -ra named <<<"$4"
  shift 4
  for fleet in "${named[@]}"; do
    keys=()
    for key in ${fleet#*=}; do keys+=(--set "$key"); done
    run_fleet "$bin" "$out/${fleet%%=*}/$seed" "$seed" "$@" "${keys[@]}"
  done
}
