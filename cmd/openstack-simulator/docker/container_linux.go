package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/cloudinit"
)

// Labels of the containers.
const (
	simulatorLabel = "io.sendan.simulator" // name of the simulator's own container
	serverLabel    = "io.sendan.server"    // server id
)

const (
	// shutdownWithin is how long systemd may take to end; a kubelet with static pods needs a few seconds.
	shutdownWithin = 20 * time.Second

	bootScript = "/etc/cloud/first-boot"
	// toolsDirectory comes first in the path of the first boot.
	toolsDirectory   = "/etc/cloud/bin"
	kubeletDirectory = "/etc/kubernetes/kubelet.conf.d"
	// seedDirectory is where cloud-init looks for a config drive that is not a disk.
	seedDirectory = "/var/lib/cloud/seed/config_drive/openstack/latest/"
)

// connect finds Docker and says in one line what is missing when it cannot be used.
func connect(ctx context.Context) (*client.Client, error) {
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("--backend docker: %w", err)
	}
	if _, err := docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		_ = docker.Close() // it never had a connection
		return nil, fmt.Errorf("--backend docker: Docker does not answer: %w; start it, and mount its socket into the simulator's container", err)
	}
	return docker, nil
}

// ownName is the name of the container that the simulator runs in.
func (b *Backend) ownName(ctx context.Context) (string, error) {
	hostName, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the simulator's own container: %w", err)
	}
	self, err := b.docker.ContainerInspect(ctx, hostName, client.ContainerInspectOptions{})
	if err != nil {
		return "", fmt.Errorf("--backend docker: find the simulator's own container %s: %w; it has to run in one, with --privileged and --pid host", hostName, err)
	}
	if !self.Container.HostConfig.Privileged || !self.Container.HostConfig.PidMode.IsHost() {
		return "", fmt.Errorf("--backend docker: container %s lacks --privileged or --pid host: without them no network can be made", hostName)
	}
	return strings.TrimPrefix(self.Container.Name, "/"), nil
}

// create makes a server's container as kind makes its nodes, but without a network of Docker's.
func (b *Backend) create(ctx context.Context, node simulator.Node) (string, error) {
	config := &container.Config{
		Image:    b.Image,
		Hostname: node.Name,
		Labels:   map[string]string{simulatorLabel: b.name, serverLabel: node.ServerID},
		Tty:      true, // systemd writes to a console only when there is one
		Volumes:  map[string]struct{}{"/var": {}},
	}
	host := &container.HostConfig{
		Privileged:   true,
		SecurityOpt:  []string{"seccomp=unconfined", "apparmor=unconfined"},
		CgroupnsMode: "private",
		NetworkMode:  "none",
		Tmpfs:        map[string]string{"/tmp": "", "/run": ""},
		Binds:        []string{"/lib/modules:/lib/modules:ro"},
		LogConfig:    container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "1"}},
		// An address that wandered to another server is announced, as a hypervisor does.
		Sysctls: map[string]string{"net.ipv4.conf.all.arp_notify": "1", "net.ipv4.conf.default.arp_notify": "1"},
	}
	for _, port := range node.Ports {
		host.DNS = append(host.DNS, port.Network.DNSNameservers...)
	}
	// The names that kind's entrypoint asks for; there is nobody to ask while the cables are not plugged in.
	host.ExtraHosts = []string{"host.docker.internal:127.0.0.1"}
	if len(node.Addresses) > 0 {
		host.ExtraHosts = append(host.ExtraHosts, node.Name+":"+node.Addresses[0])
	}
	name := fmt.Sprintf("sendan-%s-%.8s", node.Name, node.ServerID)
	made, err := b.docker.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: config, HostConfig: host})
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", name, err)
	}
	return made.ID, nil
}

// install puts into a container that has not started yet what its first boot needs.
func (b *Backend) install(ctx context.Context, s *server) error {
	files, err := b.bootFiles(s.node)
	if err != nil {
		return err
	}
	archive, err := pack(files)
	if err != nil {
		return err
	}
	if _, err := b.docker.CopyToContainer(ctx, s.id(), client.CopyToContainerOptions{DestinationPath: "/", Content: archive}); err != nil {
		return fmt.Errorf("copy the first boot into the container: %w", err)
	}
	return nil
}

// installed is a file of a container. A link has a target instead of content.
type installed struct {
	path    string
	content string
	target  string
	mode    int64
}

// bootFiles are the script of the first boot, the unit that runs it once, and the config drive.
func (b *Backend) bootFiles(node simulator.Node) ([]installed, error) {
	metadata, err := metadataOf(node)
	if err != nil {
		return nil, err
	}
	return []installed{
		{path: bootScript, content: b.script(node), mode: 0o700},
		{path: "/etc/systemd/system/cloud-final.service", content: firstBootUnit, mode: 0o644},
		{path: "/etc/systemd/system/multi-user.target.wants/cloud-final.service", target: "../cloud-final.service"},
		{path: toolsDirectory + "/kubeadm", content: kubeadmWrapper, mode: 0o755},
		{path: "/etc/default/kubelet", content: kubeletFlags, mode: 0o644},
		{path: kubeletDirectory + "/10-container.conf", content: kubeletConfig, mode: 0o644},
		{path: seedDirectory + "meta_data.json", content: metadata, mode: 0o600},
		{path: seedDirectory + "user_data", content: string(node.UserData), mode: 0o600},
	}, nil
}

// firstBootUnit carries the name of cloud-init's last stage, which is what the console says when it fails. Waiting for
// the interface bridges the moment between the start of a container and its cables being plugged in.
const firstBootUnit = `[Unit]
Description=Carry out the user data of this server
After=containerd.service
ConditionPathExists=!/var/lib/cloud/instance/boot-began

[Service]
Type=oneshot
ExecStartPre=/bin/sh -c 'mkdir -p /var/lib/cloud/instance && touch /var/lib/cloud/instance/boot-began'
ExecStartPre=/bin/sh -c 'for i in $(seq 100); do ip -brief address show scope global up | grep -q . && exit 0; sleep 0.1; done; echo "no network after 10 s"'
ExecStart=` + bootScript + `
Environment=HOME=/root PATH=` + toolsDirectory + `:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

// What kubeadm, the kubelet and kube-proxy find fault with in a container is the host's: its kernel's configuration, its
// cgroups, its swap, its table of connections, its disk: where that is almost full, every node would have disk pressure.
// User data that are meant for machines know nothing of that, so it is put right from outside.
const (
	kubeadmWrapper = `#!/bin/sh
PATH=${PATH#` + toolsDirectory + `:}
config= previous=
for argument; do
	case $argument in
	--config=*) config=${argument#--config=} ;;
	*) if [ "$previous" = --config ]; then config=$argument; fi ;;
	esac
	previous=$argument
done
if [ "${1-}" = init ] && [ -f "$config" ] && ! grep -q '^kind: KubeProxyConfiguration' "$config"; then
	cat >>"$config" <<'END'
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack:
  maxPerCore: 0
END
fi
case ${1-} in
init | join) exec kubeadm "$@" --ignore-preflight-errors=SystemVerification,Swap,FileContent--proc-sys-net-bridge-bridge-nf-call-iptables ;;
esac
exec kubeadm "$@"
`
	kubeletFlags  = "KUBELET_EXTRA_ARGS=--runtime-cgroups=/system.slice/containerd.service --config-dir=" + kubeletDirectory + "\n"
	kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failSwapOn: false
failCgroupV1: false
imageGCHighThresholdPercent: 100
evictionHard:
  nodefs.available: 0%
  nodefs.inodesFree: 0%
  imagefs.available: 0%
  imagefs.inodesFree: 0%
`
)

// script is the first boot of a server.
func (b *Backend) script(node simulator.Node) string {
	config, err := b.firstBoot(node)
	if err != nil {
		return cloudinit.FailureScript(err)
	}
	return config.Script()
}

// firstBoot is what a server's user data ask for.
func (b *Backend) firstBoot(node simulator.Node) (*cloudinit.Config, error) {
	address := ""
	if len(node.Addresses) > 0 {
		address = node.Addresses[0]
	}
	return cloudinit.Parse(node.UserData, cloudinit.Instance{
		ID: node.ServerID, Name: node.Name, HostName: strings.ToLower(node.Name), Zone: node.Zone, Region: b.Region,
		Project: node.ProjectID, Address: address, Metadata: node.Metadata,
	})
}

// metadataOf is meta_data.json as Nova writes it.
func metadataOf(node simulator.Node) (string, error) {
	text, err := json.Marshal(map[string]any{
		"uuid": node.ServerID, "name": node.Name, "hostname": node.Name, "project_id": node.ProjectID,
		"availability_zone": node.Zone, "meta": node.Metadata, "launch_index": 0,
	})
	if err != nil {
		return "", fmt.Errorf("write metadata: %w", err)
	}
	return string(text), nil
}

// pack makes an archive of files, with the directories that hold them. Docker keeps those that exist as they are.
func pack(files []installed) (*bytes.Buffer, error) {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	made := []string{"/"}
	for _, f := range files {
		var missing []string
		for dir := path.Dir(f.path); !slices.Contains(made, dir); dir = path.Dir(dir) {
			missing = append(missing, dir)
		}
		for _, dir := range slices.Backward(missing) {
			made = append(made, dir)
			if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755}); err != nil {
				return nil, fmt.Errorf("pack %s: %w", dir, err)
			}
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.path[1:], Mode: f.mode, Size: int64(len(f.content))}
		if f.target != "" {
			header = &tar.Header{Typeflag: tar.TypeSymlink, Name: f.path[1:], Linkname: f.target, Mode: 0o777}
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
		if _, err := archive.Write([]byte(f.content)); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
	}
	return &buffer, archive.Close()
}

func (b *Backend) state(ctx context.Context, s *server) (*container.State, error) {
	found, err := b.docker.ContainerInspect(ctx, s.id(), client.ContainerInspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("inspect container: %w", err)
	}
	return found.Container.State, nil
}

func (b *Backend) awaitStopped(ctx context.Context, s *server) error {
	waiting := b.docker.ContainerWait(ctx, s.id(), client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case err := <-waiting.Error:
		return fmt.Errorf("wait for container to end: %w", err)
	case <-waiting.Result:
		return nil
	}
}

// remove takes a container away, with the volume that holds its disk. One that is gone or going is no error.
func (b *Backend) remove(ctx context.Context, id string) error {
	_, err := b.docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
		return fmt.Errorf("remove container: %w", err)
	}
	return nil
}

// removeAll takes away every server of this simulator, known or not.
func (b *Backend) removeAll(ctx context.Context) error {
	found, err := b.docker.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", simulatorLabel+"="+b.name),
	})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var removals errgroup.Group
	for _, c := range found.Items {
		removals.Go(func() error { return b.remove(ctx, c.ID) })
	}
	return removals.Wait()
}
