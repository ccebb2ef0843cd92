package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// What tens of thousands of machines look like is what a few that the provider made look like, with other names and ids. So the
// records of these are copied, in etcd and in the cloud's state, as if the clusters had come from another management cluster.
// Every name and id is exchanged for one as long: Kubernetes keeps its own kinds in a binary form, where lengths count.

var idPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

const (
	recordsOfTxn = 40
	etcdTimeout  = time.Minute
	copiesAtOnce = 4
	registry     = "/registry/"
	eventsOf     = registry + "events/"
	coreEventsOf = registry + "events.k8s.io/"
	idsOfCopies  = "0b0f6f6e-5c3a-4c7e-8f5e-6a8d3c1b2a90" // name space of the copies' ids
)

// original is a cluster that others are copies of.
type original struct {
	name, namespace string
	records         []record
	// ids are its own, unlike those of flavors, images and external networks.
	ids map[string]bool
}

type record struct {
	key   string
	value []byte
}

// copyClusters makes copies of the first clusters until there are enough. The provider must not run.
func (p *provider) copyClusters(t testing.TB, fresh []byte, seeds int) {
	t.Helper()
	store, err := clientv3.New(clientv3.Config{Endpoints: []string{p.EtcdURL}, DialTimeout: etcdTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	state := p.cloud.snapshot(t)
	var originals []original
	for i, name := range p.clusters[:seeds] {
		originals = append(originals, p.original(t, store, name, namespaceName(i), fresh, state))
	}
	copies := make([][]*strings.Replacer, seeds)
	group := &errgroup.Group{}
	group.SetLimit(copiesAtOnce)
	for number := seeds; number < p.size.clusters; number++ {
		from := originals[number%seeds]
		renamed := from.renamedTo(number)
		copies[number%seeds] = append(copies[number%seeds], renamed)
		p.clusters = append(p.clusters, clusterName(number))
		group.Go(func() error { return from.put(t.Context(), store, renamed) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, from := range originals {
		state = from.grow(t, state, copies[i])
	}
	p.cloud.run(t, state)
}

func (p *provider) original(t testing.TB, store *clientv3.Client, name, namespace string, fresh, state []byte) original {
	t.Helper()
	found, err := store.Get(t.Context(), registry, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	from := original{name: name, namespace: namespace, ids: map[string]bool{}}
	for _, kv := range found.Kvs {
		key := string(kv.Key)
		isEvent := strings.HasPrefix(key, eventsOf) || strings.HasPrefix(key, coreEventsOf)
		if !isEvent && (strings.Contains(key, "/"+namespace+"/") || strings.HasSuffix(key, "/namespaces/"+namespace)) {
			from.records = append(from.records, record{key: key, value: kv.Value})
		}
	}
	from.findIDs(t, fresh, state)
	return from
}

// findIDs takes what the cluster's records tell, and what the cloud has of it, without what was there before.
func (from *original) findIDs(t testing.TB, fresh, state []byte) {
	t.Helper()
	for _, r := range from.records {
		for _, id := range idPattern.FindAll(r.value, -1) {
			from.ids[string(id)] = true
		}
	}
	for _, id := range idPattern.FindAll(fresh, -1) {
		delete(from.ids, string(id))
	}
	// What belongs to a thing of the cluster is of the cluster as well: a rule of a group, a member of a pool.
	for before := -1; before != len(from.ids); {
		before = len(from.ids)
		for _, element := range elements(t, state) {
			if from.has(element) {
				from.ids[ownID(t, element)] = true
			}
		}
	}
	delete(from.ids, "")
}

// has reports whether a part of the cloud's state belongs to the cluster.
func (from *original) has(element []byte) bool {
	if bytes.Contains(element, []byte(from.name)) {
		return true
	}
	for _, id := range idPattern.FindAll(element, -1) {
		if from.ids[string(id)] {
			return true
		}
	}
	return false
}

// renamedTo exchanges the names and ids of the cluster for those of another.
func (from *original) renamedTo(number int) *strings.Replacer {
	pairs := []string{from.name, clusterName(number), from.namespace, namespaceName(number)}
	for id := range from.ids {
		pairs = append(pairs, id, uuid.NewSHA1(uuid.MustParse(idsOfCopies), fmt.Appendf(nil, "%s of %d", id, number)).String())
	}
	return strings.NewReplacer(pairs...)
}

// put writes the copies of all records.
func (from *original) put(ctx context.Context, store *clientv3.Client, renamed *strings.Replacer) error {
	var operations []clientv3.Op
	for i, r := range from.records {
		operations = append(operations, clientv3.OpPut(renamed.Replace(r.key), renamed.Replace(string(r.value))))
		if len(operations) < recordsOfTxn && i < len(from.records)-1 {
			continue
		}
		if _, err := store.Txn(ctx).Then(operations...).Commit(); err != nil {
			return fmt.Errorf("copy the records of %s: %w", from.name, err)
		}
		operations = nil
	}
	return nil
}

// grow adds copies of what the cloud has of the cluster: the elements of lists, and the entries of maps by id.
func (from *original) grow(t testing.TB, state json.RawMessage, copies []*strings.Replacer) json.RawMessage {
	t.Helper()
	switch kindOf(state) {
	case '[':
		list := decode[[]json.RawMessage](t, state)
		for _, element := range list {
			if !from.has(element) {
				continue
			}
			for _, renamed := range copies {
				list = append(list, json.RawMessage(renamed.Replace(string(element))))
			}
		}
		return encode(t, list)
	case '{':
		object := decode[map[string]json.RawMessage](t, state)
		for key, value := range object {
			if !from.ids[key] {
				object[key] = from.grow(t, value, copies)
				continue
			}
			for _, renamed := range copies {
				object[renamed.Replace(key)] = value
			}
		}
		return encode(t, object)
	}
	return state
}

// elements are those of all lists that are not in lists themselves.
func elements(t testing.TB, state json.RawMessage) []json.RawMessage {
	t.Helper()
	switch kindOf(state) {
	case '[':
		return decode[[]json.RawMessage](t, state)
	case '{':
		var all []json.RawMessage
		for _, value := range decode[map[string]json.RawMessage](t, state) {
			all = append(all, elements(t, value)...)
		}
		return all
	}
	return nil
}

// ownID is the id of an element, or of the object in it; empty without one.
func ownID(t testing.TB, element json.RawMessage) string {
	t.Helper()
	if kindOf(element) != '{' {
		return ""
	}
	named := decode[struct {
		ID     string          `json:"id"`
		Object json.RawMessage `json:"object"`
	}](t, element)
	if named.ID == "" && kindOf(named.Object) == '{' {
		return ownID(t, named.Object)
	}
	return named.ID
}

func kindOf(value json.RawMessage) byte {
	if trimmed := bytes.TrimLeft(value, " \t\r\n"); len(trimmed) > 0 {
		return trimmed[0]
	}
	return 0
}

func decode[T any](t testing.TB, text json.RawMessage) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func encode(t testing.TB, value any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
