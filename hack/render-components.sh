#!/usr/bin/env bash
# Prints the components of a manager, as clusterctl wants them of a provider: what a kustomization makes, with one image.
#
#   hack/render-components.sh DIRECTORY IMAGE [PULL-POLICY]
#
# DIRECTORY holds the kustomization, such as config/infrastructure/default, and may be read-only. PULL-POLICY is IfNotPresent
# by default.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly build_tools=$repo/hack/build-tools.sh

fail() {
	echo "render-components: $*" >&2
	exit 1
}

# full_name IMAGE puts the registry before a name that has none, and the user before one that has neither, as every
# container runtime does. clusterctl refuses short names. The registry is what the module says that they all use.
full_name() {
	local image=$1 registry
	case ${image%%/*} in
	"$image") image=library/$image ;;
	localhost | *.* | *:*)
		echo "$image"
		return
		;;
	esac
	registry=$(GOWORK=off GOFLAGS=-mod=readonly go -C "$repo/hack/tools/capi" mod download -json github.com/distribution/reference |
		awk -F'"' '$2 == "Dir" { print $4 }')
	registry=$(awk -F'"' '$1 ~ /^[[:space:]]*defaultDomain[[:space:]]*= $/ { print $2 }' "$registry/normalize.go")
	if [[ -z $registry ]]; then fail "cannot tell the full name of $image: give it with its registry"; fi
	echo "$registry/$image"
}

# write_kustomization DIRECTORY IMAGE PULL-POLICY: kustomize takes a base by its relative path only. A JSON patch takes any
# name of an image, with port and digest as well.
write_kustomization() {
	cat >"$work/kustomization.yaml" <<-YAML
		apiVersion: kustomize.config.k8s.io/v1beta1
		kind: Kustomization
		resources:
		- $(realpath --relative-to "$work" "$1")
		patches:
		- target: {kind: Deployment}
		  patch: |
		    - {op: replace, path: /spec/template/spec/containers/0/image, value: "$2"}
		    - {op: add, path: /spec/template/spec/containers/0/imagePullPolicy, value: $3}
	YAML
}

main() {
	local directory=${1-} image=${2-} policy=${3-IfNotPresent}
	if (($# < 2 || $# > 3)); then fail "usage: hack/render-components.sh DIRECTORY IMAGE [PULL-POLICY]"; fi
	if [[ ! -f $directory/kustomization.yaml ]]; then fail "$directory has no kustomization.yaml"; fi
	if [[ ! $image =~ ^[A-Za-z0-9][A-Za-z0-9./:@_-]*$ ]]; then fail "\"$image\" is not the name of an image"; fi
	case $policy in
	Always | IfNotPresent | Never) ;;
	*) fail "the pull policy is Always, IfNotPresent or Never, not $policy" ;;
	esac
	image=$(full_name "$image")
	"$build_tools" kubectl >/dev/null
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	write_kustomization "$directory" "$image" "$policy"
	"$("$build_tools" --dir)/kubectl" kustomize "$work"
}

main "$@"
