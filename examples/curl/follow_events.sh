#!/bin/sh
# Follow events of calls and payments: follow_events.sh [NUMBER OF THE LAST ONE SEEN]
set -eu
seen=${1:-}
socket=${INTEGRATIOND_SOCKET:-/run/integrationd/integrationd.sock}

# Keep the last id: with it, nothing is missed and nothing comes twice after a break.
exec curl --silent --show-error --fail --no-buffer --unix-socket "$socket" \
  "http://localhost/v1/events?type=call.*,payment.*" \
  -H "Accept: text/event-stream" -H "Last-Event-ID: $seen"
