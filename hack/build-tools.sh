#!/usr/bin/env bash
# Builds the programs this project runs and is checked with, from the Go modules pinned in hack/tools/*/go.mod,
# so that a fresh machine needs Go, gcc, git and make, and nothing else from the network than Go modules.
#
#   hack/build-tools.sh [GROUP|TOOL...]   builds what is missing; the default is every group
#   hack/build-tools.sh --dir             prints the set directory, built or not
#   hack/build-tools.sh --list            prints group, tool and version of everything it knows
#
# Groups
#   plane   what a management plane is made of: etcd, kube-apiserver, kube-controller-manager, kubectl,
#           cluster-api-core, cluster-api-bootstrap-kubeadm, cluster-api-control-plane-kubeadm, clusterctl, manifests
#   node    what a node image needs beside those: kubelet, kubeadm, kube-scheduler, kube-proxy, containerd and its
#           shim, ctr, coredns, the CNI plugins, and OpenStack's cloud-controller-manager
#   e2e     what real nodes are tested with: kind, and cluster-api-docker, Cluster API's own provider for containers
#   dev     what the source is generated and checked with: controller-gen, golangci-lint
#
# Layout, below ${SENDAN_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sendan/tools}
#   <tool>/<version>-<key>/<tool>   one build. The key is a hash of all that decides its content: go.mod, go.sum, flags
#   <tool>/<version>-<key>.log      what a failed build said
#   <tool>/<version>-<key>.lock     held while it is built, so that concurrent calls build each tool once
#   <tool>/<version>-<key>.partial  a build in progress, or what an interrupted one left; moved into place when complete
#   set-<key>/                      the set directory: a link with the plain name of each tool of this checkout, and
#   set-<key>/manifests/{core,bootstrap-kubeadm,control-plane-kubeadm}/{crd,webhook}.yaml
#
# The manifests are those of the pinned Cluster API, prepared for managers that run outside a cluster: the CRDs carry
# the contract labels of upstream's kustomization, and the webhook configurations of the three managers have distinct
# names. Whoever starts the managers fills in what only they know: clientConfig of the webhooks and of CRD conversion.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly epoch=1970-01-01T00:00:00Z
tools_dir=${SENDAN_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sendan/tools}

# group, tool, directory under hack/tools, module that gives the version, package ("-" where nothing is compiled)
readonly catalogue="
plane etcd                              etcd go.etcd.io/etcd/server/v3              go.etcd.io/etcd/server/v3
plane kube-apiserver                    kube k8s.io/kubernetes                      k8s.io/kubernetes/cmd/kube-apiserver
plane kube-controller-manager           kube k8s.io/kubernetes                      k8s.io/kubernetes/cmd/kube-controller-manager
plane kubectl                           kube k8s.io/kubernetes                      k8s.io/kubernetes/cmd/kubectl
plane cluster-api-core                  capi sigs.k8s.io/cluster-api                sigs.k8s.io/cluster-api/core
plane cluster-api-bootstrap-kubeadm     capi sigs.k8s.io/cluster-api                sigs.k8s.io/cluster-api/bootstrap/kubeadm
plane cluster-api-control-plane-kubeadm capi sigs.k8s.io/cluster-api                sigs.k8s.io/cluster-api/controlplane/kubeadm
plane clusterctl                        capi sigs.k8s.io/cluster-api                sigs.k8s.io/cluster-api/cmd/clusterctl
plane manifests                         capi sigs.k8s.io/cluster-api                -
node  kubelet                           kube k8s.io/kubernetes                      k8s.io/kubernetes/cmd/kubelet
node  kubeadm                           kube k8s.io/kubernetes                      k8s.io/kubernetes/cmd/kubeadm
node  kube-scheduler                    kube k8s.io/kubernetes                      k8s.io/kubernetes/cmd/kube-scheduler
node  kube-proxy                        kube k8s.io/kubernetes                      k8s.io/kubernetes/cmd/kube-proxy
node  containerd                        containerd github.com/containerd/containerd/v2 github.com/containerd/containerd/v2/cmd/containerd
node  containerd-shim-runc-v2           containerd github.com/containerd/containerd/v2 github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
node  ctr                               containerd github.com/containerd/containerd/v2 github.com/containerd/containerd/v2/cmd/ctr
node  cni-host-local                    cni github.com/containernetworking/plugins  github.com/containernetworking/plugins/plugins/ipam/host-local
node  cni-loopback                      cni github.com/containernetworking/plugins  github.com/containernetworking/plugins/plugins/main/loopback
node  cni-portmap                       cni github.com/containernetworking/plugins  github.com/containernetworking/plugins/plugins/meta/portmap
node  cni-ptp                           cni github.com/containernetworking/plugins  github.com/containernetworking/plugins/plugins/main/ptp
node  coredns                           coredns github.com/coredns/coredns          github.com/coredns/coredns
node  openstack-cloud-controller-manager cloud-controller-manager k8s.io/cloud-provider-openstack k8s.io/cloud-provider-openstack/cmd/openstack-cloud-controller-manager
e2e   kind                              kind sigs.k8s.io/kind                       sigs.k8s.io/kind
e2e   cluster-api-docker                capd sigs.k8s.io/cluster-api/test           sigs.k8s.io/cluster-api/test/infrastructure/docker
dev   controller-gen                    lint sigs.k8s.io/controller-tools           sigs.k8s.io/controller-tools/cmd/controller-gen
dev   golangci-lint                     lint github.com/golangci/golangci-lint/v2   github.com/golangci/golangci-lint/v2/cmd/golangci-lint
"

fail() {
	echo "build-tools: $*" >&2
	exit 1
}

# pinned_version MODULES MODULE reads the version from go.mod itself: asking the go command costs too much for a call
# that mostly finds everything built.
pinned_version() {
	awk -v module="$2" '
		$1 == "require" { $0 = substr($0, index($0, $2)) }
		$1 == module && $2 ~ /^v[0-9]/ { print $2; exit }' "$repo/hack/tools/$1/go.mod"
}

# linker_flags TOOL MODULES VERSION: without its version stamped in, a Kubernetes binary says v0.0.0-master, which
# Cluster API refuses to work with. The commit is not known from a module and the date is fixed: a build is reproducible.
linker_flags() {
	local tool=$1 modules=$2 version=$3 flags="-s -w" package minor
	local -a stamped=()
	case $modules,$tool in
	kube,*) stamped=(k8s.io/component-base/version k8s.io/client-go/pkg/version) ;;
	capi,* | capd,*) stamped=(sigs.k8s.io/cluster-api/version) ;;
	containerd,*) flags+=" -X github.com/containerd/containerd/v2/version.Version=${version#v}" ;;
	cloud-controller-manager,*)
		flags+=" -X k8s.io/cloud-provider-openstack/pkg/version.Version=$version"
		stamped=(k8s.io/component-base/version)
		;;
	lint,controller-gen) flags+=" -X sigs.k8s.io/controller-tools/pkg/version.version=$version" ;;
	lint,golangci-lint) flags+=" -X main.version=${version#v} -X main.commit=$version -X main.date=$epoch" ;;
	esac
	minor=${version#v*.}
	for package in "${stamped[@]}"; do
		flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
		flags+=" -X $package.gitTreeState=clean -X $package.gitCommit= -X $package.buildDate=$epoch"
	done
	echo "$flags"
}

# go_in MODULES SUBCOMMAND...: the go command on one of the pinned module sets, whatever workspace or flags the caller has.
go_in() {
	GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go -C "$repo/hack/tools/$1" "${@:2}"
}

# build_flags MODULES: the tags are those of upstream's release build that matter without cgo.
build_flags() {
	echo -trimpath -buildvcs=false
	case $1 in
	kube) echo -tags=grpcnotrace ;;
	containerd) echo -tags=no_btrfs,no_devmapper,no_zfs ;;
	esac
}

# compile TOOL MODULES VERSION PACKAGE DIRECTORY
compile() {
	local -a flags
	mapfile -t flags < <(build_flags "$2" | tr ' ' '\n')
	go_in "$2" build "${flags[@]}" -ldflags "$(linker_flags "$1" "$2" "$3")" -o "$5/$1" "$4"
}

# write_manifests VERSION DIRECTORY
write_manifests() {
	local source provider labels
	source=$(go_in capi mod download -json "sigs.k8s.io/cluster-api@$1" | awk -F'"' '$2 == "Dir" { print $4 }')
	for provider in core bootstrap/kubeadm controlplane/kubeadm; do
		local config=$source/$provider/config name
		case $provider in
		core) name=core ;;
		bootstrap/kubeadm) name=bootstrap-kubeadm ;;
		controlplane/kubeadm) name=control-plane-kubeadm ;;
		esac
		mkdir -p "$2/manifests/$name"
		labels=$(awk '$1 ~ /^cluster\.x-k8s\.io\/v[0-9a-z]+:$/ { print "    " $1 " " $2 }' "$config/crd/kustomization.yaml")
		# Cluster API resolves references to bootstrap and control-plane objects by these labels; its own kinds need none.
		if [[ -z $labels && $name != core ]]; then
			echo "no contract labels in $config/crd/kustomization.yaml"
			return 1
		fi
		awk -v labels="$labels" '{ print } /^metadata:$/ && labels { print "  labels:\n" labels }' \
			"$config"/crd/bases/*.yaml >"$2/manifests/$name/crd.yaml"
		sed -E "s/^(  name: (mutating|validating)-webhook-configuration)\$/\1-$name/" \
			"$config/webhook/manifests.yaml" >"$2/manifests/$name/webhook.yaml"
	done
}

# key TOOL MODULES VERSION: what decides the content of a build. The Go version counts only where it changes what a tool
# does: the linter refuses source for a newer Go than it was built with. The rest need no rebuild for a Go patch release.
key() {
	local recipe
	case $1 in
	manifests) recipe=$(declare -f write_manifests) ;;
	golangci-lint | controller-gen) recipe="$(build_flags "$2") $(linker_flags "$1" "$2" "$3") $go_version" ;;
	*) recipe="$(build_flags "$2") $(linker_flags "$1" "$2" "$3")" ;;
	esac
	{
		cat "$repo/hack/tools/$2/go.mod" "$repo/hack/tools/$2/go.sum"
		echo "$recipe $platform"
	} | sha256sum | cut -c1-12
}

# produce TOOL MODULES VERSION PACKAGE DIRECTORY
produce() {
	case $4 in
	-) write_manifests "$3" "$5" ;;
	*) compile "$@" ;;
	esac
}

# build TOOL MODULES VERSION PACKAGE DIRECTORY builds into DIRECTORY, unless another call did so while this one waited.
build() {
	local directory=$5 started=$SECONDS lock status log
	mkdir -p "$(dirname "$directory")"
	exec {lock}>"$directory.lock"
	if ! flock --nonblock "$lock"; then
		printf 'another call builds it … '
		flock "$lock"
	fi
	if [[ -d $directory ]]; then
		echo "ready after $((SECONDS - started))s"
	else
		log=$directory.log
		rm -rf "$directory.partial"
		mkdir "$directory.partial"
		# Not as the condition of an if: that would let the steps inside go on after a failed one.
		set +e
		(set -e && produce "${@:1:4}" "$directory.partial") >"$log" 2>&1
		status=$?
		set -e
		if ((status != 0)); then
			echo "failed after $((SECONDS - started))s"
			cat "$log" >&2
			exit 1
		fi
		mv -T "$directory.partial" "$directory"
		rm -f "$log"
		echo "built in $((SECONDS - started))s"
	fi
	exec {lock}>&-
}

# link NAME TARGET puts a plain name into the set directory; a program that is being started never finds it missing.
link() {
	local name=$set_dir/$1 target=$2
	if [[ $(readlink "$name" 2>/dev/null) == "$target" ]]; then return; fi
	ln -sfn "$target" "$name.$$"
	mv -fT "$name.$$" "$name"
}

# read_catalogue fills the arrays below, one entry for each tool, and set_dir.
declare -a groups tools module_sets versions packages directories
read_catalogue() {
	local group tool modules module package version keys=""
	while read -r group tool modules module package; do
		if [[ -z $group ]]; then continue; fi
		version=$(pinned_version "$modules" "$module")
		if [[ -z $version ]]; then fail "hack/tools/$modules/go.mod does not require $module"; fi
		groups+=("$group") tools+=("$tool") module_sets+=("$modules") versions+=("$version") packages+=("$package")
		directories+=("$tool/$version-$(key "$tool" "$modules" "$version")")
		keys+="${directories[-1]} "
	done <<<"$catalogue"
	set_dir=$tools_dir/set-$(sha256sum <<<"$keys" | cut -c1-12)
}

# select_tools [GROUP|TOOL...] prints the indexes of what was asked for, in the order of the catalogue.
select_tools() {
	local wanted i known
	for wanted in "$@"; do
		known=" ${groups[*]} ${tools[*]} "
		if [[ $known != *" $wanted "* ]]; then fail "no group or tool is called $wanted; try --list"; fi
	done
	for i in "${!tools[@]}"; do
		if (($# == 0)) || [[ " $* " == *" ${groups[i]} "* || " $* " == *" ${tools[i]} "* ]]; then echo "$i"; fi
	done
}

build_selected() {
	local i position=0 selection
	local -a selected
	selection=$(select_tools "$@")
	mapfile -t selected <<<"$selection"
	mkdir -p "$set_dir"
	for i in "${selected[@]}"; do
		position=$((position + 1))
		printf '[%d/%d] %s %s … ' "$position" "${#selected[@]}" "${tools[i]}" "${versions[i]}"
		if [[ -d $tools_dir/${directories[i]} ]]; then
			echo cached
		else
			build "${tools[i]}" "${module_sets[i]}" "${versions[i]}" "${packages[i]}" "$tools_dir/${directories[i]}"
		fi
		link "${tools[i]}" "../${directories[i]}/${tools[i]}"
	done
}

list() {
	local i
	for i in "${!tools[@]}"; do printf '%-6s %-36s %s\n' "${groups[i]}" "${tools[i]}" "${versions[i]}"; done
}

go_version=$(go env GOVERSION)
platform=$(uname -sm)
read_catalogue
case ${1-} in
--dir) echo "$set_dir" ;;
--list) list ;;
-h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" ;;
-*) fail "unknown option $1; try --help" ;;
*) build_selected "$@" ;;
esac
