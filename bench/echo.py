"""The persistent worker of scripts/bench-handlers: answers every request with its body."""
import json
import sys

out = sys.stdout


def say(**words):
    out.write(json.dumps({"jsonrpc": "2.0", **words}) + "\n")
    out.flush()


say(method="ready")
for line in sys.stdin:
    request = json.loads(line)
    say(id=request["id"], result=request["params"]["body"])
