<?php
// Send an SMS and wait for the result: php send_sms.php ORDER PHONE MESSAGE

declare(strict_types=1);

require __DIR__ . '/integrationd.php';

[, $order, $phone, $message] = $argv;
$call = send("order-$order-sms", [
    'operation' => 'sms.send',
    'payload' => ['to' => $phone, 'message' => $message],
    'reference' => ['type' => 'order', 'id' => $order],
]);
echo "$call[id] $call[state] $call[detail]\n";
