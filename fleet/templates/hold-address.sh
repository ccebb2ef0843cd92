#!/bin/sh
# Holds the address of the API server on the interface that leads out. It is taken only while nobody answers at it: a machine
# that replaces another one joins through the old one, and takes the address over when that one is gone.
set -eu

address=ADDRESS

while true; do
	device=$(ip -o route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
	if [ -n "$device" ] && ! ip -o address show | grep -q " $address/" && ! ping -c 3 -W 1 -q "$address" >/dev/null 2>&1; then
		ip address add "$address/32" dev "$device"
	fi
	sleep 2
done
