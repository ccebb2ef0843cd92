package simulator

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// host is a hypervisor with what is used of it.
type host struct {
	Host
	id       string
	down     bool
	disabled bool
	reason   string // why it is disabled
	// refusesSpawn lets every build on the host fail.
	refusesSpawn string
	used         demand
	members      map[string]*server
	queue        []func() // what waits for the host to come back
}

// demand is what a server takes from a host.
type demand struct {
	vcpus, memoryMiB, diskGiB int
	gpus                      map[string]int
}

func newHost(h Host) *host {
	h.GPUs = maps.Clone(h.GPUs)
	return &host{Host: h, id: longID("host", h.Name), members: map[string]*server{}, used: demand{gpus: map[string]int{}}}
}

const (
	pciAliasSpec   = "pci_passthrough:alias"
	resourcePrefix = "resources:"
)

// devices are the GPUs a flavor asks for: by PCI alias and by Placement resource class.
func (f Flavor) devices() (aliases, classes map[string]int) {
	aliases, classes = map[string]int{}, map[string]int{}
	for key, value := range f.ExtraSpecs {
		if key == pciAliasSpec {
			for request := range strings.SplitSeq(value, ",") {
				alias, count, _ := strings.Cut(strings.TrimSpace(request), ":")
				aliases[alias] += atoiOr(count, 1)
			}
		}
		if class, found := strings.CutPrefix(key, resourcePrefix); found && strings.HasPrefix(class, "CUSTOM_") {
			classes[class] += atoiOr(value, 0)
		}
	}
	return aliases, classes
}

// extendedResources are the extended resources that a node of the flavor advertises.
func (sc *Scenario) extendedResources(f Flavor) map[string]int {
	aliases, classes := f.devices()
	resources := map[string]int{}
	for alias, count := range aliases {
		if name := sc.Resources[pciAliasSpec+"="+alias]; name != "" {
			resources[name] += count
		}
	}
	for class, count := range classes {
		if name := sc.Resources[resourcePrefix+class]; name != "" {
			resources[name] += count
		}
	}
	return resources
}

func atoiOr(text string, otherwise int) int {
	if value, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
		return value
	}
	return otherwise
}

func (srv *server) demand() demand {
	aliases, classes := srv.flavor.devices()
	maps.Copy(aliases, classes)
	d := demand{vcpus: srv.flavor.VCPUs, memoryMiB: srv.flavor.MemoryMiB, diskGiB: srv.flavor.DiskGiB + srv.flavor.EphemeralGiB, gpus: aliases}
	if srv.bootsFromVolume() {
		d.diskGiB -= srv.flavor.DiskGiB
	}
	return d
}

// Nova's two texts for a cloud without room: Placement has no candidate, or the scheduler's filters
// left none of its candidates.
const (
	noCandidate = "No valid host was found. "
	allFiltered = "No valid host was found. There are not enough hosts available."
)

// schedule chooses a host; why tells what Nova says when there is none.
func (n *computeService) schedule(srv *server, avoid map[*host]bool) (chosen *host, why string) {
	wanted := srv.demand()
	_, classes := srv.flavor.devices()
	candidates := keep(n.hosts, func(h *host) bool { return h.isCandidate(srv, wanted, classes) })
	if len(candidates) == 0 {
		return nil, noCandidate
	}
	group := n.group(srv.groupID)
	peersAt := n.whereabouts(group, srv)
	candidates = keep(candidates, func(h *host) bool {
		return !avoid[h] && !h.down && h.hasGPUs(wanted.gpus) && n.hintsAllow(srv, h) && group.allows(h, srv, peersAt)
	})
	if len(candidates) == 0 {
		return nil, allFiltered
	}
	return slices.MinFunc(candidates, func(a, b *host) int {
		return cmp.Or(
			cmp.Compare(group.weight(a, srv), group.weight(b, srv)),
			cmp.Compare(a.spareGPUs(wanted), b.spareGPUs(wanted)),
			cmp.Compare(b.MemoryMiB-b.used.memoryMiB, a.MemoryMiB-a.used.memoryMiB),
			cmp.Compare(a.Name, b.Name),
		)
	}), ""
}

func keep[T any](items []T, fits func(T) bool) []T {
	var kept []T
	for _, item := range items {
		if fits(item) {
			kept = append(kept, item)
		}
	}
	return kept
}

// isCandidate is what Placement decides by.
func (h *host) isCandidate(srv *server, wanted demand, classes map[string]int) bool {
	return !h.disabled && (srv.zone == "" || srv.zone == h.Zone) &&
		h.used.vcpus+wanted.vcpus <= h.VCPUs && h.used.memoryMiB+wanted.memoryMiB <= h.MemoryMiB &&
		h.used.diskGiB+wanted.diskGiB <= h.DiskGiB && h.hasGPUs(classes)
}

func (h *host) hasGPUs(wanted map[string]int) bool {
	for kind, count := range wanted {
		if h.used.gpus[kind]+count > h.GPUs[kind] {
			return false
		}
	}
	return true
}

// spareGPUs makes servers without GPUs stay off GPU hosts while others have room.
func (h *host) spareGPUs(wanted demand) int {
	if len(wanted.gpus) > 0 {
		return 0
	}
	spare := 0
	for _, count := range h.GPUs {
		spare += count
	}
	return spare
}

// hintsAllow follows the scheduler hints same_host and different_host.
func (n *computeService) hintsAllow(srv *server, h *host) bool {
	onHost := func(id string) bool { return h.members[id] != nil }
	return !slices.ContainsFunc(srv.differentHost, onHost) && (len(srv.sameHost) == 0 || slices.ContainsFunc(srv.sameHost, onHost))
}

// place books a host's capacity for a server.
func (n *computeService) place(srv *server, h *host) { n.book(srv, h, 1) }

// release gives it back.
func (n *computeService) release(srv *server) {
	if srv.host != nil {
		n.book(srv, srv.host, -1)
	}
}

func (n *computeService) book(srv *server, h *host, sign int) {
	d := srv.demand()
	h.used.vcpus += sign * d.vcpus
	h.used.memoryMiB += sign * d.memoryMiB
	h.used.diskGiB += sign * d.diskGiB
	for kind, count := range d.gpus {
		h.used.gpus[kind] += sign * count
	}
	if sign > 0 {
		srv.host, h.members[srv.id] = h, srv
	} else {
		srv.host = nil
		delete(h.members, srv.id)
	}
}

func (n *computeService) hostNamed(name string) *host {
	return find(n.hosts, func(h *host) bool { return h.Name == name })
}
