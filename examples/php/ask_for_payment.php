<?php
// Ask for a payment and show what the customer has to do:
// php ask_for_payment.php ORDER AMOUNT PHONE

declare(strict_types=1);

require __DIR__ . '/integrationd.php';

[, $order, $amount, $phone] = $argv;
$call = send("order-$order-payment", [
    'operation' => 'payment.initiate',
    'payload' => [
        'amount' => $amount,
        'currency' => 'KES',
        'customer' => ['phone' => $phone],
        'account' => "order$order",
    ],
    'reference' => ['type' => 'order', 'id' => $order],
]);
if ($call['state'] === 'waiting') {
    echo $call['result']['redirect_url'] ?? $call['result']['instructions'] ?? '', "\n";
}
// When the money is there, a payment.succeeded event comes: see receive_events.php.
echo "$call[id] $call[state] $call[detail]\n";
