package plane

import (
	"fmt"
	"os"
	"path/filepath"
)

// Layout names what a plane keeps below its state directory.
type Layout struct{ Dir string }

// Kubeconfig gives full access to the management API server.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Dir, "management.kubeconfig") }

// CloudsYAML holds the simulated cloud's demo account.
func (l Layout) CloudsYAML() string { return filepath.Join(l.Dir, "clouds.yaml") }

// SimulatorURL is a file that holds the base URL of the simulated cloud.
func (l Layout) SimulatorURL() string { return filepath.Join(l.Dir, "simulator.url") }

// Log is where a program's output goes.
func (l Layout) Log(program string) string { return filepath.Join(l.Logs(), program+".log") }

// Logs is the directory of all logs.
func (l Layout) Logs() string { return filepath.Join(l.Dir, "logs") }

func (l Layout) pki() string                 { return filepath.Join(l.Dir, "pki") }
func (l Layout) webhookCertificates() string { return filepath.Join(l.pki(), "webhook") }
func (l Layout) etcdData() string            { return filepath.Join(l.Dir, "etcd") }
func (l Layout) ports() string               { return filepath.Join(l.Dir, "ports.json") }
func (l Layout) cloudState() string          { return filepath.Join(l.Dir, "cloud.json") }
func (l Layout) lock() string                { return filepath.Join(l.Dir, "lock") }
func (l Layout) authentication() string      { return filepath.Join(l.Dir, "authentication.yaml") }

// create makes the directories. Only the user may read them, since they hold keys; and a state
// directory inside a checkout stays out of version control.
func (l Layout) create() error {
	for _, dir := range []string{l.Dir, l.Logs(), l.pki(), l.webhookCertificates(), l.etcdData()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create state directory: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(l.Dir, ".gitignore"), []byte("*\n"), 0o600); err != nil {
		return fmt.Errorf("write to state directory: %w", err)
	}
	return nil
}
