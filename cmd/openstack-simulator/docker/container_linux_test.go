package docker

import (
	"archive/tar"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sendan-io/sendan/cloud/simulator"
)

func TestFloatingIPsAreAtTheEndOfTheNetwork(t *testing.T) {
	for network, want := range map[string]string{
		"172.18.0.5/16":   "172.18.255.0/24",
		"192.168.16.2/20": "192.168.31.0/24",
		"10.9.8.7/24":     "10.9.8.192/26",
	} {
		if got := lastPart(netip.MustParsePrefix(network)).String(); got != want {
			t.Errorf("%s: %s, want %s", network, got, want)
		}
	}
}

func TestUplinksDoNotOverlap(t *testing.T) {
	seen := map[netip.Prefix]int{}
	for index := range 16384 {
		near, far := uplinkAddresses(index)
		if near.Masked() != far.Masked() || near == far || !uplinks.Contains(near.Addr()) {
			t.Fatalf("uplink %d: %s and %s", index, near, far)
		}
		if other, taken := seen[near.Masked()]; taken {
			t.Fatalf("uplinks %d and %d are both %s", other, index, near.Masked())
		}
		seen[near.Masked()] = index
	}
}

func TestAContainerGetsItsFirstBootAndItsConfigDrive(t *testing.T) {
	b := &Backend{Options: Options{Region: "RegionOne"}}
	files, err := b.bootFiles(simulator.Node{
		ServerID: "5f2c", Name: "worker-0", Zone: "az1", Metadata: map[string]string{"role": "worker"},
		UserData: []byte("## template: jinja\n#cloud-config\nruncmd:\n- kubeadm join {{ local_hostname }}\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := pack(files)
	if err != nil {
		t.Fatal(err)
	}
	found, directories := map[string]string{}, map[string]bool{}
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeDir {
			if directories[header.Name] {
				t.Errorf("%s is packed twice", header.Name)
			}
			directories[header.Name] = true
		}
		found[header.Name] = string(content) + header.Linkname
	}
	for path, want := range map[string]string{
		"var/lib/cloud/seed/config_drive/openstack/latest/meta_data.json": `"uuid":"5f2c"`,
		"var/lib/cloud/seed/config_drive/openstack/latest/user_data":      "{{ local_hostname }}",
		"etc/systemd/system/cloud-final.service":                          "ExecStart=/etc/cloud/first-boot",
		"etc/systemd/system/multi-user.target.wants/cloud-final.service":  "../cloud-final.service",
		"etc/cloud/first-boot": "scripts/runcmd",
	} {
		if !strings.Contains(found[path], want) {
			t.Errorf("%s: %q, want %q in it", path, found[path], want)
		}
	}
	if !directories["etc/systemd/system/multi-user.target.wants/"] {
		t.Error("a directory is missing")
	}
}

func TestUserDataThatCannotBeReadStillMakeABoot(t *testing.T) {
	b := &Backend{}
	script := b.script(simulator.Node{ServerID: "5f2c", Name: "worker-0", UserData: []byte("#cloud-config\nwrite_files: {")})
	if !strings.Contains(script, "Failed loading yaml blob") {
		t.Errorf("script:\n%s", script)
	}
}

// installKubeadm puts the wrapper before a kubeadm that prints its arguments, and returns the path with both.
func installKubeadm(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	tools, system := dir+"/tools", dir+"/system"
	for path, content := range map[string]string{
		tools + "/kubeadm":  strings.ReplaceAll(kubeadmWrapper, toolsDirectory, tools),
		system + "/kubeadm": "#!/bin/sh\necho $@\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil { //nolint:gosec // it is to be executed
			t.Fatal(err)
		}
	}
	return "PATH=" + tools + ":" + system + ":/usr/bin:/bin"
}

func TestKubeadmOverlooksWhatIsTheHosts(t *testing.T) {
	path := installKubeadm(t)
	for arguments, want := range map[string]string{
		"init --config x": "init --config x --ignore-preflight-errors=SystemVerification,",
		"join --config x": "join --config x --ignore-preflight-errors=SystemVerification,",
		"token list":      "token list\n",
	} {
		command := exec.CommandContext(t.Context(), "sh", "-c", "kubeadm "+arguments)
		command.Env = []string{path}
		output, err := command.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(output), want) {
			t.Errorf("kubeadm %s: %q, %v", arguments, output, err)
		}
	}
}

func TestKubeProxyLeavesTheHostsConnectionsAlone(t *testing.T) {
	path, mine := installKubeadm(t), "kind: ClusterConfiguration\n"
	for arguments, want := range map[string]bool{"init --config FILE": true, "init --config=FILE -v 5": true, "join --config FILE": false} {
		file := filepath.Join(t.TempDir(), "kubeadm.yaml")
		if err := os.WriteFile(file, []byte(mine), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // kubeadm may be tried again
			command := exec.CommandContext(t.Context(), "sh", "-c", "kubeadm "+strings.ReplaceAll(arguments, "FILE", file))
			command.Env = []string{path}
			if output, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v", output, err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "maxPerCore: 0"); !strings.HasPrefix(string(text), mine) || (got == 1) != want || got > 1 {
			t.Errorf("kubeadm %s:\n%s", arguments, text)
		}
	}
}
