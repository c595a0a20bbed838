<?php
// A persistent worker of qctl, complete.

/** Does the work. What it returns is the result; what it throws fails the message. */
function handle(string $method, array $params, array $message) {
    if ($params === ['body' => '']) {
        throw new Exception('the body is empty');
    }
    return ['method' => $method, 'params' => $params, 'attempt' => $message['attempt']];
}

function say(array $words): void {
    fwrite(STDOUT, json_encode(['jsonrpc' => '2.0'] + $words, JSON_THROW_ON_ERROR) . "\n");
}

say(['method' => 'ready']);
while (($line = fgets(STDIN)) !== false) {
    $request = json_decode($line, true);
    try {
        say(['id' => $request['id'], 'result' => handle($request['method'], $request['params'], $request['message'])]);
    } catch (Throwable $error) {
        say(['id' => $request['id'], 'error' => ['code' => 1, 'message' => $error->getMessage()]]);
    }
}
