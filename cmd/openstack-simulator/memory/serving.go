package memory

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

const (
	etcdPort = 2379
	// handshakeTimeout ends connections of clients that say nothing.
	handshakeTimeout = 30 * time.Second
)

// pipeListener accepts connections made inside the process: thousands of API servers need no port and no file
// descriptor of the host.
type pipeListener struct {
	offers chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{offers: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) offer(ctx context.Context, conn net.Conn) error {
	select {
	case l.offers <- conn:
		return nil
	case <-l.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.offers:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv6zero, Port: kubeadm.DefaultAPIPort}
}

// machineConn is the server's end of a connection to a machine.
type machineConn struct {
	net.Conn
	machine *machine
	etcd    bool
	tls     *tls.Config
}

// Close also makes the machine forget the connection.
func (c *machineConn) Close() error {
	c.machine.forget(c)
	return c.Conn.Close()
}

func closeAll(connections []net.Conn) {
	for _, c := range connections {
		_ = c.Close() // the far end learns of it either way
	}
}

type machineConnKey struct{}

func connOf(ctx context.Context) *machineConn {
	conn, _ := ctx.Value(machineConnKey{}).(*machineConn)
	return conn
}

// newHTTPServer serves all machines; a connection tells which one it is for.
func (b *Backend) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(b.serveHTTP),
		ReadHeaderTimeout: handshakeTimeout,
		// Failed handshakes are the clients' to report.
		ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				conn, ok := hello.Conn.(*machineConn)
				if !ok {
					return nil, errors.New("not a connection to a machine")
				}
				return conn.tls, nil
			},
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if secure, ok := c.(*tls.Conn); ok {
				return context.WithValue(ctx, machineConnKey{}, secure.NetConn())
			}
			return ctx
		},
	}
}

func (b *Backend) serveHTTP(w http.ResponseWriter, r *http.Request) {
	conn := connOf(r.Context())
	if conn.etcd {
		b.etcd.ServeHTTP(w, r)
		return
	}
	anonymous := slices.Contains([]string{"/healthz", "/livez", "/readyz", "/version"}, r.URL.Path)
	if len(r.TLS.PeerCertificates) == 0 && !anonymous {
		kubeapi.Reject(w, apierrors.NewUnauthorized("Unauthorized"))
		return
	}
	cluster, err := b.servedBy(conn.machine)
	if err != nil {
		kubeapi.Reject(w, apierrors.NewInternalError(err))
		return
	}
	cluster.api.ServeHTTP(w, r.WithContext(kubeapi.WithVersion(r.Context(), conn.machine.version)))
}

// servedBy is the cluster that a machine's API server can serve, which takes an etcd that has a quorum.
func (b *Backend) servedBy(m *machine) (*cluster, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !m.cluster.etcd.hasQuorum() {
		return nil, errors.New("etcdserver: no leader")
	}
	return m.cluster, nil
}
