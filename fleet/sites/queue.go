package sites

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// Waiting is a machine for which no host has room.
type Waiting struct {
	Machine types.NamespacedName
	// Pool is the MachineDeployment that it belongs to; without a name for a machine of a control plane.
	Pool types.NamespacedName
	// Flavor by its name in the cloud.
	Flavor string
	// Zone that it has to be in; any when empty.
	Zone string
	// Since when it waits: its creation.
	Since time.Time
}

// timeFormat is how messages tell a time.
const timeFormat = "2006-01-02 15:04 MST"

// queue tells each pool that waits what for, and its place: that of its oldest machine among all machines of the site that
// could use the same hosts, oldest first. Nova does not know of the line: who stands first has only waited longest.
func queue(site string, waiting []Waiting, flavors []fleetv1.SiteFlavor, capacity []fleetv1.GPUCapacity) map[types.NamespacedName]string {
	line := slices.SortedFunc(slices.Values(waiting), func(a, b Waiting) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Machine.String(), b.Machine.String()))
	})
	messages := map[types.NamespacedName]string{}
	for _, first := range line {
		if _, told := messages[first.Pool]; told || first.Pool.Name == "" {
			continue
		}
		flavor := flavorNamed(flavors, first.Flavor)
		rivals := slices.DeleteFunc(slices.Clone(line), func(other Waiting) bool {
			return wish(flavorNamed(flavors, other.Flavor)) != wish(flavor) || !overlap(first.Zone, other.Zone)
		})
		own := int32(0)
		for _, rival := range rivals {
			if rival.Pool == first.Pool {
				own++
			}
		}
		messages[first.Pool] = fmt.Sprintf("waiting for %s in %s: place %d of %d in line since %s%s. Tried again by itself, at most 15 minutes apart; "+
			"another node template or site may have room, and fewer replicas end the wait.",
			amount(flavor, own), where(site, first.Zone), slices.Index(rivals, first)+1, len(rivals), first.Since.UTC().Format(timeFormat),
			freeNow(flavor, first.Zone, capacity))
	}
	return messages
}

// wish is what machines compete for.
func wish(flavor fleetv1.SiteFlavor) string { return cmp.Or(flavor.GPUModel, "flavor "+flavor.Name) }

func amount(flavor fleetv1.SiteFlavor, machines int32) string {
	if flavor.GPUs > 0 {
		return fmt.Sprintf("%d × %s", machines*flavor.GPUs, flavor.GPUModel)
	}
	return fmt.Sprintf("hosts for %d × flavor %s", machines, flavor.Name)
}

func where(site, zone string) string {
	if zone == "" {
		return site
	}
	return site + ", zone " + zone
}

// freeNow says what Placement knows of the zones that a machine may be in. A bound by quota would say nothing about hosts.
func freeNow(flavor fleetv1.SiteFlavor, zone string, capacity []fleetv1.GPUCapacity) string {
	var none, some []string
	for _, entry := range capacity {
		if flavor.GPUs == 0 || entry.Model != flavor.GPUModel || !overlap(zone, entry.FailureDomain) || entry.Source != fleetv1.CapacityFromPlacement {
			continue
		}
		in := ""
		if entry.FailureDomain != "" {
			in = " in " + entry.FailureDomain
		}
		if free := ptr.Deref(entry.Free, 0); free > 0 {
			some = append(some, fmt.Sprintf("%d free%s", free, in))
		} else {
			none = append(none, strings.TrimPrefix(in, " in "))
		}
	}
	text := ""
	if len(none) > 0 {
		text = strings.TrimSuffix("; none free in "+strings.Join(none, ", "), " in ")
	}
	if len(some) > 0 {
		text += fmt.Sprintf("; %s, of which a machine needs %d on one host", strings.Join(some, ", "), flavor.GPUs)
	}
	return text
}
