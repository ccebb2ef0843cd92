package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/controllers"
)

func (s *session) cloudCommand() *cobra.Command {
	return s.noun("cloud", "Look after what is in a project of a cloud", s.cloudOrphans())
}

// credentials are the flags that say which project of which cloud is meant.
type credentials struct{ site, identity, secret, entry, region string }

func (k *credentials) register(s *session, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&k.site, "site", "", "the Site whose credentials are used")
	flags.StringVar(&k.identity, "identity", "", "the SendanClusterIdentity that is used")
	flags.StringVar(&k.secret, "secret", "", "the Secret of the namespace that is used")
	flags.StringVar(&k.entry, "cloud", "", "the entry of clouds.yaml; the one that OS_CLOUD names, or the only one, when left out")
	flags.StringVar(&k.region, "region", "", "the region, where clouds.yaml does not say it")
	offer(cmd, "site", s.completeFlag(siteNames))
}

func (k *credentials) check() error {
	if k.site != "" && k.identity != "" || k.secret != "" && k.site+k.identity != "" {
		return usagef("--site, --identity and --secret exclude each other")
	}
	return nil
}

// cloudSession is logged in with what the flags name: credentials of the management cluster, or else those of the user.
func (c *connection) cloudSession(ctx context.Context, k credentials) (*cloud.Session, error) {
	sessions := cloud.NewSessions(cloud.Options{
		ManualPolling: true, UserAgent: "sendan-cli",
		Polling: cloud.PollingOptions{Building: time.Nanosecond, BuildingMax: pollInterval}, // it is listed when that is asked for
	})
	ref := infrav1.IdentityReference{Name: k.secret, CloudName: k.entry, Region: k.region}
	if k.site != "" {
		site := &fleetv1.Site{}
		if err := c.Get(ctx, client.ObjectKey{Name: k.site}, site); err != nil {
			return nil, fmt.Errorf("get Site %s: %w", k.site, err)
		}
		of := site.Spec.IdentityRef
		k.identity, ref.CloudName, ref.Region = of.Name, cmp.Or(k.entry, of.CloudName), cmp.Or(k.region, of.Region)
	}
	namespace := c.namespace
	if k.identity != "" {
		identity := &infrav1.SendanClusterIdentity{}
		if err := c.Get(ctx, client.ObjectKey{Name: k.identity}, identity); err != nil {
			return nil, fmt.Errorf("get SendanClusterIdentity %s: %w", k.identity, err)
		}
		namespace, ref.Name = identity.Spec.SecretRef.Namespace, identity.Spec.SecretRef.Name
	}
	if ref.Name != "" {
		identities := &controllers.Identities{Client: c, Secrets: c, Sessions: sessions}
		return identities.Session(ctx, namespace, ref)
	}
	identity, err := ownIdentity(cmp.Or(k.entry, os.Getenv("OS_CLOUD")))
	if err != nil {
		return nil, err
	}
	return sessions.Get(ctx, identity.WithRegion(k.region))
}

// ownIdentity is an entry of the clouds.yaml that OpenStack's own client would read, of which the first one there counts.
func ownIdentity(entry string) (cloud.Identity, error) {
	files := []string{"clouds.yaml", "/etc/openstack/clouds.yaml"}
	if home, err := os.UserConfigDir(); err == nil {
		files = []string{files[0], filepath.Join(home, "openstack", "clouds.yaml"), files[1]}
	}
	if named := os.Getenv("OS_CLIENT_CONFIG_FILE"); named != "" {
		files = []string{named}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return cloud.Identity{}, err
		}
		identity, err := cloud.ParseCloudsYAML(text, entry)
		if err != nil {
			return cloud.Identity{}, fmt.Errorf("%s: %w", file, err)
		}
		return withCACert(identity)
	}
	return cloud.Identity{}, usagef("say which credentials to use: --site, --identity or --secret; or write a clouds.yaml, since there is none of %q", files)
}

// withCACert reads the certificate authority where the file only says where it is.
func withCACert(identity cloud.Identity) (cloud.Identity, error) {
	path := cmp.Or(os.Getenv("OS_CACERT"), identity.CACertPath())
	if path == "" {
		return identity, nil
	}
	bundle, err := os.ReadFile(path)
	if err != nil {
		return cloud.Identity{}, fmt.Errorf("cacert of cloud %q: %w", identity.CloudName, err)
	}
	return identity.WithCACert(bundle), nil
}
