<?php
// A callback of php-amqp that reads a JSON body and acknowledges each message: the loop that a worker in PHP usually is.
[, $host, $port, $login, $password, $queue, $count, $prefetch] = $argv;
$connection = new AMQPConnection(['host' => $host, 'port' => (int) $port, 'login' => $login, 'password' => $password, 'vhost' => '/']);
$connection->connect();
$channel = new AMQPChannel($connection);
$channel->setPrefetchCount((int) $prefetch);
$source = new AMQPQueue($channel);
$source->setName($queue);
$left = (int) $count;
$source->consume(function (AMQPEnvelope $message, AMQPQueue $source) use (&$left) {
    if (!is_array(json_decode($message->getBody(), true))) {
        exit(65);
    }
    $source->ack($message->getDeliveryTag());
    return --$left > 0;
});
$connection->disconnect();
