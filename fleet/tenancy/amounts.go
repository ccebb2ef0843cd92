package tenancy

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// dimension is something that a quota limits. The name is that of a GPU model or of a MIG profile.
type dimension struct{ what, name string }

// What a quota limits, as messages call it, in the order of messages.
const (
	clusters  = "clusters"
	nodes     = "nodes"
	vcpus     = "vCPUs"
	memory    = "memory" // in MiB
	gpus      = "GPUs"
	migSlices = "MIG slices"
)

func (d dimension) String() string { return strings.TrimSpace(d.what + " " + d.name) }

// quantity is a number as messages show it.
func (d dimension) quantity(n int64) string {
	if d.what == memory {
		return strconv.FormatFloat(float64(n)/1024, 'f', -1, 64) + " GiB"
	}
	return strconv.FormatInt(n, 10)
}

func compareDimensions(a, b dimension) int {
	order := strings.Join([]string{clusters, nodes, vcpus, memory, gpus, migSlices}, "|")
	return cmp.Or(cmp.Compare(strings.Index(order, a.what), strings.Index(order, b.what)), cmp.Compare(a.name, b.name))
}

// amounts says how much of each dimension; none of what is not in it.
type amounts map[dimension]int64

func amountsOf(usage fleetv1.Usage) amounts {
	a := amounts{}
	a.addUsage(usage)
	return a.withoutZeros()
}

func (a amounts) addUsage(usage fleetv1.Usage) {
	a[dimension{what: clusters}] += usage.Clusters
	a[dimension{what: nodes}] += usage.Nodes
	a[dimension{what: vcpus}] += usage.VCPUs
	a[dimension{what: memory}] += usage.MemoryMiB
	for model, count := range usage.GPUs {
		a[dimension{gpus, model}] += count
	}
	for profile, count := range usage.MIGSlices {
		a[dimension{migSlices, profile}] += count
	}
}

// limitsOf is what a quota sets; what it does not set is not limited.
func limitsOf(quota fleetv1.TenantQuota) amounts {
	const mibPerGiB = 1024
	limits := amounts{}
	set := func(d dimension, limit *int64, factor int64) {
		if limit != nil {
			limits[d] = *limit * factor
		}
	}
	set(dimension{what: clusters}, quota.Clusters, 1)
	set(dimension{what: nodes}, quota.Nodes, 1)
	set(dimension{what: vcpus}, quota.VCPUs, 1)
	set(dimension{what: memory}, quota.MemoryGiB, mibPerGiB)
	for _, gpu := range quota.GPUs {
		set(dimension{gpus, gpu.Model}, gpu.Count, 1)
	}
	for _, slice := range quota.MIGSlices {
		set(dimension{migSlices, slice.Profile}, slice.Count, 1)
	}
	return limits
}

// nodesOf is what a number of nodes costs.
func nodesOf(count int64, charge fleetv1.NodeCharge) amounts {
	a := amounts{{what: nodes}: count, {what: vcpus}: count * charge.VCPUs, {what: memory}: count * charge.MemoryMiB,
		{gpus, charge.GPUModel}: count * charge.GPUs}
	for profile, slices := range charge.MIGSlices {
		a[dimension{migSlices, profile}] = count * slices
	}
	return a.withoutZeros()
}

func (a amounts) withoutZeros() amounts {
	maps.DeleteFunc(a, func(_ dimension, n int64) bool { return n == 0 })
	return a
}

func (a amounts) usage() fleetv1.Usage {
	usage := fleetv1.Usage{}
	for d, n := range a {
		switch d.what {
		case clusters:
			usage.Clusters = n
		case nodes:
			usage.Nodes = n
		case vcpus:
			usage.VCPUs = n
		case memory:
			usage.MemoryMiB = n
		case gpus:
			usage.GPUs = with(usage.GPUs, d.name, n)
		case migSlices:
			usage.MIGSlices = with(usage.MIGSlices, d.name, n)
		}
	}
	return usage
}

func with(m map[string]int64, key string, n int64) map[string]int64 {
	if m == nil {
		m = map[string]int64{}
	}
	m[key] = n
	return m
}

func sum(parts ...amounts) amounts {
	total := amounts{}
	for _, part := range parts {
		total.add(part)
	}
	return total
}

func (a amounts) add(more amounts) {
	for d, n := range more {
		a[d] += n
	}
}

// larger has the larger of each dimension.
func larger(a, b amounts) amounts {
	most := sum(a)
	for d, n := range b {
		most[d] = max(most[d], n)
	}
	return most
}

// exceed reports that there is more in some dimension.
func (a amounts) exceed(b amounts) bool {
	for d, n := range a {
		if n > b[d] {
			return true
		}
	}
	return false
}

// shortage is a dimension in which more is asked than is left.
type shortage struct {
	dimension
	used, limit, asked int64
}

func (s shortage) String() string {
	return fmt.Sprintf("%s: %s of %s used, %s more asked, %s left", s.dimension, s.number(s.used), s.quantity(s.limit), s.quantity(s.asked),
		s.quantity(max(0, s.limit-s.used)))
}

// number leaves out the unit, which follows.
func (d dimension) number(n int64) string { return strings.TrimSuffix(d.quantity(n), " GiB") }
