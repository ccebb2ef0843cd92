// Package visit reaches tenant clusters for one look at a time.
//
// Cluster API's ClusterCache keeps a connection, the kinds and a watch of each cluster: 0.7 MiB, more than a gigabyte for 1,500
// clusters. That is the right price for a controller that must act on every event. The fleet manager compares what is there with
// what should be, now and then, and keeps a client without a connection in between.
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
	client    client.Client
	transport *http.Transport
}

// Visit connects to a Cluster's API server when the look makes its first request, and leaves after it. The client must not be used
// after that. An error of the look is returned as it is. After any error the kubeconfig is read anew: it may have another address or
// certificate by now.
func (v *Visitor) Visit(ctx context.Context, cluster client.ObjectKey, look func(context.Context, client.Client) error) error {
	d, err := v.door(ctx, cluster)
	if err != nil {
		return err
	}
	defer d.transport.CloseIdleConnections()
	if err := look(ctx, d.client); err != nil {
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
	d, err := v.newDoor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of the kubeconfig of cluster %s: %w", cluster, err)
	}
	return d, nil
}

func (v *Visitor) newDoor(config *rest.Config) (*door, error) {
	transport, err := newTransport(config)
	if err != nil {
		return nil, err
	}
	wrapped, err := rest.HTTPWrappersForConfig(config, transport)
	if err != nil {
		return nil, err
	}
	httpClient := &http.Client{Transport: wrapped, Timeout: config.Timeout}
	own, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		return nil, err
	}
	made, err := client.New(config, client.Options{HTTPClient: httpClient, Scheme: v.scheme, Mapper: mapper{own, &v.kinds}})
	return &door{made, transport}, err
}

// newTransport is not one of client-go's, since connections of those cannot be closed. It remembers the last TLS session, so that
// the next handshake is a cheap one.
func newTransport(config *rest.Config) (*http.Transport, error) {
	certificates, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	if certificates != nil { // else it is plain HTTP
		certificates.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	proxy := http.ProxyFromEnvironment
	if config.Proxy != nil {
		proxy = config.Proxy
	}
	return &http.Transport{
		Proxy: proxy, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig: certificates, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true, DisableCompression: config.DisableCompression,
	}, nil
}
