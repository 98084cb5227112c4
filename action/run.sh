#!/usr/bin/env bash
# Evaluates a quantized pipeline and judges it. Inputs come by the environment and go on as arguments; none of them is expanded again.
# Ends with wanq's exit code: 0 passed, 1 failed, others as the README has them.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

fail() {
  printf 'wanq action: %s\n' "$1" >&2
  exit 2
}

[ -n "$REFERENCE" ] || fail 'the input reference is empty'
[ -n "$QUANTIZED" ] || fail 'the input quantized is empty'
[ -n "$PROMPTS" ] || fail 'the input prompts is empty'

trim() {
  trimmed="${1#"${1%%[![:space:]]*}"}"
  trimmed="${trimmed%"${trimmed##*[![:space:]]}"}"
}

# bash 3.2 of macOS has neither mapfile nor empty arrays under set -u.
extra=(eval)
while IFS= read -r line || [ -n "$line" ]; do
  trim "$line"
  line="$trimmed"
  [ -n "$line" ] || continue
  [[ "$line" =~ ^--[a-z] ]] || fail 'every line of the input options begins with --'
  name="${line%%[[:space:]]*}"
  case "$name" in
    *=* | "$line") extra+=("$line") ;;
    *)
      trim "${line#"$name"}"
      extra+=("$name=$trimmed")
      ;;
  esac
done <<<"${OPTIONS:-}"

report="$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/wanq-XXXXXX")/report"
printf 'report-path=%s\n' "$report" >>"$GITHUB_OUTPUT"

# What models and prompts are called is printed: until the token comes again, GitHub takes no line for a command.
token="$(node -p 'crypto.randomUUID()')"
printf '::stop-commands::%s\n' "$token"
code=0
# Options given last count. The verdict is told by the gate below; here it is for the report and its advice.
GITHUB_ACTIONS='' GITHUB_STEP_SUMMARY='' node "$WANQ" "${extra[@]}" "--prompts=$PROMPTS" "--output=$report" \
  "--gate=${RULES:-wanq:recommended}" -- "$REFERENCE" "$QUANTIZED" || code=$?
printf '::%s::\n' "$token"
[ "$code" -le 1 ] || exit "$code"

gate=(gate "--rules=${RULES:-wanq:recommended}" "--markdown=$report/gate.md" "--junit=$report/junit.xml")
[ -z "${BASELINE:-}" ] || gate+=("--baseline=$BASELINE")
code=0
node "$WANQ" "${gate[@]}" -- "$report/results.json" || code=$?
[ "$code" -le 1 ] || exit "$code"
verdict=passed
[ "$code" -eq 0 ] || verdict=failed
node "$here/outputs.mjs" "$report/results.json" "$verdict" >>"$GITHUB_OUTPUT"
exit "$code"
