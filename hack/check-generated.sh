#!/usr/bin/env bash
# Fails if `make generate` changes a generated file. It compares contents before and after, not with the last commit,
# so that it works in a tree with uncommitted work.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

checksums() {
	{
		find . -name 'zz_generated*.go' -not -path './.git/*'
		find config -type f -name '*.yaml' 2>/dev/null || true
	} | sort | xargs --no-run-if-empty sha256sum
}

before=$(checksums)
make --no-print-directory generate
after=$(checksums)
if [[ $before != "$after" ]]; then
	echo "generated files were out of date; they are regenerated now, commit them:" >&2
	comm -3 <(sort <<<"$before") <(sort <<<"$after") | awk 'NF { print "  " $2 }' | sort -u >&2
	exit 1
fi
