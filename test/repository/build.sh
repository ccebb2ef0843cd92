#!/usr/bin/env bash
# Writes a complete repository for clusterctl, so that a management cluster can be made without a network: Cluster API, its
# kubeadm providers, its provider for containers (CAPD) and Sendan, all from this tree and the pinned Go modules.
#
#   test/repository/build.sh --out DIR [--infrastructure-version V]
#
#   DIR/<provider>/<version>/   components and metadata.yaml of each provider, and the templates of Sendan
#   DIR/cert-manager.yaml       a stand-in for cert-manager, see test/certmanager; for kubectl apply
#   DIR/clusterctl.yaml         names them all: clusterctl --config DIR/clusterctl.yaml init ...
#   DIR/images                  what has to be on the nodes: kind load docker-image $(cat DIR/images)
#
# Another version of Sendan, v0.1.0 by default, is put beside those that are there, and becomes the default one.
#
# It builds the images with test/image/build.sh, and needs Docker for that. Where image registries can be reached none of
# this is needed: clusterctl knows Cluster API's own releases, and hack/release.sh writes Sendan's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
out=
infrastructure_version=v0.1.0

log() { echo "$*" >&2; }

fail() {
	log "test/repository/build.sh: $*"
	exit 1
}

parse() {
	while (($# > 0)); do
		case $1 in
		-h | --help)
			sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
			exit
			;;
		--out | --infrastructure-version)
			if (($# < 2)); then fail "$1 needs a value"; fi
			;;&
		--out) out=$2 ;;
		--infrastructure-version) infrastructure_version=$2 ;;
		*) fail "unknown option $1; try --help" ;;
		esac
		shift 2
	done
	if [[ -z $out ]]; then fail "--out DIR says where to write"; fi
}

go_in() { GOWORK=off GOFLAGS=-mod=readonly go -C "$repo/$1" "${@:2}"; }

# module DIRECTORY PATH sets version and source of a module that the go.mod in DIRECTORY pins.
module() {
	local found
	go_in "$1" mod download "$2"
	found=$(go_in "$1" list -m -f '{{.Version}} {{.Dir}}' "$2")
	read -r version source <<<"$found"
}

# build_images fills the array images, one for each name.
declare -A images
build_images() {
	local name image built
	built=$("$repo/test/image/build.sh" core bootstrap-kubeadm control-plane-kubeadm docker infrastructure-manager fleet-manager cert-manager)
	while IFS='=' read -r name image; do images[$name]=$image; done <<<"$built"
	printf '%s\n' "${images[@]}" | sort >"$out/images"
}

# write_provider LABEL FILE IMAGE-NAME DIRECTORY: one of Cluster API's own, as its module has it.
write_provider() {
	local directory=$out/$1/$version
	log "  $1 $version"
	mkdir -p "$directory"
	"$repo/hack/render-components.sh" "$source/$4" "${images[$3]}" >"$directory/$2-components.yaml"
	# The module of CAPD has no metadata; it follows the series of Cluster API.
	install -m 0644 "$metadata" "$directory/metadata.yaml"
	urls[$1]=$directory/$2-components.yaml
}

declare -A urls
write_cluster_api() {
	local version source metadata
	module hack/tools/capi sigs.k8s.io/cluster-api
	metadata=$source/metadata.yaml
	write_provider cluster-api core core core/config/default
	write_provider bootstrap-kubeadm bootstrap bootstrap-kubeadm bootstrap/kubeadm/config/default
	write_provider control-plane-kubeadm control-plane control-plane-kubeadm controlplane/kubeadm/config/default
	module hack/tools/capd sigs.k8s.io/cluster-api/test
	write_provider infrastructure-docker infrastructure docker infrastructure/docker/config/default
}

write_sendan() {
	log "  infrastructure-sendan $infrastructure_version"
	urls[infrastructure-sendan]=$("$repo/hack/release.sh" --out "$out" --version "$infrastructure_version" \
		--image "${images[infrastructure-manager]}" --fleet-image "${images[fleet-manager]}")/infrastructure-components.yaml
}

# write_cert_manager: clusterctl reads it by its version, as it reads a provider; people find it by the plain name.
write_cert_manager() {
	local version source kind
	module test/certmanager github.com/cert-manager/cert-manager
	log "  cert-manager $version, a stand-in"
	mkdir -p "$out/cert-manager/$version"
	{
		for kind in certificates clusterissuers issuers; do cat "$source/deploy/crds/cert-manager.io_$kind.yaml"; done
		echo ---
		"$repo/hack/render-components.sh" "$repo/test/certmanager/config" "${images[cert-manager]}"
	} >"$out/cert-manager/$version/cert-manager.yaml"
	ln -sfn "cert-manager/$version/cert-manager.yaml" "$out/cert-manager.yaml"
	cert_manager_version=$version
}

# write_config: the class of a Sendan release is used through ClusterTopology.
write_config() {
	cat >"$out/clusterctl.yaml" <<-YAML
		providers:
		- {name: cluster-api, type: CoreProvider, url: "${urls[cluster-api]}"}
		- {name: kubeadm, type: BootstrapProvider, url: "${urls[bootstrap-kubeadm]}"}
		- {name: kubeadm, type: ControlPlaneProvider, url: "${urls[control-plane-kubeadm]}"}
		- {name: docker, type: InfrastructureProvider, url: "${urls[infrastructure-docker]}"}
		- {name: sendan, type: InfrastructureProvider, url: "${urls[infrastructure-sendan]}"}
		cert-manager:
		  url: $out/cert-manager/$cert_manager_version/cert-manager.yaml
		  version: $cert_manager_version
		CLUSTER_TOPOLOGY: "true"
	YAML
}

parse "$@"
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build_images
log "writing $out"
write_cluster_api
write_sendan
write_cert_manager
write_config
echo "$out/clusterctl.yaml"
