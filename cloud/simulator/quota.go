package simulator

import "maps"

// unlimited is how every service writes "no limit".
const unlimited = -1

// defaultQuotas are generous limits under the names the services themselves use: Nova's, Neutron's
// (singular), Octavia's and Cinder's.
func defaultQuotas() map[string]int {
	return map[string]int{
		"instances": 1000, "cores": 20_000, "ram": 200_000_000, "key_pairs": 100, "server_groups": 1000,
		"server_group_members": 1000, "metadata_items": 128,
		"network": 500, "subnet": 500, "port": 5000, "router": 500, "floatingip": 1000,
		"security_group": 1000, "security_group_rule": 10_000, "trunk": 1000, "subnetpool": unlimited, "rbac_policy": 10,
		"loadbalancer": 1000, "listener": 1000, "pool": 1000, "member": 5000, "healthmonitor": 1000,
		"l7policy": 1000, "l7rule": 1000,
		"volumes": 1000, "gigabytes": 500_000, "snapshots": 1000, "per_volume_gigabytes": unlimited,
		"backups": 100, "backup_gigabytes": 10_000, "groups": 10,
	}
}

// quotaStore holds the limits of every project over all services.
type quotaStore struct {
	defaults map[string]int
	projects map[string]map[string]int
}

func (q *quotaStore) setUp(s *Simulator) {
	q.defaults = defaultQuotas()
	maps.Copy(q.defaults, s.scenario.Quotas)
	q.projects = map[string]map[string]int{}
}

func (q *quotaStore) set(project, resource string, limit int) {
	if q.projects[project] == nil {
		q.projects[project] = map[string]int{}
	}
	q.projects[project][resource] = limit
}

// reset gives a project its defaults back for the resources named.
func (q *quotaStore) reset(project string, resources []string) {
	for _, resource := range resources {
		delete(q.projects[project], resource)
	}
}

// quota is a project's limit of a resource; [unlimited] when there is none. The lock is held.
func (s *Simulator) quota(project, resource string) int {
	if limit, set := s.quotas.projects[project][resource]; set {
		return limit
	}
	if limit, known := s.quotas.defaults[resource]; known {
		return limit
	}
	return unlimited
}

// overQuota reports that `more` of a resource do not fit beside those used. The lock is held.
func (s *Simulator) overQuota(project, resource string, used, more int) bool {
	limit := s.quota(project, resource)
	return limit != unlimited && more > 0 && used+more > limit
}
