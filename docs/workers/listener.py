#!/usr/bin/env python3
"""A listener of qctl that lives on (`program:`), complete: a message with "test" in its body is not handled."""
import json, sys

def say(**words):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **words}) + "\n")
    sys.stdout.flush()

say(method="ready")
for line in sys.stdin:
    request = json.loads(line)
    event = request["params"]
    is_test = event["event"] == "message_received" and "test" in event.get("body", "")
    print(event["event"], event["name"], file=sys.stderr)  # goes to the consumer's log
    say(id=request["id"], result="swallow" if is_test else "go")
