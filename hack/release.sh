#!/usr/bin/env bash
# Writes a release: of the provider as clusterctl reads it from a repository, and of the fleet manager for kubectl apply:
#
#   <out>/infrastructure-sendan/<version>/infrastructure-components.yaml   all that is installed
#   <out>/infrastructure-sendan/<version>/metadata.yaml                    the contract of each release series
#   <out>/infrastructure-sendan/<version>/cluster-template*.yaml           clusters, for clusterctl generate cluster
#   <out>/infrastructure-sendan/<version>/clusterclass-sendan.yaml         the class of the topology flavor
#   <out>/clusterctl.yaml                                                  tells clusterctl about this directory
#   <out>/fleet-manager/<version>/fleet-components.yaml                    all that is installed of the fleet manager
#
#   hack/release.sh [--out DIR] [--version V] [--pull-policy P] [--image IMAGE] [--config DIR]
#                   [--fleet-image IMAGE] [--fleet-config DIR]
#
#   --out          where to write; _release by default, or $RELEASE_DIR
#   --version      v0.1.0 by default, or $RELEASE_VERSION; its series must be in metadata.yaml
#   --pull-policy  IfNotPresent by default
#   --image        what the provider runs, sendan/infrastructure-manager:dev by default, or $RELEASE_IMAGE
#   --config       the kustomization to render, config/infrastructure/default by default; others are in overlays beside it
#   --fleet-image, --fleet-config
#                  the same of the fleet manager: sendan/fleet-manager:dev, or $RELEASE_FLEET_IMAGE; config/fleet/default
#
# It prints the directory of the provider's release.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${RELEASE_DIR:-_release}
version=${RELEASE_VERSION:-v0.1.0}
image=${RELEASE_IMAGE:-sendan/infrastructure-manager:dev}
fleet_image=${RELEASE_FLEET_IMAGE:-sendan/fleet-manager:dev}
policy=IfNotPresent
config=$repo/config/infrastructure/default
fleet_config=$repo/config/fleet/default

fail() {
	echo "release: $*" >&2
	exit 1
}

parse() {
	while (($# > 0)); do
		case $1 in
		-h | --help)
			sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
			exit
			;;
		--out | --version | --pull-policy | --image | --config | --fleet-image | --fleet-config)
			if (($# < 2)); then fail "$1 needs a value"; fi
			;;&
		--out) out=$2 ;;
		--version) version=$2 ;;
		--pull-policy) policy=$2 ;;
		--image) image=$2 ;;
		--config) config=$2 ;;
		--fleet-image) fleet_image=$2 ;;
		--fleet-config) fleet_config=$2 ;;
		*) fail "unknown option $1; try --help" ;;
		esac
		shift 2
	done
}

# require_series: clusterctl refuses a version whose series is not in metadata.yaml, on the user's machine.
require_series() {
	if [[ ! $version =~ ^v([0-9]+)\.([0-9]+)\.[0-9]+([-+][0-9A-Za-z.+-]+)?$ ]]; then
		fail "$version is not a version such as v0.1.0"
	fi
	if ! awk -v major="${BASH_REMATCH[1]}" -v minor="${BASH_REMATCH[2]}" '
		$2 == "major:" { found = $3 == major }
		$1 == "minor:" && found && $2 == minor { ok = 1 }
		END { exit !ok }' "$repo/metadata.yaml"; then
		fail "metadata.yaml has no series ${BASH_REMATCH[1]}.${BASH_REMATCH[2]} for $version; add it with its contract"
	fi
}

write_release() {
	local directory=$1
	mkdir -p "$directory"
	"$repo/hack/render-components.sh" "$config" "$image" "$policy" >"$directory/infrastructure-components.yaml"
	cp "$repo/metadata.yaml" "$repo"/templates/cluster-template*.yaml "$repo"/templates/clusterclass-*.yaml "$directory/"
}

write_fleet_release() {
	local directory=$1
	mkdir -p "$directory"
	"$repo/hack/render-components.sh" "$fleet_config" "$fleet_image" "$policy" >"$directory/fleet-components.yaml"
}

write_clusterctl_config() {
	cat >"$out/clusterctl.yaml" <<-YAML
		providers:
		- name: sendan
		  type: InfrastructureProvider
		  url: $out/infrastructure-sendan/$version/infrastructure-components.yaml
		# The class of this release is used through it.
		CLUSTER_TOPOLOGY: "true"
	YAML
}

parse "$@"
require_series
mkdir -p "$out"
out=$(cd "$out" && pwd)
write_release "$out/infrastructure-sendan/$version"
write_fleet_release "$out/fleet-manager/$version"
write_clusterctl_config
echo "$out/infrastructure-sendan/$version"
