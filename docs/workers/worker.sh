#!/bin/sh
# A persistent worker of qctl, complete. It needs jq.

# Does the work: the request is its standard input. What it prints is the result; if it fails, so does the message.
handle() {
    jq -ec 'if .params == {body: ""} then empty else {method, params, attempt: .message.attempt} end'
}

echo '{"jsonrpc": "2.0", "method": "ready"}'
while IFS= read -r request; do
    id=$(printf '%s' "$request" | jq .id)
    if result=$(printf '%s' "$request" | handle); then
        printf '{"jsonrpc": "2.0", "id": %s, "result": %s}\n' "$id" "$result"
    else
        printf '{"jsonrpc": "2.0", "id": %s, "error": {"code": 1, "message": "the body is empty"}}\n' "$id"
    fi
done
