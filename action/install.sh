#!/usr/bin/env bash
# Finds wanq in the working directory, or installs it. Output of the step: wanq, the path of its bin/wanq.js.
set -euo pipefail

fail() {
  printf 'wanq action: %s\n' "$1" >&2
  exit 2
}

if [ -f bin/wanq.js ] && [ "$(node -p 'require("./package.json").name')" = wanq ]; then
  [ -d node_modules ] || npm ci
  [ -f dist/cli/main.js ] || npm run build
  wanq="$PWD/bin/wanq.js"
elif [ -f node_modules/wanq/bin/wanq.js ]; then
  wanq="$PWD/node_modules/wanq/bin/wanq.js"
else
  # A version or a tag: npm would take a path or an address too.
  [[ "$WANQ_VERSION" =~ ^[0-9A-Za-z][0-9A-Za-z.+-]*$ ]] || fail 'wanq-version is neither a version nor a tag'
  npm install --prefix "$RUNNER_TEMP/wanq" --no-save --no-audit --no-fund "wanq@$WANQ_VERSION"
  wanq="$RUNNER_TEMP/wanq/node_modules/wanq/bin/wanq.js"
fi
case "$wanq" in
  *$'\n'*) fail 'the path of wanq has a line break' ;;
esac
printf 'wanq=%s\n' "$wanq" >>"$GITHUB_OUTPUT"
