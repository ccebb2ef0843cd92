package kubeapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	portForwardProtocol = "portforward.k8s.io"
	// portForwardIdle is when a connection without traffic ends.
	portForwardIdle = 10 * time.Minute
)

// portForward joins streams of a SPDY connection to ports of a pod. WebSocket clients are told to fall back.
func (c *Cluster) portForward(w http.ResponseWriter, req *request) error {
	if _, err := c.store.get(req.resource, req.key); err != nil {
		return err
	}
	if !strings.EqualFold(req.Header.Get(httpstream.HeaderUpgrade), spdy.HeaderSpdy31) {
		return apierrors.NewBadRequest("port forwarding speaks SPDY/3.1 only")
	}
	w.Header().Add(httpstream.HeaderProtocolVersion, portForwardProtocol)
	session := &forwarding{forward: c.forward, namespace: req.key.namespace, pod: req.key.name, errors: map[string]httpstream.Stream{}}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, req.Request, func(stream httpstream.Stream, replied <-chan struct{}) error {
		return session.accept(ctx, stream, replied)
	})
	if conn == nil {
		return nil // the upgrader has answered
	}
	defer func() { _ = conn.Close() }()
	conn.SetIdleTimeout(portForwardIdle)
	select {
	case <-conn.CloseChan():
	case <-ctx.Done():
	}
	cancel()
	session.streams.Wait()
	return nil
}

// forwarding is one port-forward connection. A client opens an error stream and a data stream for each TCP connection,
// in this order, with the same request id.
type forwarding struct {
	forward        PortForward
	namespace, pod string
	streams        sync.WaitGroup

	mu     sync.Mutex
	errors map[string]httpstream.Stream
}

func (f *forwarding) accept(ctx context.Context, stream httpstream.Stream, replied <-chan struct{}) error {
	id := stream.Headers().Get(corev1.PortForwardRequestIDHeader)
	switch kind := stream.Headers().Get(corev1.StreamType); kind {
	case corev1.StreamTypeError:
		f.mu.Lock()
		f.errors[id] = stream
		f.mu.Unlock()
		return nil
	case corev1.StreamTypeData:
		f.streams.Go(func() {
			select {
			case <-replied:
				f.join(ctx, id, stream)
			case <-ctx.Done():
			}
		})
		return nil
	default:
		return fmt.Errorf("stream type %q is neither %q nor %q", kind, corev1.StreamTypeData, corev1.StreamTypeError)
	}
}

// join copies both ways until one side ends.
func (f *forwarding) join(ctx context.Context, id string, stream httpstream.Stream) {
	f.mu.Lock()
	errorStream := f.errors[id]
	delete(f.errors, id)
	f.mu.Unlock()
	defer func() { _ = stream.Reset() }()
	port := stream.Headers().Get(corev1.PortHeader)
	conn, err := f.forward(ctx, f.namespace, f.pod, port)
	if errorStream != nil {
		defer func() { _ = errorStream.Close() }()
		if err != nil {
			_, _ = fmt.Fprintf(errorStream, "error forwarding port %s to pod %s: %v", port, f.pod, err)
		}
	}
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(stream, conn) // ends when either side is closed
		_ = stream.Close()
	})
	_, _ = io.Copy(conn, stream)
	_ = conn.Close()
	back.Wait()
}
