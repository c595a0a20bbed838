<?php
// Runs an action class of ko-worker as a persistent worker of qctl:
//
//     php ko-worker.php AUTOLOAD CLASS
//
// AUTOLOAD is a file that makes the class known, such as vendor/autoload.php. For each message a new object of the class is made
// and its execute(AMQPEnvelope, AMQPQueue) is called; what it returns means nothing, an exception fails the message. Needs PHP 8.

if ($argc !== 3) {
    fwrite(STDERR, "usage: php ko-worker.php AUTOLOAD CLASS\n");
    exit(64);
}

// Without ext-amqp: as much of its classes as an action needs.
if (!class_exists('AMQPEnvelope')) {
    class AMQPEnvelope
    {
    }
}
if (!class_exists('AMQPQueue')) {
    class AMQPQueue
    {
    }
}

/** The message, as ext-amqp shows it. */
class QctlEnvelope extends AMQPEnvelope
{
    private string $body;
    private array $message;

    public function __construct(array $params, array $message)
    {
        $this->body = $params['body'] ?? base64_decode($params['body_base64']);
        $this->message = $message;
    }

    public function getBody(): string { return $this->body; }
    public function getRoutingKey(): string { return $this->message['routing_key']; }
    public function getExchangeName(): ?string { return $this->message['exchange']; }
    public function getContentType(): ?string { return $this->message['content_type'] ?? ''; }
    public function getContentEncoding(): ?string { return ''; }
    public function getMessageId(): ?string { return $this->message['id'] ?? ''; }
    public function getCorrelationId(): ?string { return $this->message['correlation_id'] ?? ''; }
    public function getReplyTo(): ?string { return $this->message['reply_to'] ?? ''; }
    public function getPriority(): int { return $this->message['priority'] ?? 0; }
    public function getTimestamp(): ?int { return intdiv($this->message['timestamp'] ?? 0, 1000); }
    public function getDeliveryMode(): int { return 2; }
    public function getDeliveryTag(): ?int { return 0; }
    public function getConsumerTag(): ?string { return ''; }
    public function getExpiration(): ?string { return ''; }
    public function getType(): ?string { return ''; }
    public function getUserId(): ?string { return ''; }
    public function getAppId(): ?string { return ''; }
    public function getClusterId(): ?string { return ''; }
    public function isRedelivery(): bool { return ($this->message['deliveries'] ?? 1) > 1; }
    public function getHeaders(): array { return $this->message['headers']; }
    public function hasHeader($name): bool { return isset($this->message['headers'][$name]); }
    public function getHeader($name): mixed { return $this->message['headers'][$name] ?? false; }
}

/** Thrown where an action gives its message back; code 65 is for good. */
class QctlRefused extends RuntimeException
{
}

/** The queue, as far as an action may touch it: qctl settles the message when the action has ended. */
class QctlQueue extends AMQPQueue
{
    private string $name;

    public function __construct(string $name) { $this->name = $name; }

    public function getName(): ?string { return $this->name; }
    public function ack($deliveryTag = 0, $flags = 0): void {}
    public function nack($deliveryTag = 0, $flags = 0): void { throw new QctlRefused('nack', $flags ? 1 : 65); }
    public function reject($deliveryTag = 0, $flags = 0): void { throw new QctlRefused('reject', $flags ? 1 : 65); }
}

function say(array $words): void
{
    fwrite(STDOUT, json_encode(['jsonrpc' => '2.0'] + $words, JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR) . "\n");
}

require $argv[1];
$class = ltrim($argv[2], '\\');
if (!method_exists($class, 'execute')) {
    fwrite(STDERR, "there is no class $class with a method execute after $argv[1] was loaded\n");
    exit(78);
}

say(['method' => 'ready']);
while (($line = fgets(STDIN)) !== false) {
    $request = json_decode($line, true);
    // What an action prints is talk, and standard output is for answers.
    ob_start(static function (string $printed): string {
        fwrite(STDERR, $printed);
        return '';
    }, 1);
    try {
        $message = $request['message'];
        (new $class())->execute(new QctlEnvelope($request['params'], $message), new QctlQueue($message['queue']));
        $answer = ['result' => null];
    } catch (QctlRefused $refused) {
        $again = $refused->getCode() !== 65;
        $answer = ['error' => ['code' => 1, 'message' => $refused->getMessage(), 'data' => ['retry' => $again]]];
    } catch (Throwable $error) {
        $answer = ['error' => ['code' => 1, 'message' => get_class($error) . ': ' . $error->getMessage()]];
    }
    ob_end_clean();
    say(['id' => $request['id']] + $answer);
}
