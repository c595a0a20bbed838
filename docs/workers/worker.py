#!/usr/bin/env python3
"""A persistent worker of qctl, complete."""
import json, sys

def handle(method, params, message):
    """Does the work. What it returns is the result; what it raises fails the message."""
    if params == {"body": ""}:
        raise ValueError("the body is empty")
    return {"method": method, "params": params, "attempt": message["attempt"]}

def say(**words):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **words}) + "\n")
    sys.stdout.flush()

say(method="ready")
for line in sys.stdin:
    request = json.loads(line)
    try:
        say(id=request["id"], result=handle(request["method"], request["params"], request["message"]))
    except Exception as error:
        say(id=request["id"], error={"code": 1, "message": str(error)})
