#!/bin/sh
# A listener of qctl (`run:`), complete: it is run for each event, which is its standard input. It needs jq.
event=$(cat)
case $QCTL_EVENT in
    process_stopped) printf '%s' "$event" | jq -r '"\(.worker).\(.instance) ended: \(.reason)"' >>ends.txt ;;
    message_received) [ ! -e maintenance ] || echo stop ;; # its last line is the answer
esac
