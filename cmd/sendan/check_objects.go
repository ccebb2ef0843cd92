package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// securityGroupRules, as the simulator calls them.
const securityGroupRules = "security-group-rules"

// clusterObjects is exactly what a cluster with these pools is made of. A kind that is not here should not be in the cloud
// at all.
func clusterObjects(pools map[string]*wantedPool) objectCounts {
	machines, serverGroups := controlPlaneNodes, 1
	for _, pool := range pools {
		machines += pool.nodes
		if pool.spread && pool.nodes > 0 {
			serverGroups++
		}
	}
	return objectCounts{
		"networks":        1,
		"subnets":         1,
		"routers":         1,
		"security-groups": 2, // control plane and workers
		"loadbalancers":   1,
		"listeners":       1,
		"pools":           1,
		"healthmonitors":  1,
		"members":         controlPlaneNodes,
		"floatingips":     1,
		"server_groups":   serverGroups,
		"servers":         machines,
		"ports":           machines + 2, // the router's and the load balancer's
	}
}

// difference says what there is too much and too little of; nil when nothing is. Rules of security
// groups are left out: the cloud itself refuses a second one alike.
func (c objectCounts) difference(want objectCounts) error {
	kinds := maps.Clone(want)
	maps.Copy(kinds, c)
	delete(kinds, securityGroupRules)
	var wrong []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if c[kind] != want[kind] {
			wrong = append(wrong, fmt.Sprintf("%d %s instead of %d", c[kind], kind, want[kind]))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("the cloud has %s", strings.Join(wrong, ", "))
}
