package cloud

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Snapshot is an immutable view of everything a project holds. What its methods return shares
// memory with it: slices and maps in there must not be changed.
//
// Finding an object by id costs O(log n), finding those of an owner O(log n + found).
type Snapshot struct {
	// Seq grows by one with every snapshot of an inventory.
	Seq uint64

	tables   map[Kind]table
	listings map[Kind]Listing
}

// Listing says how far the objects of one kind can be trusted.
type Listing struct {
	Kind Kind
	// Began is when the last complete listing began; zero when there was none yet.
	Began time.Time
	// Err is why the last listing failed; nil after a success.
	Err error
	// Suspicious is set while objects are kept although they were missing from the last listing.
	Suspicious error
}

// emptySnapshot is what an inventory has before its first listing.
func emptySnapshot() *Snapshot {
	return &Snapshot{tables: map[Kind]table{}, listings: map[Kind]Listing{}}
}

// next is a copy to be changed and published. Its maps have an entry per kind, not per object.
func (s *Snapshot) next() *Snapshot {
	return &Snapshot{Seq: s.Seq + 1, tables: maps.Clone(s.tables), listings: maps.Clone(s.listings)}
}

// SnapshotOf is a snapshot of the given objects in which every kind was listed at a certain time,
// for tests of whoever reads snapshots. A [Listing] among the objects stands for that of its kind.
func SnapshotOf(at time.Time, objects ...any) *Snapshot {
	s := emptySnapshot()
	s.Seq = 1
	for _, kind := range allKinds() {
		s.listings[kind] = Listing{Kind: kind, Began: at}
	}
	for _, given := range objects {
		switch given := given.(type) {
		case Listing:
			s.listings[given.Kind] = given
		case object:
			s.tables[given.kind()] = s.tables[given.kind()].with(given)
		default:
			panic(fmt.Sprintf("a snapshot cannot hold a %T", given))
		}
	}
	return s
}

func fetch[T object](s *Snapshot, id string) (T, bool) {
	var none T
	found, ok := s.tables[none.kind()].byID.get(id)
	if !ok {
		return none, false
	}
	return found.(T), true
}

// Network finds a network by its id.
func (s *Snapshot) Network(id string) (Network, bool) { return fetch[Network](s, id) }

// Subnet finds a subnet by its id.
func (s *Snapshot) Subnet(id string) (Subnet, bool) { return fetch[Subnet](s, id) }

// Router finds a router by its id.
func (s *Snapshot) Router(id string) (Router, bool) { return fetch[Router](s, id) }

// SecurityGroup finds a security group by its id.
func (s *Snapshot) SecurityGroup(id string) (SecurityGroup, bool) { return fetch[SecurityGroup](s, id) }

// ServerGroup finds a server group by its id.
func (s *Snapshot) ServerGroup(id string) (ServerGroup, bool) { return fetch[ServerGroup](s, id) }

// Port finds a port by its id.
func (s *Snapshot) Port(id string) (Port, bool) { return fetch[Port](s, id) }

// Volume finds a volume by its id.
func (s *Snapshot) Volume(id string) (Volume, bool) { return fetch[Volume](s, id) }

// Server finds a server by its id.
func (s *Snapshot) Server(id string) (Server, bool) { return fetch[Server](s, id) }

// FloatingIP finds a floating IP by its id.
func (s *Snapshot) FloatingIP(id string) (FloatingIP, bool) { return fetch[FloatingIP](s, id) }

// LoadBalancer finds a load balancer by its id.
func (s *Snapshot) LoadBalancer(id string) (LoadBalancer, bool) { return fetch[LoadBalancer](s, id) }

// owned are the objects of an owner, ordered by machine, role and id. Empty fields of the mark
// match anything; without a cluster nothing matches, because what has no owner is not ours.
func owned[T object](s *Snapshot, m Mark) []T {
	if m.IsZero() {
		return nil
	}
	prefix := ownerKey(m.Cluster)
	if m.Machine != "" {
		prefix = ownerKey(m.Cluster, m.Machine)
		if m.Role != "" {
			prefix = ownerKey(m.Cluster, m.Machine, m.Role)
		}
	}
	return indexed(s, prefix, func(o T) bool { return m.Role == "" || o.mark().Role == m.Role })
}

func indexed[T object](s *Snapshot, prefix string, wanted func(T) bool) []T {
	var out []T
	var none T
	s.tables[none.kind()].index.walk(prefix, func(_ string, o object) bool {
		if typed := o.(T); wanted == nil || wanted(typed) {
			out = append(out, typed)
		}
		return true
	})
	return out
}

// NetworksOf are the networks of an owner. For this and its siblings: empty fields of the mark match
// anything, the cluster is required, and the order is by machine, role and id.
func (s *Snapshot) NetworksOf(m Mark) []Network { return owned[Network](s, m) }

// SubnetsOf are the subnets of an owner.
func (s *Snapshot) SubnetsOf(m Mark) []Subnet { return owned[Subnet](s, m) }

// RoutersOf are the routers of an owner.
func (s *Snapshot) RoutersOf(m Mark) []Router { return owned[Router](s, m) }

// SecurityGroupsOf are the security groups of an owner.
func (s *Snapshot) SecurityGroupsOf(m Mark) []SecurityGroup { return owned[SecurityGroup](s, m) }

// ServerGroupsOf are the server groups of an owner.
func (s *Snapshot) ServerGroupsOf(m Mark) []ServerGroup { return owned[ServerGroup](s, m) }

// PortsOf are the ports of an owner.
func (s *Snapshot) PortsOf(m Mark) []Port { return owned[Port](s, m) }

// VolumesOf are the volumes of an owner.
func (s *Snapshot) VolumesOf(m Mark) []Volume { return owned[Volume](s, m) }

// ServersOf are the servers of an owner.
func (s *Snapshot) ServersOf(m Mark) []Server { return owned[Server](s, m) }

// FloatingIPsOf are the floating IPs of an owner.
func (s *Snapshot) FloatingIPsOf(m Mark) []FloatingIP { return owned[FloatingIP](s, m) }

// LoadBalancersOf are the load balancers of an owner.
func (s *Snapshot) LoadBalancersOf(m Mark) []LoadBalancer { return owned[LoadBalancer](s, m) }

// PortsOnNetwork are the project's ports on a network, ours and others': what keeps it from being
// deleted.
func (s *Snapshot) PortsOnNetwork(networkID string) []Port {
	return indexed[Port](s, byNetwork+networkID+separator, nil)
}

// PortsOfDevice are the project's ports, ours and others', of a server or a router.
func (s *Snapshot) PortsOfDevice(deviceID string) []Port {
	return indexed[Port](s, byDevice+deviceID+separator, nil)
}

// Count is the number of objects of a kind, ours and others'.
func (s *Snapshot) Count(kind Kind) int { return s.tables[kind].count }

// ListedAfter reports that a complete listing of a kind began after t: an object made before t and
// not in the snapshot does not exist. A server of which an incremental listing told nothing is no
// proof of that; see [Inventory.Require].
func (s *Snapshot) ListedAfter(kind Kind, t time.Time) bool {
	began := s.listings[kind].Began
	return !began.IsZero() && began.After(t)
}

// ListedAt is when the last complete listing of a kind began; zero when there was none.
func (s *Snapshot) ListedAt(kind Kind) time.Time { return s.listings[kind].Began }

// Err is why the last listing of a kind failed; nil after a success. What the listing before it
// found is still in the snapshot.
func (s *Snapshot) Err(kind Kind) error { return s.listings[kind].Err }

// Suspicious is set while many of our objects are missing from the cloud's answers at once and are
// kept in the snapshot until more listings have confirmed that.
func (s *Snapshot) Suspicious(kind Kind) error { return s.listings[kind].Suspicious }

// Fresh reports that every one of the kinds has been listed at least once. Before that, an object
// that is not in the snapshot may well exist.
func (s *Snapshot) Fresh(kinds ...Kind) bool {
	return !slices.ContainsFunc(kinds, func(kind Kind) bool { return s.listings[kind].Began.IsZero() })
}

// String names the snapshot in a log.
func (s *Snapshot) String() string {
	parts := []string{fmt.Sprintf("snapshot %d", s.Seq)}
	for _, kind := range allKinds() {
		if count := s.Count(kind); count > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", kind, count))
		}
	}
	return strings.Join(parts, ", ")
}
