#!/usr/bin/env bash
# Start the compose stack and stream through it (`start`), or run the tests against one of its own (`test`).
set -euo pipefail
cd "$(dirname "$0")/.."

has_engine() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

# Pulled one by one, so that a machine without a registry is told from a build that is broken.
has_base_images() {
  local image
  for image in python:3.13-slim redis:8 debian:trixie-slim; do
    docker image inspect "$image" >/dev/null 2>&1 || timeout 120 docker pull -q "$image" >/dev/null 2>&1 || return 1
  done
}

start() {
  docker compose up -d --build --wait
  local address url id last
  address=$(docker compose port balancer 8000)
  url=http://${address/0.0.0.0/127.0.0.1}
  first=$(mktemp) second=$(mktemp)   # not local: the trap outlives the function
  trap 'rm -f "$first" "$second"' EXIT
  local body='{"stream": true, "messages": [{"role": "user", "content": "Hello, containers."}]}'
  local keys key=()
  keys=$(docker compose exec -T gateway printenv RAILSTREAM_API_KEYS || true)
  [ -z "$keys" ] || key=(-H "authorization: Bearer ${keys%%,*}")

  curl -fsSN "${key[@]}" "$url/v1/chat/completions" -H 'content-type: application/json' -d "$body" >"$first"
  id=$(grep -om1 'chatcmpl-[0-9a-f]*' "$first")
  echo "streamed: $id, $(grep -c '^data: ' "$first") frames"
  last=$(grep '^id: ' "$first" | sed -n '5s/^id: //p')
  curl -fsSN "${key[@]}" "$url/v1/chat/completions/$id?stream=true" -H "last-event-id: $last" >"$second"
  # All from the sixth frame on, but for comments, which stand wherever time puts them.
  diff <(grep -v '^:' "$first" | sed -n "/^id: $last\$/,\$p" | sed '1,3d') <(grep -v '^:' "$second") >/dev/null \
    || { echo "the resumed stream differs from the rest of the first one"; exit 1; }
  echo "resumed:  the same one after frame $last, byte for byte"
  cat <<EOF

playground, API   $url and $url/v1
logs              docker compose logs -f
more workers      docker compose up -d --scale worker=4
stop              docker compose down (add -v to forget the streams)
EOF
}

run_tests() {
  if ! has_engine; then
    echo "skipped: no Docker engine with compose here"
    return
  fi
  if ! has_base_images; then
    echo "skipped: the base images are not here and cannot be pulled"
    return
  fi
  export COMPOSE_PROJECT_NAME=railstream-test PUBLISH=127.0.0.1:18000 UPSTREAM_PORT=19000
  export OPENAI_API_KEY=testing OPENAI_BASE_URL=http://upstream:9000/v1
  # Whatever .env says: the tests are of the stack as it is shipped.
  export RAILSTREAM_CONFIG= RAILSTREAM_DEFAULT_CONFIG= RAILSTREAM_API_KEYS= OTEL_EXPORTER_OTLP_ENDPOINT= WORKER_EXTRAS=
  trap 'docker compose --profile upstream down -v --timeout 5 >/dev/null 2>&1' EXIT
  docker compose --profile upstream up -d --build --wait
  docker image ls --format 'image {{.Repository}}: {{.Size}}' | grep 'image railstream-'
  COMPOSE_URL=http://127.0.0.1:18000 UPSTREAM_URL=http://127.0.0.1:19000 \
    "${PYTHON:-.venv/bin/python}" -m pytest tests/e2e/test_compose.py "$@"
}

case "${1:-}" in
  start) start ;;
  test) shift && run_tests "$@" ;;
  *) echo "usage: $0 start|test [pytest arguments]" && exit 2 ;;
esac
