<?php
// What the examples share: one request to integrationd, repeated until there is an answer.

declare(strict_types=1);

/** Hand a call over under a key: however often it is repeated, it is one call. */
function send(string $idempotencyKey, array $call, int $waitS = 10): array
{
    $url = getenv('INTEGRATIOND_URL') ?: 'http://127.0.0.1:8700';
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => [
            'Authorization: Bearer ' . getenv('INTEGRATIOND_KEY'),
            'Content-Type: application/json',
            "Idempotency-Key: $idempotencyKey",
            "Prefer: wait=$waitS",
        ],
        'content' => json_encode($call, JSON_THROW_ON_ERROR),
        'timeout' => $waitS + 30,
        'ignore_errors' => true,
    ]]);
    for ($left = 20;; $left--) {
        $http_response_header = [];
        $body = @file_get_contents("$url/v1/calls", false, $context);
        $status = (int) (explode(' ', $http_response_header[0] ?? '')[1] ?? 0);
        $told = is_string($body) ? json_decode($body, true) : null;
        if (in_array($status, [200, 202], true) && is_array($told)) {
            return $told;
        }
        // 0 and answers that were cut: the daemon may be restarting. The others: not now.
        $isForNow = in_array($status, [0, 200, 202, 429, 503, 507], true);
        if (!$isForNow || $left === 0) {
            throw new RuntimeException(is_array($told) ? "$told[code]: $told[detail]" : 'no answer');
        }
        sleep(is_array($told) ? max(1, $told['retry_after_s'] ?? 1) : 1);
    }
}
