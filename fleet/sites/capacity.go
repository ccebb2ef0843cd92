package sites

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// mostCapacities is what the API takes.
const mostCapacities = 1024

// capacityOf is how many GPUs are free: by host from Placement, else an upper bound from the project's quota, or nothing
// where Nova has just refused a machine.
func capacityOf(gpus []fleetv1.SiteGPU, flavors []fleetv1.SiteFlavor, domains []string, facts Facts, waiting []Waiting) []fleetv1.GPUCapacity {
	var all []fleetv1.GPUCapacity
	for _, gpu := range gpus {
		var entries []fleetv1.GPUCapacity
		if hosts, known := facts.Free[gpu.Model]; known {
			entries = byPlacement(gpu.Model, hosts, domains)
		} else {
			entries = byLimits(gpu.Model, flavors, facts.Quotas)
		}
		all = append(all, withWaiting(gpu.Model, entries, waitingFor(gpu.Model, flavors, waiting))...)
	}
	slices.SortFunc(all, func(a, b fleetv1.GPUCapacity) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.FailureDomain, b.FailureDomain))
	})
	return all[:min(len(all), mostCapacities)]
}

// byPlacement sums by zone. Placement does not list hosts that are full, so every zone that clusters may use has a number.
// Hosts in no known zone are a number of their own.
func byPlacement(model string, hosts []cloud.HostResources, domains []string) []fleetv1.GPUCapacity {
	sums := map[string]int{}
	for _, host := range hosts {
		sums[host.Zone] += host.Free
	}
	_, unplaced := sums[""]
	var zones []string
	if unplaced || len(domains) == 0 {
		zones = append(zones, "")
	}
	if !unplaced || len(sums) > 1 {
		zones = append(zones, domains...)
	}
	var entries []fleetv1.GPUCapacity
	for _, zone := range zones {
		entries = append(entries, fleetv1.GPUCapacity{
			Model: model, FailureDomain: zone, Free: ptr.To(toInt32(sums[zone])), Source: fleetv1.CapacityFromPlacement,
		})
	}
	return entries
}

// byLimits is how many machines of the smallest flavor with the GPU the quota leaves. None is known where nothing is limited
// or no flavor has the GPU.
func byLimits(model string, flavors []fleetv1.SiteFlavor, quotas []cloud.QuotaUsage) []fleetv1.GPUCapacity {
	offering := slices.DeleteFunc(slices.Clone(flavors), func(flavor fleetv1.SiteFlavor) bool { return flavor.GPUModel != model })
	if len(offering) == 0 {
		return nil
	}
	smallest := slices.MinFunc(offering, func(a, b fleetv1.SiteFlavor) int {
		return cmp.Or(cmp.Compare(a.VCPUs, b.VCPUs), cmp.Compare(a.MemoryMiB, b.MemoryMiB), cmp.Compare(a.Name, b.Name))
	})
	machines, limited := 0, false
	for resource, each := range map[string]int32{"instances": 1, "cores": smallest.VCPUs, "ram": smallest.MemoryMiB} {
		quota, known := cloud.QuotaOf(quotas, resource)
		if !known || quota.Limit < 0 || each <= 0 {
			continue
		}
		if fit := max(quota.Limit-quota.Used, 0) / int(each); !limited || fit < machines {
			machines, limited = fit, true
		}
	}
	if !limited {
		return nil
	}
	return []fleetv1.GPUCapacity{{Model: model, Free: ptr.To(toInt32(machines * int(smallest.GPUs))), Source: fleetv1.CapacityFromLimits}}
}

// withWaiting counts the machines that found none. What Placement says of a zone holds in spite of them, since a machine
// takes all its GPUs from one host; a mere bound does not.
func withWaiting(model string, entries []fleetv1.GPUCapacity, waiting []Waiting) []fleetv1.GPUCapacity {
	byZone := map[string]int32{}
	for _, machine := range waiting {
		byZone[machine.Zone]++
	}
	exact := len(entries) > 0 && entries[0].Source == fleetv1.CapacityFromPlacement
	if !exact {
		for _, zone := range slices.Sorted(maps.Keys(byZone)) {
			refused := fleetv1.GPUCapacity{Model: model, FailureDomain: zone, Free: ptr.To[int32](0), Source: fleetv1.CapacityFromFailures}
			if zone == "" {
				entries = nil // Nova tried every zone
			}
			entries = append(entries, refused)
		}
	}
	for i, entry := range entries {
		for zone, machines := range byZone {
			if overlap(zone, entry.FailureDomain) {
				entries[i].Waiting += machines
			}
		}
	}
	return entries
}

// overlap reports that two wishes for a zone could be met by the same host. An empty one is any zone.
func overlap(a, b string) bool { return a == "" || b == "" || a == b }

func waitingFor(model string, flavors []fleetv1.SiteFlavor, waiting []Waiting) []Waiting {
	return slices.DeleteFunc(slices.Clone(waiting), func(machine Waiting) bool { return flavorNamed(flavors, machine.Flavor).GPUModel != model })
}

func flavorNamed(flavors []fleetv1.SiteFlavor, name string) fleetv1.SiteFlavor {
	if i := slices.IndexFunc(flavors, func(flavor fleetv1.SiteFlavor) bool { return flavor.Name == name }); i >= 0 {
		return flavors[i]
	}
	return fleetv1.SiteFlavor{Name: name}
}
