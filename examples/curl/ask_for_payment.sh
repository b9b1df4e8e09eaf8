#!/bin/sh
# Ask for a payment and show what the customer has to do: ask_for_payment.sh ORDER AMOUNT PHONE
set -eu
order=$1 amount=$2 phone=$3
socket=${INTEGRATIOND_SOCKET:-/run/integrationd/integrationd.sock}

# In the answer: state "waiting", and in result a redirect_url or instructions to show.
# When the money is there, the state is "completed"; follow_events.sh shows it as it happens.
curl --silent --show-error --fail-with-body --unix-socket "$socket" http://localhost/v1/calls \
  --retry 20 --retry-all-errors --retry-max-time 60 \
  -H "Idempotency-Key: order-$order-payment" -H "Prefer: wait=10" \
  -d '{
    "operation": "payment.initiate",
    "payload": {
      "amount": "'"$amount"'", "currency": "KES",
      "customer": {"phone": "'"$phone"'"}, "account": "order'"$order"'"
    },
    "reference": {"type": "order", "id": "'"$order"'"}
  }'
