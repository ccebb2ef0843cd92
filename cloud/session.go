package cloud

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/jonboulle/clockwork"
)

// service is one OpenStack API, by its type in the catalog.
type service string

// The services this package talks to.
const (
	identityService     service = "identity"
	computeService      service = "compute"
	networkService      service = "network"
	loadBalancerService service = "load-balancer"
	volumeService       service = "block-storage"
	imageService        service = "image"
	placementService    service = "placement"
)

// Session is one identity logged in to one project in one region. It is safe for concurrent use.
type Session struct {
	// identity is a pointer so that printing a session cannot print its secrets.
	identity  *Identity
	key       string
	options   Options
	clock     clockwork.Clock
	logger    *slog.Logger
	connector *connector
	auth      *authenticator
	lookups   *lookups
	// inventory is that of the project, and unset before the first login tells which that is.
	inventory atomic.Pointer[Inventory]
}

func newSession(identity Identity, owner *Sessions) *Session {
	session := &Session{
		identity: &identity,
		key:      identity.Key(),
		options:  owner.options,
		clock:    owner.options.Clock,
		logger:   owner.options.Logger.With("cloud", cloudLabel(identity.AuthURL, identity.Region), "project", identity.project()),
	}
	session.connector = newConnector(session.identity, owner)
	session.auth = newAuthenticator(session)
	session.lookups = newLookups(session)
	return session
}

// Key identifies the session; see [Identity.Key].
func (s *Session) Key() string { return s.key }

// CloudName is the name of the clouds.yaml entry.
func (s *Session) CloudName() string { return s.identity.CloudName }

// AuthURL is where the session logged in.
func (s *Session) AuthURL() string { return s.identity.AuthURL }

// Region is the region in use: the identity's, or the catalog's only one.
func (s *Session) Region() string { return s.auth.known().region }

// ProjectID is the id of the project the token is scoped to.
func (s *Session) ProjectID() string { return s.auth.known().projectID }

// ProjectName is the name of the project the token is scoped to.
func (s *Session) ProjectName() string { return s.auth.known().projectName }

// Inventory holds what is in the project. All sessions of a project have the same one.
func (s *Session) Inventory() *Inventory { return s.inventory.Load() }

// String names the session without its secrets.
func (s *Session) String() string { return "session of " + s.identity.String() }

// Format keeps every verb from showing a secret.
func (s *Session) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, s.String()) }

// cloud is the value of the metrics' cloud label.
func (s *Session) cloud() string { return cloudLabel(s.identity.AuthURL, s.Region()) }

// login makes sure that the session has a valid token and knows its endpoints.
func (s *Session) login(ctx context.Context) error {
	_, err := s.auth.access(ctx)
	return err
}

// client is what gophercloud needs to call one service. It is made from the catalog alone: asking a
// service for its versions on every call is more than half of what other providers send.
func (s *Session) client(ctx context.Context, of service) (*gophercloud.ServiceClient, error) {
	client, err := s.bareClient(ctx, of)
	if err == nil && of == placementService {
		client.Microversion = placementVersion
	}
	if err != nil || of != computeService {
		return client, err
	}
	version, err := s.computeVersion(ctx)
	if err != nil {
		return nil, err
	}
	client.Microversion = version.header()
	return client, nil
}

// bareClient is a client that asks for no microversion.
func (s *Session) bareClient(ctx context.Context, of service) (*gophercloud.ServiceClient, error) {
	access, err := s.auth.access(ctx)
	if err != nil {
		return nil, s.classify("", err)
	}
	endpoint, err := access.endpoint(of)
	if err != nil {
		return nil, err
	}
	return &gophercloud.ServiceClient{
		ProviderClient: s.connector.provider(of, endpoint, access.region, s.auth),
		Endpoint:       endpoint.root,
		ResourceBase:   endpoint.resources,
		Type:           string(of),
	}, nil
}

// supports reports that Nova's API has microversion 2.<minor> and that clients of
// [Session.client] speak it.
func (s *Session) supports(ctx context.Context, minor int) (bool, error) {
	version, err := s.computeVersion(ctx)
	if err != nil {
		return false, err
	}
	return version.minor >= minor, nil
}

// governors are the request budgets the session shares with others.
func (s *Session) governors() []*governor { return s.connector.governors() }

// close lets go of idle connections.
func (s *Session) close() {
	if transport, ok := s.connector.transport.(*http.Transport); ok {
		transport.CloseIdleConnections()
	}
}
