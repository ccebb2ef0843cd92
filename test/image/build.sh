#!/usr/bin/env bash
# Builds container images from Go modules and Debian packages, without a registry, and prints NAME=IMAGE for each.
#
#   test/image/build.sh [NAME...]     builds what is missing; the default is every image
#
# Names
#   node                     boots as a Kubernetes node, as kindest/node does; NODE_IMAGE names another one to use instead
#   core, bootstrap-kubeadm, control-plane-kubeadm, docker
#                            Cluster API's managers, and its own provider for containers
#   haproxy                  the load balancer of that provider
#   infrastructure-manager, fleet-manager
#                            this project's provider, and its fleet manager
#   openstack-simulator      the simulated cloud
#   cert-manager             the stand-in for cert-manager, see test/certmanager
#   cni, probe               the network of pods on test nodes, and what tests run in pods; both are part of node
#   openstack-cloud-controller-manager
#                            what gives Services load balancers of a cloud; part of node
#
# An image is called sendan/NAME:VERSION-KEY, where KEY is a hash of all that goes into it, and sendan/NAME:VERSION as
# well. VERSION is that of Kubernetes for nodes, and "dev" for the rest.
#
# It needs Docker, Go and gcc; for node and haproxy also root and debootstrap. README.md tells more.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
readonly build_tools=$repo/hack/build-tools.sh
readonly all="probe cni openstack-cloud-controller-manager infrastructure-manager fleet-manager openstack-simulator cert-manager core bootstrap-kubeadm control-plane-kubeadm docker haproxy node"
readonly node_gib=8
readonly haproxy_gib=1
readonly older_kept=2
# Debian 12, whose systemd still runs on hosts with cgroup v1.
readonly debian=bookworm
readonly node_packages=systemd,systemd-sysv,dbus,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,conntrack,libseccomp2,pigz,e2fsprogs,ca-certificates,curl,jq,procps,iputils-ping,runc,socat
readonly node_programs="etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl coredns
	containerd containerd-shim-runc-v2 ctr cni-host-local cni-loopback cni-portmap cni-ptp
	openstack-cloud-controller-manager"

log() { echo "$*" >&2; }

fail() {
	log "test/image/build.sh: $*"
	exit 1
}

in_docker() { docker image inspect "$1" >/dev/null 2>&1; }

# tag IMAGE: the name without the key follows.
tag() { docker tag "$1" "${1%-*}"; }

key_of() { cat "$@" | sha256sum | cut -c1-12; }

# tools NAME prints what an image needs of hack/build-tools.sh.
tools() {
	case $1 in
	core | bootstrap-kubeadm | control-plane-kubeadm | docker) echo "cluster-api-$1" ;;
	openstack-cloud-controller-manager) echo "$1" ;;
	node) if [[ -z ${NODE_IMAGE-} ]]; then echo "$node_programs"; fi ;;
	esac
}

# tool NAME prints the file that a plain name leads to, whose path holds its version and key.
tool() { readlink -f "$tool_set/$1"; }

pinned() { GOWORK=off GOFLAGS=-mod=readonly go -C "$repo/hack/tools/$1" "${@:2}"; }

# module_directory TOOLS MODULE prints where the source of a pinned module is.
module_directory() {
	pinned "$1" mod download "$2"
	pinned "$1" list -m -f '{{.Dir}}' "$2"
}

# go_build DIRECTORY PACKAGE FILE: the same source makes the same file, and a file that is up to date is left alone.
go_build() { GOWORK=off CGO_ENABLED=0 go -C "$repo/$1" build -trimpath -buildvcs=false -ldflags "-s -w" -o "$3" "$2"; }

# binary NAME prints the file that an image consists of.
binary() {
	local file=$programs/$1
	case $1 in
	probe | cni) go_build test/image "./$1" "$file" ;;
	infrastructure-manager | fleet-manager) go_build . "./cmd/$1" "$file" ;;
	openstack-simulator) go_build cmd/openstack-simulator . "$file" ;;
	cert-manager) go_build test/certmanager . "$file" ;;
	core | bootstrap-kubeadm | control-plane-kubeadm | docker) file=$(tool "cluster-api-$1") ;;
	openstack-cloud-controller-manager) file=$(tool "$1") ;;
	esac
	echo "$file"
}

# import ROOT IMAGE [CHANGE...] makes an image of a directory.
import() {
	local root=$1 image=$2 change
	local -a changes=(--change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	for change in "${@:3}"; do changes+=(--change "$change"); done
	tar -C "$root" --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name -c . |
		docker import "${changes[@]}" - "$image" >/dev/null
}

# from_scratch IMAGE PATH FILE [CHANGE...]: an image that holds one program and the certificates of the public
# authorities, which a cloud's may be among.
from_scratch() {
	local image=$1 path=$2 file=$3 root
	root=$(mktemp -d "$work/scratch-XXXXXX")
	install -D -m 0755 "$file" "$root/$path"
	if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
		install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
	fi
	mkdir -m 1777 "$root/tmp"
	import "$root" "$image" "ENTRYPOINT [\"$path\"]" "WORKDIR /" "${@:4}"
	rm -rf "$root"
}

# build_program NAME prints its image.
build_program() {
	local name=$1 file image path=/manager user=65532
	file=$(binary "$name")
	image=sendan/$name:dev-$(key_of "$file" "${BASH_SOURCE[0]}")
	case $name in
	infrastructure-manager | fleet-manager | openstack-simulator | cni | probe) path=/$name ;;
	openstack-cloud-controller-manager) path=/bin/$name ;; # where upstream's image has it
	esac
	# These three work with Docker's socket or the node's network.
	case $name in
	docker | openstack-simulator | cni) user=0 ;;
	esac
	if ! in_docker "$image"; then
		log "building $image"
		from_scratch "$image" "$path" "$file" "USER $user"
	fi
	tag "$image"
	echo "$image"
}

# require_debian_builder GIB PROGRAM... for what starts with Debian packages and needs some disk on the way.
require_debian_builder() {
	local gib=$1 place free program
	local -a missing=()
	shift
	if ((EUID != 0)); then fail "the first build of this image needs root, for debootstrap; for node, NODE_IMAGE=<image> uses another one"; fi
	for place in "$(docker info --format '{{.DockerRootDir}}')" "$work"; do
		if [[ ! -d $place ]]; then continue; fi # Docker is on another machine
		free=$(df --output=avail -BG "$place" | tail -n 1 | tr -dc 0-9)
		if ((free < gib)); then fail "$place has $free GiB of disk left, this image takes $gib while it is built"; fi
	done
	for program in debootstrap "$@"; do
		if ! command -v "$program" >/dev/null; then missing+=("$program"); fi
	done
	if ((${#missing[@]} == 0)); then return; fi
	if ! command -v apt-get >/dev/null; then fail "install ${missing[*]}"; fi
	apt-get update -qq >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# debian ROOTFS PACKAGES
debian() {
	log "  Debian packages"
	debootstrap --variant=minbase --include="$2" $debian "$1" >"$work/debootstrap.log" 2>&1 ||
		{ tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
	rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,locale}
}

# copy_programs ROOTFS ROOT FILE... copies files and the libraries that they need, each to where it is found.
copy_programs() {
	local rootfs=$1 root=$2 file
	local -a files=("${@:3}")
	mapfile -t -O "${#files[@]}" files < <(chroot "$rootfs" ldd "${files[@]}" | grep -oE '(=> |^\s)/[^ ]+' | grep -oE '/.*' | sort -u)
	for file in "${files[@]}"; do
		install -D -m 0755 "$rootfs$(chroot "$rootfs" readlink -f "$file")" "$root$file"
	done
}

# kube_proxy IMAGE ROOTFS: kube-proxy works with the tools of netfilter, which need their plugins and libraries.
kube_proxy() {
	local image=$1 rootfs=$2 root=$work/kube-proxy program
	local -a plugins
	mapfile -t plugins < <(cd "$rootfs" && printf '/%s\n' usr/lib/*/xtables/*.so)
	copy_programs "$rootfs" "$root" /usr/sbin/nft /usr/sbin/xtables-nft-multi /usr/sbin/conntrack "${plugins[@]}"
	for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
		ln -s xtables-nft-multi "$root/usr/sbin/$program"
	done
	install -D -m 0755 "$(tool kube-proxy)" "$root/usr/local/bin/kube-proxy"
	mkdir "$root/run" "$root/tmp"
	import "$root" "$image"
}

# pause IMAGE: what holds a pod's namespaces, from Kubernetes' own source.
pause() {
	local source
	source=$(module_directory kube k8s.io/kubernetes)/build/pause/linux/pause.c
	gcc -Os -Wall -Werror -static -DVERSION="sendan" -o "$work/pause" "$source"
	from_scratch "$1" /pause "$work/pause" "USER 65535:65535"
}

# component NAME IMAGE ROOTFS makes the image of one of Kubernetes' components.
component() {
	case $1 in
	kube-proxy) kube_proxy "$2" "$3" ;;
	pause) pause "$2" ;;
	coredns) from_scratch "$2" /coredns "$(tool coredns)" ;;
	*) from_scratch "$2" "/usr/local/bin/$1" "$(tool "$1")" ;;
	esac
}

# wanted_images prints the names of the images that nodes are asked for: by kubeadm, and by Cluster API's own tests,
# which take a pause image of their own choice for workload.
wanted_images() {
	local framework
	"$(tool kubeadm)" config images list --kubernetes-version "$version"
	framework=$(module_directory capd sigs.k8s.io/cluster-api/test)/framework
	grep -rhoE '"[^" ]+/pause:[0-9.]+"' --include='*.go' "$framework" | tr -d '"' | sort -u
}

# name_of IMAGE prints the last part of its name.
name_of() { sed -E 's|.*/||; s|:.*||' <<<"$1"; }

# populate ROOTFS SANDBOX-IMAGE: kind's files for nodes, and the programs.
populate() {
	local rootfs=$1 sandbox=$2 program kind
	kind=$(module_directory kind sigs.k8s.io/kind)/images/base/files
	cp -r --no-preserve=mode "$kind/etc" "$kind/kind" "$kind/usr" "$rootfs/"
	chmod 0755 "$rootfs"/usr/local/bin/* "$rootfs"/kind/bin/*
	for program in kubelet kubeadm kubectl; do install -m 0755 "$(tool $program)" "$rootfs/usr/bin/"; done
	for program in containerd containerd-shim-runc-v2 ctr; do install -m 0755 "$(tool $program)" "$rootfs/usr/local/bin/"; done
	for program in host-local loopback portmap ptp; do install -D -m 0755 "$(tool cni-$program)" "$rootfs/opt/cni/bin/$program"; done
	install -m 0755 "$here/crictl" "$rootfs/usr/local/bin/"
	sed -i -E "s|^( *sandbox_image = ).*|\1\"$sandbox\"|" "$rootfs/etc/containerd/config.toml"
	grep -q "$sandbox" "$rootfs/etc/containerd/config.toml" || fail "containerd's configuration names no sandbox image"
	# A node may not ask for a better score than it has itself.
	sed -i 's|restrict_oom_score_adj = false|restrict_oom_score_adj = true|' "$rootfs/etc/containerd/config.toml"
	chroot "$rootfs" ctr oci spec 2>/dev/null | jq '
		.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' >"$rootfs/etc/containerd/cri-base.json"
	echo "$version" >"$rootfs/kind/version"
	mkdir -p "$rootfs/etc/kubernetes/manifests" "$rootfs/var/lib/kubelet"
	trim_services "$rootfs"
}

# trim_services leaves systemd nothing to do but what a node is for, as kind's own image does.
trim_services() {
	local rootfs=$1 unit
	rm -f "$rootfs"/etc/machine-id "$rootfs"/lib/systemd/system/multi-user.target.wants/* "$rootfs"/etc/systemd/system/*.wants/* \
		"$rootfs"/lib/systemd/system/local-fs.target.wants/* "$rootfs"/lib/systemd/system/sockets.target.wants/*udev* \
		"$rootfs"/lib/systemd/system/sockets.target.wants/*initctl* "$rootfs"/lib/systemd/system/basic.target.wants/* \
		"$rootfs"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
	echo "ReadKMsg=no" >>"$rootfs/etc/systemd/journald.conf"
	for unit in kubelet containerd undo-mount-hacks; do chroot "$rootfs" systemctl -q enable $unit.service; done
	chroot "$rootfs" systemctl -q mask systemd-binfmt.service
	ln -sf /usr/lib/systemd/systemd "$rootfs/sbin/init"
}

# node_key: programs by their cached paths, which hold their versions and keys; the rest by content.
node_key() {
	local program
	{
		for program in $node_programs; do tool "$program"; done
		cat "$repo"/hack/tools/{kind,capd}/go.mod "$here/crictl" "${BASH_SOURCE[0]}"
		echo "$@"
	} | sha256sum | cut -c1-12
}

# name_images runs in a node. Lines "BUILT NAME" tell what an imported image is to be called; then all are kept for good.
name_images() {
	local images built name
	images=$(ctr -n k8s.io images list -q)
	while read -r built name; do
		ctr -n k8s.io images tag --force "$(grep "/$built\$" <<<"$images")" "$name" >/dev/null
	done
	for name in $(grep /sendan/component- <<<"$images"); do ctr -n k8s.io images rm "$name" >/dev/null; done
	for name in $(ctr -n k8s.io images list -q); do
		ctr -n k8s.io images label "$name" io.cri-containerd.image=managed io.cri-containerd.pinned=pinned >/dev/null
	done
}

# without_warnings COMMAND... for ctr, which speaks of the host's cgroup v1 every time.
without_warnings() { "$@" 2> >(grep -v ' level=warning ' >&2); }

# preload CONTAINER NAMES IMAGE... fills the image store of a node, so that nothing is pulled later. NAMES is a file for
# name_images: names that belong to a registry are given here, for in Docker they may be those of other images.
preload() {
	local container=$1 names=$2
	shift 2
	docker exec -d "$container" containerd
	docker exec "$container" timeout 60 sh -c 'until ctr version >/dev/null 2>&1; do sleep 0.2; done'
	docker save "$@" | without_warnings docker exec -i "$container" ctr -n k8s.io images import --no-unpack - >/dev/null
	without_warnings docker exec -i "$container" bash -euo pipefail -c "$(declare -f name_images); name_images" <"$names"
	docker exec "$container" timeout 60 sh -c 'pkill containerd; while pgrep -x containerd >/dev/null; do sleep 0.2; done; rm -rf /run/containerd'
}

# build_components ROOTFS NAMES makes the images of components, prints them, and writes what they are to be called.
build_components() {
	local rootfs=$1 names=$2 wanted image name built
	wanted=$(wanted_images)
	for image in $wanted; do
		name=$(name_of "$image")
		built=sendan/component-$name:building
		if ! in_docker "$built"; then
			log "  $name"
			component "$name" "$built" "$rootfs"
			echo "$built"
		fi
		echo "$built $image" >>"$names"
	done
}

remove_components() {
	local images
	images=$(docker image ls --format '{{.Repository}}:{{.Tag}}' --filter reference='sendan/component-*' --filter reference=sendan/node-base)
	# shellcheck disable=SC2086 # it is a list
	if [[ -n $images ]]; then docker rmi $images >/dev/null; fi
}

# fill_node IMAGE ROOTFS PRELOADED... makes the image of a node of its files.
fill_node() {
	local image=$1 rootfs=$2 names=$work/names components sandbox container
	shift 2
	remove_components
	components=$(build_components "$rootfs" "$names")
	# kubeadm's own pause image comes before those of tests.
	sandbox=$(awk '$2 ~ "/pause:" { print $2; exit }' "$names")
	populate "$rootfs" "$sandbox"
	log "  node"
	tar -C "$rootfs" --numeric-owner -c . | docker import --change "ENV container=docker" - sendan/node-base:building >/dev/null
	# The signal, which ends systemd, is one of the things that import and commit cannot set; commit keeps it.
	container=$(docker run -d --privileged --stop-signal SIGRTMIN+3 --entrypoint sleep sendan/node-base:building infinity) ||
		fail "Docker starts no privileged container, which is what a node is; .ci/docker tells what to do about it"
	# shellcheck disable=SC2064 # the container is known now
	trap "docker rm -f $container >/dev/null" EXIT
	# shellcheck disable=SC2086 # it is a list
	preload "$container" "$names" $components "$@"
	docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' --change 'CMD []' "$container" "$image" >/dev/null
}

build_node() {
	local image probe cni cloud version
	if [[ -n ${NODE_IMAGE-} ]]; then
		echo "$NODE_IMAGE"
		return
	fi
	version=$("$build_tools" --list | awk '$2 == "kubelet" { print $3 }')
	probe=$(build_program probe)
	cni=$(build_program cni)
	cloud=$(build_program openstack-cloud-controller-manager)
	image=sendan/node:$version-$(node_key "$probe" "$cni" "$cloud")
	if ! in_docker "$image"; then
		require_debian_builder $node_gib jq gcc
		log "building $image, which takes a few minutes"
		debian "$work/node" $node_packages
		(fill_node "$image" "$work/node" "${probe%-*}" "${cni%-*}" "${cloud%-*}")
		remove_components
	fi
	tag "$image"
	echo "$image"
}

# build_haproxy: Cluster API's provider for containers writes the configuration with mkdir and cp.
build_haproxy() {
	local image rootfs=$work/haproxy root=$work/haproxy-root
	image=sendan/haproxy:dev-$(key_of "$here"/haproxy/* "${BASH_SOURCE[0]}")
	if ! in_docker "$image"; then
		require_debian_builder $haproxy_gib
		log "building $image"
		debian "$rootfs" haproxy
		copy_programs "$rootfs" "$root" /usr/sbin/haproxy /bin/cp /bin/mkdir /bin/sh
		install -D -t "$root/usr/local/sbin" "$here/haproxy/haproxy"
		install -D -m 0644 -t "$root/usr/local/etc/haproxy" "$here"/haproxy/*.cfg
		import "$root" "$image" 'ENTRYPOINT ["haproxy","-W","-db","-f","/usr/local/etc/haproxy/haproxy.cfg"]'
	fi
	tag "$image"
	echo "$image"
}

# forget_older IMAGE: every change of the source makes an image, few of which are looked at again. One in use stays.
forget_older() {
	local old
	if [[ $1 != sendan/* ]]; then return; fi
	old=$(docker image ls --format '{{.Repository}}:{{.Tag}}' "${1%:*}" | grep -E -- '-[0-9a-f]{12}$' | grep -vxF "$1" | tail -n +$((older_kept + 1))) || true
	# shellcheck disable=SC2086 # it is a list
	if [[ -n $old ]]; then docker rmi $old >/dev/null 2>&1 || true; fi
}

# build NAME prints its image.
build() {
	case $1 in
	node) build_node ;;
	haproxy) build_haproxy ;;
	*) build_program "$1" ;;
	esac
}

# prepare NAME...: the tools that images are made of, a place for what is compiled here, and one for what is not kept.
prepare() {
	local name lock
	local -a needed=()
	for name in "$@"; do
		if [[ " $all " != *" $name "* ]]; then fail "no image is called $name; there are $all"; fi
		# shellcheck disable=SC2207 # it is a list
		needed+=($(tools "$name"))
	done
	if ! docker version >/dev/null 2>&1; then fail "Docker does not answer: start it, and see that you may use it"; fi
	tool_set=$("$build_tools" --dir)
	programs=${tool_set%/*}/image-programs/$(sha256sum <<<"$repo" | cut -c1-12)
	mkdir -p "$programs"
	# One call at a time: two of them would make the same files and the same images.
	exec {lock}>"${tool_set%/*}/images.lock"
	if ! flock --nonblock "$lock"; then
		log "waiting for another call to end"
		flock "$lock"
	fi
	if ((${#needed[@]} > 0)); then "$build_tools" "${needed[@]}" | sed -u '/ cached$/d' >&2; fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
}

main() {
	local name image
	if [[ ${1-} == -h || ${1-} == --help ]]; then
		sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
		return
	fi
	# shellcheck disable=SC2086 # it is a list
	if (($# == 0)); then set -- $all; fi
	prepare "$@"
	for name in "$@"; do
		image=$(build "$name")
		forget_older "$image"
		echo "$name=$image"
	done
}

main "$@"
