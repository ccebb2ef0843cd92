#!/usr/bin/env bash
# Builds container images from Go modules and Debian packages, without a registry, and prints NAME=IMAGE for each.
#
#   test/image/build.sh [NAME...]     builds what is missing; the default is every image
#
# Names
#   node                     boots as a Kubernetes node, as kindest/node does; NODE_IMAGE names another one to use instead
#   core, bootstrap-kubeadm, control-plane-kubeadm, docker
#                            Cluster API's managers, and its own provider for containers
#   infrastructure-manager   this project's provider
#   openstack-simulator      the simulated cloud
#   cni, probe               the network of pods on test nodes, and what tests run in pods; both are part of node
#
# An image is called sendan/NAME:VERSION-KEY, where KEY is a hash of all that goes into it, and sendan/NAME:VERSION as
# well. VERSION is that of Kubernetes for nodes, and "dev" for the rest.
#
# It needs Docker, Go and gcc; for the node image also root and debootstrap. README.md tells more.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
readonly build_tools=$repo/hack/build-tools.sh
readonly all="probe cni infrastructure-manager openstack-simulator core bootstrap-kubeadm control-plane-kubeadm docker node"
readonly node_gib=8
# Debian 12, whose systemd still runs on hosts with cgroup v1.
readonly debian=bookworm
readonly node_packages=systemd,systemd-sysv,dbus,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,conntrack,libseccomp2,pigz,e2fsprogs,ca-certificates,curl,jq,procps,runc,socat

log() { echo "$*" >&2; }

fail() {
	log "test/image/build.sh: $*"
	exit 1
}

in_docker() { docker image inspect "$1" >/dev/null 2>&1; }

# tag IMAGE: the name without the key follows.
tag() { docker tag "$1" "${1%-*}"; }

tool() {
	"$build_tools" "$1" >/dev/null
	readlink -f "$("$build_tools" --dir)/$1"
}

# go_build DIRECTORY PACKAGE OUTPUT: the same source makes the same file.
go_build() { GOWORK=off CGO_ENABLED=0 go -C "$repo/$1" build -trimpath -buildvcs=false -ldflags "-s -w" -o "$3" "$2"; }

# binary NAME prints the file that an image consists of.
binary() {
	local file=$work/$1
	case $1 in
	probe | cni) go_build test/image "./$1" "$file" ;;
	infrastructure-manager) go_build . ./cmd/infrastructure-manager "$file" ;;
	openstack-simulator) go_build cmd/openstack-simulator . "$file" ;;
	core | bootstrap-kubeadm | control-plane-kubeadm | docker) file=$(tool "cluster-api-$1") ;;
	esac
	echo "$file"
}

key_of() { cat "$@" | sha256sum | cut -c1-12; }

# from_scratch IMAGE PATH FILE [CHANGE...]: an image that holds one program and the certificates of the public
# authorities, which a cloud's may be among.
from_scratch() {
	local image=$1 path=$2 file=$3 root
	shift 3
	root=$(mktemp -d "$work/scratch-XXXXXX")
	install -D -m 0755 "$file" "$root/$path"
	if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
		install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
	fi
	mkdir -m 1777 "$root/tmp"
	local -a changes=(--change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	local change
	for change in "$@"; do changes+=(--change "$change"); done
	tar -C "$root" --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name -c . | docker import "${changes[@]}" - "$image" >/dev/null
	rm -rf "$root"
}

# build_program NAME prints its image.
build_program() {
	local name=$1 file image path=/manager user=65532
	file=$(binary "$name")
	image=sendan/$name:dev-$(key_of "$file" "${BASH_SOURCE[0]}")
	case $name in
	infrastructure-manager | openstack-simulator | cni | probe) path=/$name ;;
	esac
	# These three work with Docker's socket or the node's network.
	case $name in
	docker | openstack-simulator | cni) user=0 ;;
	esac
	if ! in_docker "$image"; then
		log "building $image"
		from_scratch "$image" "$path" "$file" "ENTRYPOINT [\"$path\"]" "USER $user" "WORKDIR /"
	fi
	tag "$image"
	echo "$image"
}

# component IMAGE PROGRAM FILE: an image of a Kubernetes component, whose program is found on the path.
component() { from_scratch "$1" "/usr/local/bin/$2" "$3" "ENTRYPOINT [\"/usr/local/bin/$2\"]"; }

# kube_proxy IMAGE ROOTFS: kube-proxy works with the tools of netfilter, which need their plugins and libraries.
kube_proxy() {
	local image=$1 rootfs=$2 root=$work/kube-proxy-root program file
	local -a files
	mkdir -p "$root/run" "$root/tmp" "$root/usr/sbin"
	for program in nft xtables-nft-multi conntrack; do
		files+=("$(chroot "$rootfs" sh -c "readlink -f \$(command -v $program)")")
	done
	mapfile -t -O "${#files[@]}" files < <(cd "$rootfs" && printf '/%s\n' usr/lib/*/xtables/*.so)
	mapfile -t -O "${#files[@]}" files < <(chroot "$rootfs" ldd "${files[@]}" | grep -oE '(=> |^\s)/[^ ]+' | grep -oE '/.*' | sort -u)
	for file in "${files[@]}"; do
		install -D -m 0755 "$rootfs$(chroot "$rootfs" readlink -f "$file")" "$root$file"
	done
	for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
		ln -s xtables-nft-multi "$root/usr/sbin/$program"
	done
	install -D -m 0755 "$(tool kube-proxy)" "$root/usr/local/bin/kube-proxy"
	tar -C "$root" --owner=0 --group=0 -c . |
		docker import --change "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" - "$image" >/dev/null
}

# pause IMAGE: what holds a pod's namespaces, from Kubernetes' own source.
pause() {
	gcc -Os -Wall -Werror -static -DVERSION="sendan" -o "$work/pause" "$(kubernetes_source)/build/pause/linux/pause.c"
	from_scratch "$1" /pause "$work/pause" 'ENTRYPOINT ["/pause"]' "USER 65535:65535"
}

kubernetes_source() { module_directory kube k8s.io/kubernetes; }

module_directory() { GOWORK=off GOFLAGS=-mod=readonly go -C "$repo/hack/tools/$1" list -m -f '{{.Dir}}' "$2"; }

download() { GOWORK=off GOFLAGS=-mod=readonly go -C "$repo/hack/tools/$1" mod download "$2"; }

# component_images ROOTFS makes the images that kubeadm asks for, and prints their names.
component_images() {
	local image name
	while read -r image; do
		name=${image##*/}
		name=${name%%:*}
		log "  $name"
		case $name in
		kube-proxy) kube_proxy "$image" "$1" ;;
		pause) pause "$image" ;;
		coredns) from_scratch "$image" /coredns "$(tool coredns)" 'ENTRYPOINT ["/coredns"]' "WORKDIR /" ;;
		*) component "$image" "$name" "$(tool "$name")" ;;
		esac
		echo "$image"
	done < <("$(tool kubeadm)" config images list --kubernetes-version "$version" 2>/dev/null)
}

# files ROOTFS pause-image: kind's files for nodes, and the programs.
populate() {
	local rootfs=$1 sandbox=$2 program kind
	kind=$(module_directory kind sigs.k8s.io/kind)/images/base/files
	cp -r --no-preserve=mode "$kind/etc" "$kind/kind" "$kind/usr" "$rootfs/"
	chmod 0755 "$rootfs"/usr/local/bin/* "$rootfs"/kind/bin/*
	for program in kubelet kubeadm kubectl; do install -m 0755 "$(tool $program)" "$rootfs/usr/bin/"; done
	for program in containerd containerd-shim-runc-v2 ctr; do install -m 0755 "$(tool $program)" "$rootfs/usr/local/bin/"; done
	for program in host-local loopback portmap ptp; do install -D -m 0755 "$(tool cni-$program)" "$rootfs/opt/cni/bin/$program"; done
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

require_node_builder() {
	if ((EUID != 0)); then fail "building the node image needs root, for debootstrap; NODE_IMAGE=<image> uses another one"; fi
	local free missing=()
	free=$(df --output=avail -BG "$(docker info --format '{{.DockerRootDir}}')" | tail -n 1 | tr -dc 0-9)
	if ((free < node_gib)); then fail "Docker has $free GiB of disk left, building the node image takes $node_gib"; fi
	for program in debootstrap jq gcc; do command -v $program >/dev/null || missing+=("$program"); done
	if ((${#missing[@]} == 0)); then return; fi
	if ! command -v apt-get >/dev/null; then fail "install ${missing[*]}"; fi
	apt-get update -qq >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || fail "install ${missing[*]}"
}

# node_key: programs by their cached paths, which hold their versions and keys; the rest by content.
node_key() {
	local program
	{
		for program in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl coredns \
			containerd containerd-shim-runc-v2 ctr cni-host-local cni-loopback cni-portmap cni-ptp; do
			readlink -f "$("$build_tools" --dir)/$program"
		done
		cat "$repo/hack/tools/kind/go.mod" "${BASH_SOURCE[0]}"
		echo "$probe $cni"
	} | sha256sum | cut -c1-12
}

# preload CONTAINER IMAGE...: nothing is pulled later.
preload() {
	local container=$1
	shift
	docker exec -d "$container" containerd
	timeout 60 docker exec "$container" sh -c 'until ctr version >/dev/null 2>&1; do sleep 0.2; done'
	docker save "$@" | docker exec -i "$container" ctr -n k8s.io images import --no-unpack - >/dev/null 2>&1
	docker exec "$container" sh -c 'for i in $(ctr -n k8s.io images list -q); do ctr -n k8s.io images label $i io.cri-containerd.image=managed io.cri-containerd.pinned=pinned >/dev/null 2>&1; done; pkill containerd; while pgrep -x containerd >/dev/null; do sleep 0.2; done; rm -rf /run/containerd'
}

build_node() {
	local image rootfs container probe cni version
	local -a images
	if [[ -n ${NODE_IMAGE-} ]]; then
		echo "$NODE_IMAGE"
		return
	fi
	"$build_tools" plane node >&2
	version=$("$build_tools" --list | awk '$2 == "kubelet" { print $3 }')
	probe=$(build_program probe)
	cni=$(build_program cni)
	image=sendan/node:$version-$(node_key)
	if ! in_docker "$image"; then
		require_node_builder
		log "building $image, which takes a few minutes"
		download kube k8s.io/kubernetes
		download kind sigs.k8s.io/kind
		rootfs=$work/rootfs
		log "  Debian packages"
		debootstrap --variant=minbase --include=$node_packages $debian "$rootfs" >"$work/debootstrap.log" 2>&1 ||
			{ tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
		rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/* "$rootfs"/usr/share/{doc,man,locale}
		images=$(component_images "$rootfs")
		mapfile -t images <<<"$images"
		populate "$rootfs" "$(grep '/pause:' <<<"$(printf '%s\n' "${images[@]}")")"
		log "  node"
		tar -C "$rootfs" --numeric-owner -c . | docker import --change 'ENV container=docker' --change 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' - sendan/node-base:building >/dev/null
		container=$(docker run -d --privileged --entrypoint sleep sendan/node-base:building infinity)
		trap 'docker rm -f "$container" >/dev/null; rm -rf "$work"' EXIT
		preload "$container" "${images[@]}" "${probe%-*}" "${cni%-*}"
		docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' "$container" sendan/node-base:filled >/dev/null
		docker rm -f "$container" >/dev/null
		trap 'rm -rf "$work"' EXIT
		# Neither import nor commit can set the signal that ends systemd.
		printf 'FROM sendan/node-base:filled\nSTOPSIGNAL SIGRTMIN+3\n' | DOCKER_BUILDKIT=0 docker build -q -t "$image" - >/dev/null 2>&1
		docker rmi sendan/node-base:building sendan/node-base:filled >/dev/null 2>&1 || true
		docker rmi "${images[@]}" >/dev/null 2>&1 || true
	fi
	tag "$image"
	echo "$image"
}

main() {
	local name image
	if ! docker version >/dev/null 2>&1; then fail "Docker does not answer: start it, and see that you may use it"; fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	if (($# == 0)); then
		# shellcheck disable=SC2086 # it is a list
		set -- $all
	fi
	for name in "$@"; do
		if [[ " $all " != *" $name "* ]]; then fail "no image is called $name; there are $all"; fi
		case $name in
		node) image=$(build_node) ;;
		*) image=$(build_program "$name") ;;
		esac
		echo "$name=$image"
	done
}

main "$@"
