package simulator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// snapshotFormat changes whenever an older snapshot would be misread.
const snapshotFormat = 1

// StatefulBackend is a node backend whose servers live on in a snapshot. Servers of other backends
// cannot be restored. Both methods are called while nothing happens in the cloud and must not wait
// for an operation on a server.
type StatefulBackend interface {
	NodeBackend
	// SaveServers describes all servers in JSON.
	SaveServers() ([]byte, error)
	// RestoreServers brings what SaveServers described into a backend that has no servers yet, and
	// tells their ids. What ran runs again, without a first boot.
	RestoreServers(saved []byte) (serverIDs []string, err error)
}

// snapshot is the state of a cloud: objects, accounts, faults and where the random numbers are. What
// is in transition is saved as it is, and begins that transition anew when restored, so that nothing
// is stuck. Faults are kept with their counts, because a restart should neither end a drill nor
// repeat what was meant to strike once. The log of calls, the load balancers' traffic and open
// connections are of one run and not kept.
type snapshot struct {
	Format   int       `json:"format"`
	Scenario string    `json:"scenario"` // its digest
	Started  time.Time `json:"started"`
	Happened []int     `json:"happened"`
	Random   []byte    `json:"random"`

	Faults       []*activeFault            `json:"faults"`
	Quotas       map[string]map[string]int `json:"quotas"`
	Identity     savedIdentity             `json:"identity"`
	Compute      savedCompute              `json:"compute"`
	Network      savedNetwork              `json:"network"`
	LoadBalancer savedLoadBalancers        `json:"loadBalancer"`
	Image        savedImages               `json:"image"`
	Volumes      []savedVolume             `json:"volumes"`
	// Servers is the node backend's own part, absent for one that keeps nothing.
	Servers json.RawMessage `json:"servers,omitempty"`
}

// digest is the same for equal scenarios.
func (sc *Scenario) digest() (string, error) {
	text, err := json.Marshal(sc)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Snapshot is the state of the cloud in JSON, for [Options.Snapshot]. It holds passwords, tokens and
// user data. A simulator that was closed still has its state.
func (s *Simulator) Snapshot() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.settle()
	}
	random, err := s.source.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("save random numbers: %w", err)
	}
	saved := snapshot{
		Format: snapshotFormat, Scenario: s.scenarioDigest, Started: s.started, Happened: s.happened, Random: random,
		Faults: s.faults.active, Quotas: s.quotas.projects, Identity: s.identity.save(), Compute: s.compute.save(), Network: s.network.save(),
		LoadBalancer: s.loadBalancer.save(), Image: s.image.save(), Volumes: s.volume.save(),
	}
	if backend, stateful := s.backend.(StatefulBackend); stateful {
		if saved.Servers, err = backend.SaveServers(); err != nil {
			return nil, fmt.Errorf("save servers: %w", err)
		}
	}
	return json.Marshal(saved)
}

// readSnapshot refuses what this simulator cannot go on with.
func (s *Simulator) readSnapshot(text []byte) (*snapshot, error) {
	var head struct {
		Format   int
		Scenario string
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("not a snapshot: %w", err)
	}
	if head.Format != snapshotFormat {
		return nil, fmt.Errorf("it has format %d, this program reads format %d", head.Format, snapshotFormat)
	}
	if head.Scenario != s.scenarioDigest {
		return nil, errors.New("it was taken of another scenario")
	}
	var saved snapshot
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&saved); err != nil {
		return nil, fmt.Errorf("not a snapshot: %w", err)
	}
	return &saved, nil
}

// restore replaces what the scenario made by the state of a snapshot. After an error the simulator is
// of no use. The lock is held.
func (s *Simulator) restore(text []byte) error {
	saved, err := s.readSnapshot(text)
	if err != nil {
		return err
	}
	if err := s.source.UnmarshalBinary(saved.Random); err != nil {
		return fmt.Errorf("random numbers: %w", err)
	}
	booted, err := s.restoreServers(saved.Servers)
	if err != nil {
		return err
	}
	s.started, s.happened, s.faults.active = saved.Started, saved.Happened, saved.Faults
	if saved.Quotas != nil {
		s.quotas.projects = saved.Quotas
	}
	s.identity.restore(saved.Identity)
	s.image.restore(saved.Image)
	if err := s.network.restore(saved.Network); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	s.volume.restore(saved.Volumes)
	s.compute.restore(saved.Compute)
	if err := s.loadBalancer.restore(saved.LoadBalancer); err != nil {
		return fmt.Errorf("load-balancer: %w", err)
	}
	s.resume(booted)
	return nil
}

func (s *Simulator) restoreServers(saved json.RawMessage) ([]string, error) {
	backend, stateful := s.backend.(StatefulBackend)
	if stateful != (saved != nil) {
		return nil, errors.New("it was taken with another node backend")
	}
	if !stateful {
		return nil, nil
	}
	booted, err := backend.RestoreServers(saved)
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	return booted, nil
}

// resume begins anew every transition that the snapshot caught under way. booted are the servers that
// the node backend has.
func (s *Simulator) resume(booted []string) {
	s.network.resume()
	s.volume.resume()
	hasNode := map[string]bool{}
	for _, id := range booted {
		hasNode[id] = true
	}
	for _, srv := range s.compute.inOrder() {
		s.compute.resume(srv, hasNode[srv.id])
	}
	s.loadBalancer.resume()
	for _, id := range booted {
		if s.compute.servers[id] == nil {
			s.background(func(ctx context.Context) {
				if err := s.backend.Destroy(ctx, id); err != nil {
					s.log.Warn("node of a deleted server not removed", "server", id, "error", err)
				}
			})
		}
	}
}

// savedIdentity is what a run may change of the scenario's accounts.
type savedIdentity struct {
	Passwords   map[string]string          `json:"passwords"` // by user id
	Credentials map[string]savedCredential `json:"credentials"`
	Tokens      map[string]savedToken      `json:"tokens"`
}

type savedCredential struct {
	Name         string    `json:"name"`
	Description  string    `json:"description,omitempty"`
	Secret       string    `json:"secret"`
	User         string    `json:"user"`
	Project      string    `json:"project"`
	Roles        []string  `json:"roles"`
	Expires      time.Time `json:"expires"`
	Unrestricted bool      `json:"unrestricted,omitempty"`
	Seeded       bool      `json:"seeded,omitempty"`
}

type savedToken struct {
	Project    string    `json:"project"`
	User       string    `json:"user"`
	Scope      string    `json:"scope,omitempty"` // the id of a project
	Roles      []string  `json:"roles"`
	Methods    []string  `json:"methods"`
	Credential string    `json:"credential,omitempty"`
	Issued     time.Time `json:"issued"`
	Expires    time.Time `json:"expires"`
	AuditID    string    `json:"auditID"`
}

func (k *identityService) save() savedIdentity {
	saved := savedIdentity{Passwords: map[string]string{}, Credentials: map[string]savedCredential{}, Tokens: map[string]savedToken{}}
	for _, u := range k.users {
		saved.Passwords[u.id] = u.password
	}
	for id, ac := range k.credentials {
		saved.Credentials[id] = savedCredential{
			Name: ac.name, Description: ac.description, Secret: ac.secret, User: ac.user.id, Project: ac.project.id, Roles: ac.roles,
			Expires: ac.expires, Unrestricted: ac.unrestricted, Seeded: ac.seeded,
		}
	}
	for id, t := range k.tokens {
		token := savedToken{
			Project: t.project, User: t.user.id, Roles: t.roles, Methods: t.methods, Issued: t.issued, Expires: t.expires, AuditID: t.auditID,
		}
		if t.scope != nil {
			token.Scope = t.scope.id
		}
		if t.credential != nil {
			token.Credential = t.credential.id
		}
		saved.Tokens[id] = token
	}
	return saved
}

// restore relies on the scenario's users and projects, which never change.
func (k *identityService) restore(saved savedIdentity) {
	for _, u := range k.users {
		u.password = saved.Passwords[u.id]
	}
	k.credentials, k.tokens = map[string]*applicationCredential{}, map[string]*token{}
	for id, ac := range saved.Credentials {
		k.credentials[id] = &applicationCredential{
			id: id, name: ac.Name, description: ac.Description, secret: ac.Secret, user: k.userByID(ac.User), project: k.projectByID(ac.Project),
			roles: ac.Roles, expires: ac.Expires, unrestricted: ac.Unrestricted, seeded: ac.Seeded,
		}
	}
	for id, t := range saved.Tokens {
		k.tokens[id] = &token{
			id: id, project: t.Project, user: k.userByID(t.User), scope: k.projectByID(t.Scope), roles: t.Roles, methods: t.Methods,
			credential: k.credentials[t.Credential], issued: t.Issued, expires: t.Expires, auditID: t.AuditID,
		}
	}
}

func (k *identityService) userByID(id string) *user {
	return find(k.users, func(u *user) bool { return u.id == id })
}

// savedImages are all images, since any may have been added or removed.
type savedImages struct {
	Images  []*Image  `json:"images"`
	Created time.Time `json:"created"`
}

func (g *imageService) save() savedImages {
	return savedImages{Images: g.images, Created: g.created}
}

func (g *imageService) restore(saved savedImages) {
	g.images, g.created = saved.Images, saved.Created
}

type savedVolume struct {
	ID          string                  `json:"id"`
	Name        string                  `json:"name,omitempty"`
	Description string                  `json:"description,omitempty"`
	Project     string                  `json:"project"`
	User        string                  `json:"user"`
	Status      string                  `json:"status"`
	SizeGiB     int                     `json:"sizeGiB"`
	Type        string                  `json:"type,omitempty"`
	Zone        string                  `json:"zone"`
	ImageID     string                  `json:"imageID,omitempty"`
	Metadata    map[string]string       `json:"metadata"`
	Attachments []savedVolumeAttachment `json:"attachments,omitempty"`
	Created     time.Time               `json:"created"`
	Updated     time.Time               `json:"updated"`
}

type savedVolumeAttachment struct {
	ID       string    `json:"id"`
	ServerID string    `json:"serverID"`
	Device   string    `json:"device"`
	HostName string    `json:"hostName"`
	Attached time.Time `json:"attached"`
}

func (v *volumeService) save() []savedVolume {
	saved := []savedVolume{}
	for _, vol := range v.order {
		one := savedVolume{
			ID: vol.id, Name: vol.name, Description: vol.description, Project: vol.project, User: vol.user, Status: vol.status, SizeGiB: vol.sizeGiB,
			Type: vol.kind, Zone: vol.zone, ImageID: vol.imageID, Metadata: vol.metadata, Created: vol.created, Updated: vol.updated,
		}
		for _, a := range vol.attachments {
			one.Attachments = append(one.Attachments, savedVolumeAttachment{ID: a.id, ServerID: a.serverID, Device: a.device, HostName: a.hostName, Attached: a.attached})
		}
		saved = append(saved, one)
	}
	return saved
}

func (v *volumeService) restore(saved []savedVolume) {
	for _, one := range saved {
		vol := &volume{
			id: one.ID, name: one.Name, description: one.Description, project: one.Project, user: one.User, status: one.Status, sizeGiB: one.SizeGiB,
			kind: one.Type, zone: one.Zone, imageID: one.ImageID, metadata: one.Metadata, created: one.Created, updated: one.Updated,
		}
		for _, a := range one.Attachments {
			vol.attachments = append(vol.attachments, &volumeAttachment{id: a.ID, serverID: a.ServerID, device: a.Device, hostName: a.HostName, attached: a.Attached})
		}
		v.volumes[vol.id] = vol
		v.order = append(v.order, vol)
	}
}

// resume leaves out what is being attached or detached: that goes on with the server.
func (v *volumeService) resume() {
	for _, vol := range v.order {
		switch vol.status {
		case "creating":
			v.awaitCreated(vol)
		case "deleting":
			v.awaitDeleted(vol)
		}
	}
}
