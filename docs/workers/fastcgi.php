<?php
http_response_code(500); // until the work is done: whatever goes wrong before that is tried again
$body = file_get_contents('php://input');
if (strlen($body) !== (int) $_SERVER['CONTENT_LENGTH']) {
    exit('the body did not arrive'); // PHP has read a form itself
}
$order = json_decode($body, true);
if (!isset($order['id'])) {
    header('X-Qctl-Reason: not an order');
    http_response_code(422); // no attempt can help: to the dead-letter queue
    exit;
}
file_put_contents($_SERVER['APP_ORDERS'], "{$order['id']} of {$_SERVER['QCTL_QUEUE']}\n", FILE_APPEND | LOCK_EX) || exit('the order was not kept');
http_response_code(200);
echo "order {$order['id']} is done"; // the reply, where the sender waits for one
