#!/usr/bin/env bash
# Tries submit.sh on a cluster of this one machine: a calibration in 4 shards, three of them disturbed, against one in one piece.
# Needs what local-cluster.sh needs, and a built wanq (npm run build).
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)
work=$(mktemp -d)
output=$work/out/calibration.safetensors

finish() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  if ((code != 0)); then
    tail -n 15 -- "$work"/out/*.log >&2 2>/dev/null || true
    scontrol show job >&2 2>/dev/null || true
  fi
  "$here/local-cluster.sh" down "$work/cluster" || code=1
  rm -rf -- "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "try.sh: $1" >&2
  exit 1
}

# Jobs inherit it: a killed wanq leaves temporary files.
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
WANQ="node $(printf %q "$root/bin/wanq.js")"
export WANQ
export SBATCH_OPTIONS="--cpus-per-task=1 --mem=2G"
export SBATCH_MEM_PER_NODE=1G
pipeline=$root/fixtures/micro-wan/pipeline
prompts=$root/prompts/calibration.txt
options=(--steps 40 --guidance 3 --seed 0 --device cpu)

echo "one run without shards"
node "$root/bin/wanq.js" --quiet calibrate "$pipeline" --prompts "$prompts" "${options[@]}" \
  -o "$work/whole.safetensors" >/dev/null

"$here/local-cluster.sh" up "$work/cluster" >/dev/null
export SLURM_CONF=$work/cluster/slurm.conf
ids=$("$here/submit.sh" "$pipeline" "$prompts" 4 "$output" "${options[@]}")
echo "$ids"
array=$(sed -n 's/^calibrate //p' <<<"$ids")
merge=$(sed -n 's/^merge //p' <<<"$ids")

# wanq's process in a job.
wanq_of() {
  local pid
  for pid in $(scontrol listpids "$1" 2>/dev/null | awk 'NR > 1 { print $1 }'); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q '^node .*bin/wanq.js calibrate '; then echo "$pid"; fi
  done 2>/dev/null
}

# disturb SHARD: as soon as it has a checkpoint, and before it ends.
disturb() {
  local job pid
  job=$(squeue --noheader --jobs="${array}_$1" --format=%A)
  case $1 in
    1)
      pid=$(wanq_of "$job")
      echo "shard 1: SIGKILL to wanq, process $pid of job $job"
      kill -KILL "$pid"
      ;;
    2)
      echo "shard 2: scontrol requeue $job"
      scontrol requeue "$job"
      ;;
    3)
      echo "shard 3: the signal that comes before the time limit, to job $job"
      scancel --batch --signal=USR1 "$job"
      ;;
  esac
}

state() {
  scontrol show job --oneliner "$1" | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p'
}

left=(1 2 3)
deadline=$((SECONDS + 600))
until [[ $(state "$merge") == COMPLETED ]]; do
  case $(state "$merge") in
    PENDING | RUNNING | COMPLETING) ;;
    *) fail "the merge is $(state "$merge")" ;;
  esac
  ((SECONDS < deadline)) || fail "the jobs take too long"
  for shard in "${left[@]}"; do
    [[ -e ${output%.safetensors}.shard-$shard-of-4.safetensors.partial ]] || continue
    disturb "$shard"
    left=("${left[@]/$shard/}")
    read -ra left <<<"${left[*]}"
  done
  sleep 0.1
done

for shard in 1 2 3; do
  grep -q "restarts: 1, goes on from .*\.partial$" "${output%.safetensors}.shard-$shard-of-4.log" ||
    fail "shard $shard did not go on from its checkpoint"
done
grep -h '^shard' -- "${output%.safetensors}".shard-*.log | sed "s|$work/||"

whole=$(sha256sum <"$work/whole.safetensors")
merged=$(sha256sum <"$output")
echo "without shards: ${whole%% *}"
echo "merged:         ${merged%% *}"
[[ $whole == "$merged" ]] || fail "they differ"
echo equal
