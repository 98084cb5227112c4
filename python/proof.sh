# What the proofs of the scripts here have in common; sourced, with `root` set.

step() {
  local label=$1 start=$SECONDS
  shift
  echo "== $label"
  "$@"
  echo "-- $label: $((SECONDS - start)) s"
}

wanq() {
  node "$root/bin/wanq.js" "$@"
}
