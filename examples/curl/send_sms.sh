#!/bin/sh
# Send an SMS and wait for the result: send_sms.sh ORDER PHONE MESSAGE
set -eu
order=$1 phone=$2 message=$3
socket=${INTEGRATIOND_SOCKET:-/run/integrationd/integrationd.sock}

# curl repeats the request while the daemon restarts or is busy; the key makes that one SMS.
curl --silent --show-error --fail-with-body --unix-socket "$socket" http://localhost/v1/calls \
  --retry 20 --retry-all-errors --retry-max-time 60 \
  -H "Idempotency-Key: order-$order-sms" -H "Prefer: wait=10" \
  -d '{
    "operation": "sms.send",
    "payload": {"to": "'"$phone"'", "message": "'"$message"'"},
    "reference": {"type": "order", "id": "'"$order"'"}
  }'
