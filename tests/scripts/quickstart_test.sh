#!/usr/bin/env bash
# The control flow of examples/quickstart.sh, with programs that only pretend: what it says, how it ends, what it leaves running.
# usage: quickstart_test.sh REPOSITORY
set -euo pipefail
repository=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failures=0

fail() { echo "FAILED: $1: $2"; sed 's/^/  | /' "$root/output"; failures=$((failures + 1)); }

mkdir -p "$root"/{examples,scripts,build/release/bin,path}
cp "$repository"/examples/quickstart.{sh,toml} "$root/examples/"
touch "$root/build/release/build.ninja"
program() { printf '#!/usr/bin/env bash\n%s\n' "$2" >"$root/$1"; chmod +x "$root/$1"; }
program scripts/install_dependencies.sh 'exit 0'
program path/cmake 'exit 0'
program build/release/bin/fedwatt 'echo "the table"; echo "rounds 1, report of $2"'
# Options come as --out DIR; the fake server is done when the file `done` says how.
server='while [ $# -gt 0 ]; do [ "$1" != --out ] || out=$2; shift; done; echo "listening" >&2; echo 127.0.0.1:1 >$out/address'
client='echo "client talks"'

run() {  # run EXPECTED_EXIT_CODE
  local result=0
  (cd "$root" && PATH="$root/path:$PATH" examples/quickstart.sh) >"$root/output" 2>&1 </dev/null || result=$?
  [ "$result" -eq "$1" ] || fail "$name" "expected exit code $1, got $result"
  rm -rf "$root/runs"
}
says() { grep -q -- "$1" "$root/output" || fail "$name" "does not say '$1'"; }

name="target reached"
program build/release/bin/fedwatt-server "$server; echo 'round 1'; sleep 0.5"
program build/release/bin/fedwatt-client "$client; sleep 0.7"
run 0
says "round 1"
! grep -q "the table" "$root/output" || fail "$name" "shows the table twice"
says "report of runs/quickstart-"

name="target missed"
program build/release/bin/fedwatt-server "$server; sleep 0.3; exit 4"
run 1
says "report of runs/quickstart-"
says "was not reached"

name="coordinator dies at once"
program build/release/bin/fedwatt-server 'echo "no such data" >&2; exit 6'
run 1
says "ended before it listened"
says "no such data"

name="coordinator dies later"
program build/release/bin/fedwatt-server "$server; sleep 0.3; echo 'disk full' >&2; exit 8"
program build/release/bin/fedwatt-client "$client; exec sleep 30"
run 1
says "exit code 8"
says "disk full"

name="client dies"
program build/release/bin/fedwatt-server "$server; exec sleep 30"
program build/release/bin/fedwatt-client "$client; sleep 0.2; case \"\$*\" in *3/8*) exit 5 ;; esac; exec sleep 30"
run 1
says "exit code 5"
says "client-3.log"

name="build fails"
program path/cmake 'echo "no compiler"; exit 1'
run 1
says "The build failed"
program path/cmake 'exit 0'

name="interrupted"
program build/release/bin/fedwatt-server "$server; echo \$\$ >$root/server.pid; exec sleep 30"
program build/release/bin/fedwatt-client "exec sleep 30"
(cd "$root" && PATH="$root/path:$PATH" exec examples/quickstart.sh) >"$root/output" 2>&1 </dev/null &
quickstart=$!
for _ in $(seq 100); do [ ! -s "$root/server.pid" ] || break; sleep 0.1; done
sleep 0.5
kill -TERM $quickstart
result=0
wait $quickstart || result=$?
[ "$result" -eq 143 ] || fail "$name" "expected exit code 143, got $result"
! kill -0 "$(cat "$root/server.pid")" 2>/dev/null || fail "$name" "left the coordinator running"

[ "$failures" -eq 0 ] && echo "ok"
