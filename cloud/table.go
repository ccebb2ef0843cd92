package cloud

import (
	"reflect"
	"time"
)

// object is anything the inventory holds. Objects are values and are never changed once they are
// in a table.
type object interface {
	kind() Kind
	id() string
	mark() Mark
}

func (Network) kind() Kind       { return KindNetwork }
func (Subnet) kind() Kind        { return KindSubnet }
func (Router) kind() Kind        { return KindRouter }
func (SecurityGroup) kind() Kind { return KindSecurityGroup }
func (ServerGroup) kind() Kind   { return KindServerGroup }
func (Port) kind() Kind          { return KindPort }
func (Volume) kind() Kind        { return KindVolume }
func (Server) kind() Kind        { return KindServer }
func (FloatingIP) kind() Kind    { return KindFloatingIP }
func (LoadBalancer) kind() Kind  { return KindLoadBalancer }

func (n Network) id() string       { return n.ID }
func (s Subnet) id() string        { return s.ID }
func (r Router) id() string        { return r.ID }
func (g SecurityGroup) id() string { return g.ID }
func (g ServerGroup) id() string   { return g.ID }
func (p Port) id() string          { return p.ID }
func (v Volume) id() string        { return v.ID }
func (s Server) id() string        { return s.ID }
func (f FloatingIP) id() string    { return f.ID }
func (lb LoadBalancer) id() string { return lb.ID }

func (n Network) mark() Mark       { return n.Mark }
func (s Subnet) mark() Mark        { return s.Mark }
func (r Router) mark() Mark        { return r.Mark }
func (g SecurityGroup) mark() Mark { return g.Mark }
func (g ServerGroup) mark() Mark   { return g.Mark }
func (p Port) mark() Mark          { return p.Mark }
func (v Volume) mark() Mark        { return v.Mark }
func (s Server) mark() Mark        { return s.Mark }
func (f FloatingIP) mark() Mark    { return f.Mark }
func (lb LoadBalancer) mark() Mark { return lb.Mark }

// allKinds are the kinds of the inventory in the order in which they are polled.
func allKinds() []Kind {
	return []Kind{
		KindServer, KindLoadBalancer, KindVolume, KindPort, KindFloatingIP,
		KindNetwork, KindSubnet, KindRouter, KindSecurityGroup, KindServerGroup,
	}
}

// table is an immutable set of objects of one kind. A write copies about 2·log2(n) nodes of each of
// its trees and shares the rest, so its cost hardly depends on how many objects there are:
// BenchmarkOwnWriteAmong50000Servers has the figures.
type table struct {
	byID   tree[object]
	index  tree[object] // by the keys of indexKeys
	count  int
	marked int // objects that are ours
}

// The first byte of an index key says what it leads from.
const (
	byOwner   = "o"
	byDevice  = "d"
	byNetwork = "n"
	separator = "\x00" // sorts before everything else and is in no id
)

// indexKeys are the keys under which an object can be found, all of which end with its id.
func indexKeys(o object) []string {
	var keys []string
	if m := o.mark(); !m.IsZero() {
		keys = append(keys, ownerKey(m.Cluster, m.Machine, m.Role)+o.id())
	}
	if port, isPort := o.(Port); isPort {
		if port.DeviceID != "" {
			keys = append(keys, byDevice+port.DeviceID+separator+port.ID)
		}
		keys = append(keys, byNetwork+port.NetworkID+separator+port.ID)
	}
	return keys
}

// ownerKey is the beginning of the index keys of an owner; fewer parts match more objects.
func ownerKey(parts ...string) string {
	key := byOwner
	for _, part := range parts {
		key += part + separator
	}
	return key
}

func (t table) with(o object) table {
	t = t.without(o.id())
	t.byID = t.byID.with(o.id(), o)
	for _, key := range indexKeys(o) {
		t.index = t.index.with(key, o)
	}
	t.count++
	if !o.mark().IsZero() {
		t.marked++
	}
	return t
}

func (t table) without(id string) table {
	old, known := t.byID.get(id)
	if !known {
		return t
	}
	t.byID = t.byID.without(id)
	for _, key := range indexKeys(old) {
		t.index = t.index.without(key)
	}
	t.count--
	if !old.mark().IsZero() {
		t.marked--
	}
	return t
}

// meaning is an object without what changes all the time and means nothing to anybody.
func meaning(o object) object {
	switch o := o.(type) {
	case Server:
		o.Updated, o.deleteSent = time.Time{}, time.Time{}
		return o
	case LoadBalancer:
		o.Updated, o.tree = "", treeReading{}
		return o
	}
	return o
}

// sameMeaning reports that nobody needs to look at an object again.
func sameMeaning(a, b object) bool { return reflect.DeepEqual(meaning(a), meaning(b)) }
