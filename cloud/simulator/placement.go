package simulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Placement's microversions are 1.0 to 1.39; only the minor part is kept.
const maxPlacementVersion = 39

// placementService is Placement, read-only. It has no state: its providers are Nova's hosts. A GPU that flavors ask for
// by resource class is an inventory of its host. One that they ask for by PCI alias is a provider of its own below the
// host, as with Nova's PCI devices in Placement, and of the class that [aliasClass] tells.
type placementService struct{ s *Simulator }

// provider is a resource provider.
type provider struct {
	id, name, parent, root string
	traits                 []string
	inventories            map[string]inventory // by resource class
}

type inventory struct{ total, used int }

func (i inventory) free() int { return i.total - i.used }

// aliasClass is the resource class of devices that flavors ask for by a PCI alias: "a100" is CUSTOM_GPU_A100.
func aliasClass(alias string) string {
	return "CUSTOM_GPU_" + strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(alias))
}

// placementErrors writes problems as Placement does.
func placementErrors(p *problem, requestID string) (string, []byte) {
	body, _ := json.Marshal(fields{"errors": []fields{{
		"status": p.status, "title": http.StatusText(p.status), "detail": p.message, "code": "placement.undefined_code", "request_id": requestID,
	}}})
	return "application/json", body
}

func (l *placementService) routes(rt *router) {
	rt.open("GET /{$}", l.versions)
	l.handle(rt, "GET /resource_providers", "resource_providers:list", l.listProviders)
	l.handle(rt, "GET /resource_providers/{id}", "resource_providers:show", l.showProvider)
	l.handle(rt, "GET /resource_providers/{id}/inventories", "resource_providers:inventories:list", l.showInventories)
	l.handle(rt, "GET /resource_providers/{id}/usages", "resource_providers:usages", l.showUsages)
	l.handle(rt, "GET /resource_providers/{id}/traits", "resource_providers:traits:list", l.showTraits)
	l.handle(rt, "GET /resource_classes", "resource_classes:list", l.listClasses)
	l.handle(rt, "GET /allocation_candidates", "allocation_candidates:list", l.listCandidates)
}

func (l *placementService) versions(*call) (reply, error) {
	return ok(fields{"versions": []fields{{
		"id": "v1.0", "status": "CURRENT", "min_version": "1.0", "max_version": fmt.Sprintf("1.%d", maxPlacementVersion),
		"links": []fields{{"rel": "self", "href": ""}},
	}}})
}

// handle mounts a handler behind the policy and microversion negotiation.
func (l *placementService) handle(rt *router, pattern, policy string, h computeHandler) {
	rt.handle(pattern, func(c *call) (reply, error) {
		version, err := placementVersion(c.r.Header)
		if err != nil {
			return reply{}, err
		}
		if !c.isAdmin() && !l.s.scenario.PlacementReadable {
			return reply{}, problemf(http.StatusForbidden, "Access was denied to this resource.\n\n Policy does not allow placement:%s to be performed.  ", policy)
		}
		out, err := h(c, version)
		out.header = map[string]string{"OpenStack-API-Version": "placement 1." + strconv.Itoa(version), "Vary": "OpenStack-API-Version"}
		return out, err
	})
}

// placementVersion is what a request asks for, 1.0 when it asks for nothing.
func placementVersion(header http.Header) (int, error) {
	asked, found := strings.CutPrefix(header.Get("OpenStack-API-Version"), "placement ")
	switch {
	case !found:
		return 0, nil
	case asked == "latest":
		return maxPlacementVersion, nil
	}
	minor, err := strconv.Atoi(strings.TrimPrefix(asked, "1."))
	if err != nil || minor < 0 || minor > maxPlacementVersion || !strings.HasPrefix(asked, "1.") {
		return 0, problemf(http.StatusNotAcceptable, "Unacceptable version header: %s", asked)
	}
	return minor, nil
}

// providers are all of them, each host before its devices.
func (l *placementService) providers() []*provider {
	var all []*provider
	for _, h := range l.s.compute.hosts {
		all = append(all, providersOf(h)...)
	}
	return all
}

func providersOf(h *host) []*provider {
	root := &provider{id: h.id, name: h.Name, root: h.id, inventories: map[string]inventory{
		"VCPU": {h.VCPUs, h.used.vcpus}, "MEMORY_MB": {h.MemoryMiB, h.used.memoryMiB}, "DISK_GB": {h.DiskGiB, h.used.diskGiB},
	}}
	if h.disabled {
		root.traits = []string{"COMPUTE_STATUS_DISABLED"}
	}
	all := []*provider{root}
	for _, kind := range slices.Sorted(maps.Keys(h.GPUs)) {
		if strings.HasPrefix(kind, "CUSTOM_") {
			root.inventories[kind] = inventory{h.GPUs[kind], h.used.gpus[kind]}
			continue
		}
		for i := range h.GPUs[kind] {
			device := inventory{total: 1}
			if i < h.used.gpus[kind] {
				device.used = 1
			}
			all = append(all, &provider{
				id: longID("device", h.Name, kind, strconv.Itoa(i)), name: fmt.Sprintf("%s_0000:%02x:00.0", h.Name, len(all)),
				parent: h.id, root: h.id, inventories: map[string]inventory{aliasClass(kind): device},
			})
		}
	}
	return all
}

func (l *placementService) find(c *call) (*provider, error) {
	p := find(l.providers(), func(p *provider) bool { return p.id == c.id("id") })
	if p == nil {
		return nil, problemf(http.StatusNotFound, "The resource could not be found.\n\n No resource provider with uuid %s found  ", c.id("id"))
	}
	return p, nil
}

func (p *provider) view(version int) fields {
	view := fields{"uuid": p.id, "name": p.name, "generation": 1, "links": []fields{{"rel": "self", "href": "/placement/resource_providers/" + p.id}}}
	if version >= 14 {
		view["root_provider_uuid"], view["parent_provider_uuid"] = p.root, emptyAsNull(p.parent)
	}
	return view
}

// listProviders applies the filters of an operator at a shell; those that it lacks are refused rather than ignored.
func (l *placementService) listProviders(c *call, version int) (reply, error) {
	query := c.r.URL.Query()
	if err := onlyParameters(query, "name", "uuid", "in_tree", "resources"); err != nil {
		return reply{}, err
	}
	wanted, err := resourcesOf(query)
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, p := range l.providers() {
		name, id, tree := c.query("name"), c.query("uuid"), c.query("in_tree")
		if (name == "" || name == p.name) && (id == "" || id == p.id) && (tree == "" || tree == p.id || tree == p.root) && p.has(wanted) {
			views = append(views, p.view(version))
		}
	}
	return ok(fields{"resource_providers": views})
}

func onlyParameters(query url.Values, known ...string) error {
	for name := range query {
		if !slices.Contains(known, name) {
			return problemf(http.StatusBadRequest, "Invalid query string parameters: Additional properties are not allowed ('%s' was unexpected)", name)
		}
	}
	return nil
}

// resourcesOf reads "VCPU:1,CUSTOM_GPU_A100:2".
func resourcesOf(query url.Values) (map[string]int, error) {
	wanted := map[string]int{}
	if !query.Has("resources") {
		return wanted, nil
	}
	for part := range strings.SplitSeq(query.Get("resources"), ",") {
		class, text, _ := strings.Cut(part, ":")
		amount, err := strconv.Atoi(text)
		if err != nil || amount < 1 || class == "" {
			return nil, problemf(http.StatusBadRequest, "Badly formed resources parameter. Expected resources query string parameter in form: ?resources=VCPU:2,MEMORY_MB:1024. Got: %s.", query.Get("resources"))
		}
		wanted[class] = amount
	}
	return wanted, nil
}

func (p *provider) has(wanted map[string]int) bool {
	for class, amount := range wanted {
		if p.inventories[class].free() < amount {
			return false
		}
	}
	return true
}

func (l *placementService) showProvider(c *call, version int) (reply, error) {
	p, err := l.find(c)
	if err != nil {
		return reply{}, err
	}
	return ok(p.view(version))
}

func (l *placementService) showInventories(c *call, _ int) (reply, error) {
	p, err := l.find(c)
	if err != nil {
		return reply{}, err
	}
	views := fields{}
	for class, i := range p.inventories {
		views[class] = fields{"total": i.total, "reserved": 0, "min_unit": 1, "max_unit": i.total, "step_size": 1, "allocation_ratio": 1.0}
	}
	return ok(fields{"resource_provider_generation": 1, "inventories": views})
}

func (l *placementService) showUsages(c *call, _ int) (reply, error) {
	p, err := l.find(c)
	if err != nil {
		return reply{}, err
	}
	used := fields{}
	for class, i := range p.inventories {
		used[class] = i.used
	}
	return ok(fields{"resource_provider_generation": 1, "usages": used})
}

func (l *placementService) showTraits(c *call, _ int) (reply, error) {
	p, err := l.find(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"resource_provider_generation": 1, "traits": append([]string{}, p.traits...)})
}

// classes are all that the hosts have, with those that Placement knows by itself.
func (l *placementService) classes() []string {
	known := map[string]bool{"VCPU": true, "MEMORY_MB": true, "DISK_GB": true, "PCI_DEVICE": true, "VGPU": true, "PGPU": true}
	for _, p := range l.providers() {
		for class := range p.inventories {
			known[class] = true
		}
	}
	return slices.Sorted(maps.Keys(known))
}

func (l *placementService) listClasses(*call, int) (reply, error) {
	views := []fields{}
	for _, class := range l.classes() {
		views = append(views, fields{"name": class, "links": []fields{{"rel": "self", "href": "/placement/resource_classes/" + class}}})
	}
	return ok(fields{"resource_classes": views})
}

// listCandidates says which hosts could take a request now, with all that is below them. One group of resources is
// understood, and of traits only those of the host.
func (l *placementService) listCandidates(c *call, version int) (reply, error) {
	const needed = 35
	if version < needed {
		return reply{}, problemf(http.StatusNotAcceptable, "The simulator lists allocation candidates from version 1.%d on.", needed)
	}
	query := c.r.URL.Query()
	if err := onlyParameters(query, "resources", "root_required", "limit"); err != nil {
		return reply{}, err
	}
	wanted, err := resourcesOf(query)
	if err != nil {
		return reply{}, err
	}
	if len(wanted) == 0 {
		return reply{}, problemf(http.StatusBadRequest, "All request groups must specify resources.")
	}
	known := l.classes()
	for class := range wanted {
		if !slices.Contains(known, class) {
			return reply{}, problemf(http.StatusBadRequest, "Invalid resource class in resources parameter: No such resource class %s.", class)
		}
	}
	limit := atoiOr(c.query("limit"), 0)
	requests, summaries := []fields{}, fields{}
	for _, h := range l.s.compute.hosts {
		tree := providersOf(h)
		for _, allocation := range candidatesIn(tree, wanted) {
			if !allowsRoot(tree[0], query.Get("root_required")) || limit > 0 && len(requests) == limit {
				break
			}
			requests = append(requests, allocation)
			for _, p := range tree {
				summaries[p.id] = p.summary()
			}
		}
	}
	return ok(fields{"allocation_requests": requests, "provider_summaries": summaries})
}

// allowsRoot follows root_required: traits that a host must have, or with "!" must not.
func allowsRoot(root *provider, required string) bool {
	for trait := range strings.SplitSeq(required, ",") {
		name, forbidden := strings.CutPrefix(trait, "!")
		if name != "" && slices.Contains(root.traits, name) == forbidden {
			return false
		}
	}
	return true
}

// candidatesIn are the ways to take the resources from one tree: each class from any one provider that has enough.
func candidatesIn(tree []*provider, wanted map[string]int) []fields {
	ways := []map[*provider]fields{{}}
	for _, class := range slices.Sorted(maps.Keys(wanted)) {
		var longer []map[*provider]fields
		for _, way := range ways {
			for _, p := range tree {
				if p.inventories[class].free() < wanted[class] {
					continue
				}
				next := maps.Clone(way)
				next[p] = maps.Clone(next[p])
				if next[p] == nil {
					next[p] = fields{}
				}
				next[p][class] = wanted[class]
				longer = append(longer, next)
			}
		}
		ways = longer
	}
	views := []fields{}
	for _, way := range ways {
		allocations, ids := fields{}, []string{}
		for _, p := range slices.SortedFunc(maps.Keys(way), func(a, b *provider) int { return cmp.Compare(a.id, b.id) }) {
			allocations[p.id] = fields{"resources": way[p]}
			ids = append(ids, p.id)
		}
		views = append(views, fields{"allocations": allocations, "mappings": fields{"": ids}})
	}
	return views
}

func (p *provider) summary() fields {
	resources := fields{}
	for class, i := range p.inventories {
		resources[class] = fields{"capacity": i.total, "used": i.used}
	}
	return fields{
		"resources": resources, "traits": append([]string{}, p.traits...),
		"parent_provider_uuid": emptyAsNull(p.parent), "root_provider_uuid": p.root,
	}
}
