package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// operations are the features of package cloud, in the order in which they are examined.
func operations() []feature {
	paging := []feature{{name: "inventory/paging", needs: []string{"network/port"}, check: pageThrough}}
	return slices.Concat(beginning(), networking(), computing(), balancing(), misfortunes(), paging, ending())
}

// announcement says what the run is about to make, before it makes anything.
func (s *suite) announcement() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nRun %s is about to make in project %s, and to delete again:\n", s.id, s.session.ProjectName())
	for _, planned := range []struct{ service, what string }{
		{"network", "2 networks, 2 subnets, 2 routers with an external gateway, 3 security groups, 2 ports and a trunk, those of the servers besides"},
		{"compute", "2 servers, one after the other; 2 server groups"},
		{"block-storage", "1 volume of 1 GiB"},
		{"network", "2 floating IPs, one after the other"},
		{"load-balancer", "2 load balancers, one after the other"},
	} {
		if s.discovered.Endpoints[planned.service] != "" {
			fmt.Fprintf(&b, "- %s\n", planned.what)
		}
	}
	fmt.Fprintf(&b, "named %s, marked %q in description or metadata.\n%s\n", s.name("…"), s.mark(), s.chosen.why)
	return b.String()
}

// title says which cloud the table is about, and when.
func (s *suite) title() string {
	where := s.identity.String()
	if s.session != nil {
		where += fmt.Sprintf(", which is project %q in region %q", s.session.ProjectName(), s.session.Region())
	}
	return fmt.Sprintf("# Sendan's conformance with cloud %q\n\nRun %s at %s: %s.", s.identity.CloudName, s.id, time.Now().UTC().Format(time.RFC3339), where)
}
