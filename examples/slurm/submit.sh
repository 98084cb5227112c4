#!/usr/bin/env bash
# Submits a calibration in shards and the merge after it; prints the ids of both jobs.
set -euo pipefail

fail() {
  echo "submit.sh: $1" >&2
  exit 2
}

if (($# < 4)); then
  fail "wanted PIPELINE PROMPTS SHARDS OUTPUT [wanq calibrate options]"
fi
pipeline=$1 prompts=$2 shards=$3 output=$4
shift 4

[[ -d $pipeline ]] || fail "there is no folder $pipeline"
[[ -f $prompts ]] || fail "there is no file $prompts"
[[ $shards =~ ^[1-9][0-9]{0,5}$ ]] || fail "SHARDS is a number from 1, not $shards"
[[ ! -e $output ]] || fail "$output exists already"
mkdir -p -- "$(dirname -- "$output")"

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# Slurm replaces %a and its like in the whole path of a log, the working folder's too.
log=$(realpath -m -- "${output%.safetensors}")
log=${log//%/%%}
read -ra options <<<"${SBATCH_OPTIONS:-}"

array=$(sbatch --parsable --array="1-$shards" --output="$log.shard-%a-of-$shards.log" "${options[@]}" \
  "$here/calibrate.sbatch" "$pipeline" "$prompts" "$output" "$@")
array=${array%%;*}
if ! merge=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes --output="$log.merge.log" \
  "$here/merge.sbatch" "$shards" "$output"); then
  scancel "$array"
  fail "the merge was refused, and the calibration is cancelled"
fi
echo "calibrate $array"
echo "merge ${merge%%;*}"
