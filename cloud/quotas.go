package cloud

import (
	"cmp"
	"context"
	"slices"
)

// Quotas are the project's limits and what it uses of them, at most a minute old. A service that is
// not in the catalog is left out.
func (s *Session) Quotas(ctx context.Context) ([]QuotaUsage, error) {
	return s.lookups.quotas.get(ctx, struct{}{}, s.askQuotas)
}

// ComputeQuotas are those of Nova alone, at most a minute old: one call.
func (s *Session) ComputeQuotas(ctx context.Context) ([]QuotaUsage, error) {
	return s.lookups.computeQuotas.get(ctx, struct{}{}, s.askComputeQuotas)
}

func (s *Session) askQuotas(ctx context.Context) ([]QuotaUsage, error) {
	askers := []struct {
		of  service
		ask func(context.Context) ([]QuotaUsage, error)
	}{
		{computeService, s.askComputeQuotas},
		{networkService, s.askNetworkQuotas},
		{volumeService, s.askVolumeQuotas},
		{loadBalancerService, s.askLoadBalancerQuotas},
	}
	access, err := s.auth.access(ctx)
	if err != nil {
		return nil, s.classify("", err)
	}
	var all []QuotaUsage
	for _, asker := range askers {
		if _, found := access.endpoints[asker.of]; !found {
			continue
		}
		usage, err := asker.ask(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, usage...)
	}
	return all, nil
}

// limitsAnswer is what Nova and Cinder answer alike.
type limitsAnswer struct {
	Limits struct {
		Absolute map[string]int `json:"absolute"`
	} `json:"limits"`
}

// limitNames says under which names a service gives one resource.
type limitNames struct{ resource, limit, used string }

func (a limitsAnswer) usage(names []limitNames) []QuotaUsage {
	var usage []QuotaUsage
	for _, name := range names {
		if limit, found := a.Limits.Absolute[name.limit]; found {
			usage = append(usage, QuotaUsage{Resource: name.resource, Used: a.Limits.Absolute[name.used], Limit: limit})
		}
	}
	return usage
}

func (s *Session) askComputeQuotas(ctx context.Context) ([]QuotaUsage, error) {
	var answer limitsAnswer
	err := s.read(ctx, computeService, "limits", &answer)
	return answer.usage([]limitNames{
		{"instances", "maxTotalInstances", "totalInstancesUsed"},
		{"cores", "maxTotalCores", "totalCoresUsed"},
		{"ram", "maxTotalRAMSize", "totalRAMUsed"},
		{"server_groups", "maxServerGroups", "totalServerGroupsUsed"},
	}), err
}

func (s *Session) askVolumeQuotas(ctx context.Context) ([]QuotaUsage, error) {
	var answer limitsAnswer
	err := s.read(ctx, volumeService, "limits", &answer)
	return answer.usage([]limitNames{
		{"volumes", "maxTotalVolumes", "totalVolumesUsed"},
		{"gigabytes", "maxTotalVolumeGigabytes", "totalGigabytesUsed"},
	}), err
}

// networkResources are Neutron's names of what this package makes, and ours, which are those of the
// quota commands: the plural.
var networkResources = [][2]string{
	{"network", "networks"}, {"subnet", "subnets"}, {"router", "routers"}, {"port", "ports"},
	{"security_group", "security_groups"}, {"security_group_rule", "security_group_rules"},
	{"floatingip", "floatingips"}, {"trunk", "trunks"},
}

func (s *Session) askNetworkQuotas(ctx context.Context) ([]QuotaUsage, error) {
	var answer struct {
		Quota map[string]struct {
			Used     int `json:"used"`
			Reserved int `json:"reserved"`
			Limit    int `json:"limit"`
		} `json:"quota"`
	}
	if err := s.read(ctx, networkService, "quotas/"+s.ProjectID()+"/details.json", &answer); err != nil {
		return nil, err
	}
	var usage []QuotaUsage
	for _, names := range networkResources {
		if quota, found := answer.Quota[names[0]]; found {
			usage = append(usage, QuotaUsage{Resource: names[1], Used: quota.Used + quota.Reserved, Limit: quota.Limit})
		}
	}
	return usage, nil
}

// askLoadBalancerQuotas counts the load balancers itself: Octavia tells limits but not use.
func (s *Session) askLoadBalancerQuotas(ctx context.Context) ([]QuotaUsage, error) {
	var answer struct {
		Quota map[string]*int `json:"quota"`
	}
	if err := s.read(ctx, loadBalancerService, "lbaas/quotas/"+s.ProjectID(), &answer); err != nil {
		return nil, err
	}
	// Octavia writes both spellings, and null or -1 for no limit.
	limit := -1
	if given := cmp.Or(answer.Quota["load_balancer"], answer.Quota["loadbalancer"]); given != nil {
		limit = *given
	}
	used, err := s.countLoadBalancers(ctx)
	return []QuotaUsage{{Resource: "loadbalancers", Used: used, Limit: limit}}, err
}

func (s *Session) countLoadBalancers(ctx context.Context) (int, error) {
	var answer struct {
		LoadBalancers []struct {
			ProjectID string `json:"project_id"`
		} `json:"loadbalancers"`
	}
	path := "lbaas/loadbalancers?fields=project_id&project_id=" + s.ProjectID()
	if err := s.read(ctx, loadBalancerService, path, &answer); err != nil {
		return 0, err
	}
	return len(answer.LoadBalancers), nil
}

// QuotaOf finds one resource; false when the cloud has no limit of that name.
func QuotaOf(quotas []QuotaUsage, resource string) (QuotaUsage, bool) {
	i := slices.IndexFunc(quotas, func(quota QuotaUsage) bool { return quota.Resource == resource })
	if i < 0 {
		return QuotaUsage{}, false
	}
	return quotas[i], true
}
