package simulator

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

func (n *computeService) hostRoutes(rt *router) {
	n.handle(rt, "GET /v2.1/os-services", n.listServices)
	n.handle(rt, "PUT /v2.1/os-services/{id}", n.updateService)
	n.handle(rt, "GET /v2.1/os-hypervisors", n.listHypervisors)
	n.handle(rt, "GET /v2.1/os-hypervisors/detail", n.listHypervisorsInDetail)
	n.handle(rt, "GET /v2.1/os-hypervisors/statistics", n.hypervisorStatistics)
	n.handle(rt, "GET /v2.1/os-hypervisors/{id}", n.showHypervisor)
}

func upOrDown(h *host) string {
	if h.down {
		return "down"
	}
	return "up"
}

func enabledOrDisabled(h *host) string {
	if h.disabled {
		return "disabled"
	}
	return "enabled"
}

// serviceID is a UUID since 2.53 and a number before.
func (n *computeService) serviceID(h *host, version int) any {
	if version >= 53 {
		return longID("nova-compute", h.Name)
	}
	return slices.Index(n.hosts, h) + 1
}

func (n *computeService) serviceView(h *host, version int, now time.Time) fields {
	view := fields{
		"id": n.serviceID(h, version), "binary": "nova-compute", "host": h.Name, "zone": h.Zone, "state": upOrDown(h),
		"status": enabledOrDisabled(h), "updated_at": stampMicros(now), "disabled_reason": emptyAsNull(h.reason),
	}
	if version >= 11 {
		view["forced_down"] = h.down
	}
	return view
}

func (n *computeService) listServices(c *call, version int) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("os_compute_api:os-services:list")
	}
	views := []fields{}
	if binary := c.query("binary"); binary == "" || binary == "nova-compute" {
		for _, h := range n.hosts {
			if name := c.query("host"); name == "" || name == h.Name {
				views = append(views, n.serviceView(h, version, n.s.now()))
			}
		}
	}
	return ok(fields{"services": views})
}

func (n *computeService) updateService(c *call, version int) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("os_compute_api:os-services:update")
	}
	h := find(n.hosts, func(h *host) bool { return n.serviceID(h, version) == c.id("id") })
	if h == nil {
		return reply{}, problemf(http.StatusNotFound, "Service %s could not be found.", c.id("id"))
	}
	var in struct {
		Status     string `json:"status"`
		Reason     string `json:"disabled_reason"`
		ForcedDown *bool  `json:"forced_down"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	change := HostChange{}
	if in.Status != "" {
		disabled := in.Status == "disabled"
		change.Disabled, change.Reason = &disabled, &in.Reason
	}
	if in.ForcedDown != nil {
		up := !*in.ForcedDown
		change.Up = &up
	}
	n.changeHost(h, change)
	return ok(fields{"service": n.serviceView(h, version, n.s.now())})
}

func (n *computeService) hypervisorID(h *host, version int) any {
	if version >= 53 {
		return h.id
	}
	return slices.Index(n.hosts, h) + 1
}

func (n *computeService) hypervisorView(h *host, version int) fields {
	view := fields{
		"id": n.hypervisorID(h, version), "hypervisor_hostname": h.Name, "state": upOrDown(h), "status": enabledOrDisabled(h),
		"hypervisor_type": "QEMU", "hypervisor_version": 7_000_000, "host_ip": "192.0.2." + strconv.Itoa(slices.Index(n.hosts, h)%250+1),
		"service": fields{"id": n.serviceID(h, version), "host": h.Name, "disabled_reason": emptyAsNull(h.reason)},
	}
	if version >= 88 {
		view["uptime"] = nil
		return view
	}
	maps.Copy(view, fields{
		"vcpus": h.VCPUs, "vcpus_used": h.used.vcpus, "memory_mb": h.MemoryMiB, "memory_mb_used": h.used.memoryMiB,
		"free_ram_mb": h.MemoryMiB - h.used.memoryMiB, "local_gb": h.DiskGiB, "local_gb_used": h.used.diskGiB,
		"free_disk_gb": h.DiskGiB - h.used.diskGiB, "disk_available_least": h.DiskGiB - h.used.diskGiB,
		"running_vms": len(h.members), "current_workload": 0, "cpu_info": fields{"arch": "x86_64", "model": "EPYC", "vendor": "AMD", "features": []string{}, "topology": fields{"cores": h.VCPUs, "sockets": 1, "threads": 1}},
	})
	return view
}

func (n *computeService) hypervisorList(c *call, view func(*host) fields) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("os_compute_api:os-hypervisors:list")
	}
	hosts, next, err := page(c, n.hosts, maxPage, func(h *host) string { return h.id })
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, h := range hosts {
		views = append(views, view(h))
	}
	return pageReply("hypervisors", views, next), nil
}

func (n *computeService) listHypervisors(c *call, version int) (reply, error) {
	return n.hypervisorList(c, func(h *host) fields {
		return fields{"id": n.hypervisorID(h, version), "hypervisor_hostname": h.Name, "state": upOrDown(h), "status": enabledOrDisabled(h)}
	})
}

func (n *computeService) listHypervisorsInDetail(c *call, version int) (reply, error) {
	return n.hypervisorList(c, func(h *host) fields { return n.hypervisorView(h, version) })
}

func (n *computeService) showHypervisor(c *call, version int) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("os_compute_api:os-hypervisors:show")
	}
	for _, h := range n.hosts {
		if h.id == c.id("id") || c.id("id") == strconv.Itoa(slices.Index(n.hosts, h)+1) {
			return ok(fields{"hypervisor": n.hypervisorView(h, version)})
		}
	}
	return reply{}, problemf(http.StatusNotFound, "Compute host %s could not be found.", c.id("id"))
}

func (n *computeService) hypervisorStatistics(c *call, _ int) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("os_compute_api:os-hypervisors:statistics")
	}
	var total Host
	var used demand
	running := 0
	for _, h := range n.hosts {
		total.VCPUs, total.MemoryMiB, total.DiskGiB = total.VCPUs+h.VCPUs, total.MemoryMiB+h.MemoryMiB, total.DiskGiB+h.DiskGiB
		used.vcpus, used.memoryMiB, used.diskGiB = used.vcpus+h.used.vcpus, used.memoryMiB+h.used.memoryMiB, used.diskGiB+h.used.diskGiB
		running += len(h.members)
	}
	return ok(fields{"hypervisor_statistics": fields{
		"count": len(n.hosts), "vcpus": total.VCPUs, "vcpus_used": used.vcpus, "memory_mb": total.MemoryMiB, "memory_mb_used": used.memoryMiB,
		"free_ram_mb": total.MemoryMiB - used.memoryMiB, "local_gb": total.DiskGiB, "local_gb_used": used.diskGiB,
		"free_disk_gb": total.DiskGiB - used.diskGiB, "disk_available_least": total.DiskGiB - used.diskGiB, "running_vms": running, "current_workload": 0,
	}})
}

// HostChange changes a hypervisor; unset fields stay as they are.
type HostChange struct {
	// Up false lets the hypervisor die with everything on it. Nova keeps calling its servers ACTIVE.
	Up *bool `json:"up,omitempty"`
	// Disabled keeps new servers away.
	Disabled  *bool          `json:"disabled,omitempty"`
	Reason    *string        `json:"reason,omitempty"` // why it is disabled
	VCPUs     *int           `json:"vcpus,omitempty"`
	MemoryMiB *int           `json:"memoryMiB,omitempty"`
	DiskGiB   *int           `json:"diskGiB,omitempty"`
	GPUs      map[string]int `json:"gpus,omitempty"`
	// RefusesSpawn lets every build on the hypervisor fail with this text; an empty text ends that.
	RefusesSpawn *string `json:"refusesSpawn,omitempty"`
}

// changeHost applies a change.
func (n *computeService) changeHost(h *host, change HostChange) {
	assign(&h.disabled, change.Disabled)
	assign(&h.reason, change.Reason)
	if !h.disabled {
		h.reason = ""
	}
	assign(&h.VCPUs, change.VCPUs)
	assign(&h.MemoryMiB, change.MemoryMiB)
	assign(&h.DiskGiB, change.DiskGiB)
	assign(&h.refusesSpawn, change.RefusesSpawn)
	for kind, count := range change.GPUs {
		if h.GPUs == nil {
			h.GPUs = map[string]int{}
		}
		h.GPUs[kind] = count
	}
	if change.Up != nil && h.down == *change.Up {
		h.down = !*change.Up
		n.followHost(h)
	}
}

func assign[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// followHost stops the nodes of a host that went down, and starts those again that Nova believes to
// be running once it is back; what waited for the host goes on.
func (n *computeService) followHost(h *host) {
	for _, srv := range h.members {
		if srv.vmState != vmActive {
			continue
		}
		n.switchNode(srv, !h.down)
	}
	if !h.down {
		waiting := h.queue
		h.queue = nil
		for _, do := range waiting {
			do()
		}
	}
}

// switchNode turns a node on or off without anything in the API telling so.
func (n *computeService) switchNode(srv *server, on bool) {
	do := n.s.backend.PowerOff
	if on {
		do = n.s.backend.PowerOn
	}
	n.onNode(srv, func(ctx context.Context) error { return do(ctx, srv.id) }, func(err error) {
		if err != nil {
			n.s.log.Warn("node not switched", "server", srv.id, "on", on, "error", err)
		}
	})
}
