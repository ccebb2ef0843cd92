package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// pollInterval is how often a command that waits looks.
const pollInterval = time.Second

// connection reaches the management cluster.
type connection struct {
	client.Client
	// namespace that the user chose, or that the kubeconfig's context has.
	namespace string
	session   *session
	cmd       *cobra.Command
}

func (s *session) connect(cmd *cobra.Command) (*connection, error) {
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	api, err := newClient(config, cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	return &connection{Client: api, namespace: namespace, session: s, cmd: cmd}, nil
}

// newClient passes on what the API server warns of, such as a release that is deprecated.
func newClient(config *rest.Config, warnings io.Writer) (client.Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, clusterv1.AddToScheme, fleetv1.AddToScheme, infrav1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // a command asks a few things, and the API server has its own limits
	config.UserAgent = rest.DefaultKubernetesUserAgent()
	config.WarningHandler = rest.NewWarningWriter(warnings, rest.WarningWriterOptions{Deduplicate: true})
	api, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return api, nil
}

// tenantClient reaches a tenant cluster by its kubeconfig.
func (c *connection) tenantClient(kubeconfig []byte) (client.Client, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of the cluster: %w", err)
	}
	return newClient(config, c.cmd.ErrOrStderr())
}

func (c *connection) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: c.namespace, Name: name}
}

// printf writes what the command was asked for.
func (c *connection) printf(format string, values ...any) {
	_, _ = fmt.Fprintf(c.cmd.OutOrStdout(), format, values...)
}

// tell writes what is for people only.
func (c *connection) tell(format string, values ...any) {
	_, _ = fmt.Fprintf(c.cmd.ErrOrStderr(), format+"\n", values...)
}

// wait asks until nothing is missing any more, and tells each time that something else is.
func (c *connection) wait(ctx context.Context, within time.Duration, missing func(context.Context) (string, error)) error {
	deadline := c.session.clock.After(within)
	ticker := c.session.clock.NewTicker(pollInterval)
	defer ticker.Stop()
	var told string
	for {
		text, err := missing(ctx)
		if err != nil || text == "" {
			return err
		}
		if text != told {
			c.tell("%s", text)
			told = text
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("gave up after %s, and the work goes on: %s", within, told)
		case <-ticker.Chan():
		}
	}
}
