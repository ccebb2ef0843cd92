// Package visit reaches tenant clusters for one look at a time.
//
// Cluster API's ClusterCache keeps a connection, the kinds and a watch of each cluster: 0.7 MiB, more than a gigabyte for 1,500
// clusters. That is the right price for a controller that must act on every event. The fleet manager compares what is there with
// what should be, now and then, and keeps nothing in between but how to get in.
package visit

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/cluster-api/util/kubeconfig"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

const (
	// dialTimeout is also that of the TLS handshake.
	dialTimeout = 5 * time.Second
	// requestTimeout is as in Cluster API's ClusterCache.
	requestTimeout = 10 * time.Second
	// doorsLast is how long it is remembered how to get into a cluster that is not visited, as when it is gone.
	doorsLast = time.Hour
)

// +kubebuilder:rbac:groups="",resources=secrets,verbs=get

// Visitor has the keys of all clusters.
type Visitor struct {
	secrets   client.Reader
	scheme    *runtime.Scheme
	userAgent string
	doors     *utilcache.Expiring // of *door, by client.ObjectKey
	kinds     builtinKinds
}

// New returns a Visitor that reads the Secrets with kubeconfigs, which Cluster API names <cluster>-kubeconfig, from the reader.
func New(secrets client.Reader, scheme *runtime.Scheme, userAgent string) *Visitor {
	return &Visitor{secrets: secrets, scheme: scheme, userAgent: userAgent, doors: utilcache.NewExpiring()}
}

// door is how to get into a cluster.
type door struct {
	config *rest.Config
	// tls has the certificates, and the last session, so that the next handshake is a cheap one. It is nil for plain HTTP.
	tls *tls.Config
}

// Visit connects to a Cluster's API server when the look makes its first request, and leaves after it. The client must not be used
// after that. An error of the look is returned as it is. After any error the kubeconfig is read anew: it may have another address or
// certificate by now.
func (v *Visitor) Visit(ctx context.Context, cluster client.ObjectKey, look func(context.Context, client.Client) error) error {
	d, err := v.door(ctx, cluster)
	if err != nil {
		return err
	}
	if err := v.enter(ctx, d, look); err != nil {
		v.doors.Delete(cluster)
		return err
	}
	v.doors.Set(cluster, d, doorsLast)
	return nil
}

func (v *Visitor) door(ctx context.Context, cluster client.ObjectKey) (*door, error) {
	if known, found := v.doors.Get(cluster); found {
		return known.(*door), nil //nolint:forcetypeassert // nothing else is stored
	}
	text, err := kubeconfig.FromSecret(ctx, v.secrets, cluster)
	if err != nil {
		return nil, fmt.Errorf("get the kubeconfig of cluster %s: %w", cluster, err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of cluster %s: %w", cluster, err)
	}
	if config.ExecProvider != nil || config.AuthProvider != nil {
		return nil, fmt.Errorf("the kubeconfig of cluster %s wants a program to be run to log in; give it a certificate or a token", cluster)
	}
	config.UserAgent, config.Timeout = v.userAgent, requestTimeout
	d := &door{config: config}
	if d.tls, err = rest.TLSConfigFor(config); err != nil {
		return nil, fmt.Errorf("read the certificates in the kubeconfig of cluster %s: %w", cluster, err)
	}
	if d.tls != nil {
		d.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return d, nil
}

func (v *Visitor) enter(ctx context.Context, d *door, look func(context.Context, client.Client) error) error {
	transport := d.transport()
	defer transport.CloseIdleConnections()
	wrapped, err := rest.HTTPWrappersForConfig(d.config, transport)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	httpClient := &http.Client{Transport: wrapped, Timeout: d.config.Timeout}
	own, err := apiutil.NewDynamicRESTMapper(d.config, httpClient)
	if err != nil {
		return fmt.Errorf("prepare to ask for kinds: %w", err)
	}
	tenant, err := client.New(d.config, client.Options{HTTPClient: httpClient, Scheme: v.scheme, Mapper: mapper{own, &v.kinds}})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return look(ctx, tenant)
}

// transport is a new one, unlike client-go's, which are kept for as long as there may be a use for them.
func (d *door) transport() *http.Transport {
	proxy := http.ProxyFromEnvironment
	if d.config.Proxy != nil {
		proxy = d.config.Proxy
	}
	return &http.Transport{
		Proxy: proxy, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig: d.tls.Clone(), TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true, DisableCompression: d.config.DisableCompression,
	}
}
