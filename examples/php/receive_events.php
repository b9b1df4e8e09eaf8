<?php
// Receive events as signed webhooks (Standard Webhooks), for trying out with PHP's own server:
// WEBHOOK_SECRET=whsec_... php -S 127.0.0.1:8080 receive_events.php

declare(strict_types=1);

const TOLERANCE_S = 300;

function is_genuine(string $body): bool
{
    $secret = base64_decode(preg_replace('/^whsec_/', '', getenv('WEBHOOK_SECRET')));
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > TOLERANCE_S) {
        return false;
    }
    $wanted = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $secret, true));
    // There are several signatures while the secret is being replaced; one that fits is enough.
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $shown) {
        if (hash_equals($wanted, $shown)) {
            return true;
        }
    }
    return false;
}

$body = file_get_contents('php://input', length: 1024 * 1024);
if (!is_genuine($body)) {
    http_response_code(401);
    exit;
}
$event = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
// An event may come twice, with the same webhook-id: remember those that you have dealt with.
file_put_contents(
    'php://stderr',
    "$_SERVER[HTTP_WEBHOOK_ID] $event[type] " . json_encode($event['data']) . "\n",
);
http_response_code(204);
