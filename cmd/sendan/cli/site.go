package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func (s *session) siteCommand() *cobra.Command {
	return s.noun("site", "See the clouds that clusters can be in, and their free GPUs", s.siteList())
}

func (s *session) siteList() *cobra.Command {
	return s.list("Show sites, with their free GPUs", func(c *connection, out output) error {
		sites, err := c.sites(c.cmd.Context())
		if err != nil {
			return err
		}
		if !out.forPeople() {
			return out.objects(c.cmd.OutOrStdout(), c.Scheme(), sites)
		}
		return writeSites(c.cmd.OutOrStdout(), sites.Items, out.wide(), c.session.clock.Now())
	})
}

// sites are all of them, or those that the tenant of the namespace may use: members may read them one by one only.
func (c *connection) sites(ctx context.Context) (*fleetv1.SiteList, error) {
	sites := &fleetv1.SiteList{}
	err := c.List(ctx, sites)
	if err == nil {
		return sites, nil
	}
	failed := fmt.Errorf("list Sites: %w", err)
	if !apierrors.IsForbidden(err) {
		return nil, failed
	}
	tenant, err := c.tenant(ctx, nil)
	if err != nil || slices.Contains(tenant.Spec.Sites, "*") {
		return nil, failed
	}
	sites = &fleetv1.SiteList{}
	for _, name := range tenant.Spec.Sites {
		site := fleetv1.Site{}
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &site); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("get Site %s: %w", name, err)
		}
		sites.Items = append(sites.Items, site)
	}
	return sites, nil
}

// siteRow is one model of GPU in one zone of a site; a site without GPUs has one row.
type siteRow struct {
	fleetv1.Site
	gpus fleetv1.GPUCapacity
}

// writeSites has a row for each model and zone of each site.
func writeSites(out io.Writer, sites []fleetv1.Site, wide bool, now time.Time) error {
	var rows []siteRow
	for _, site := range sites {
		for _, capacity := range site.Status.Capacity {
			rows = append(rows, siteRow{site, capacity})
		}
		if len(site.Status.Capacity) == 0 {
			rows = append(rows, siteRow{Site: site})
		}
	}
	number := func(n int32) string { return strconv.Itoa(int(n)) }
	return writeTable(out, wide, []column[siteRow]{
		{name: "Name", cell: func(r siteRow) string { return r.Name }},
		{name: "Region", cell: func(r siteRow) string { return r.Status.Region }},
		{name: "Ready", cell: func(r siteRow) string { return string(condition(r.Status.Conditions, fleetv1.ReadyCondition).Status) }},
		{name: "GPU", cell: func(r siteRow) string { return r.gpus.Model }},
		{name: "Zone", cell: func(r siteRow) string { return r.gpus.FailureDomain }},
		{name: "Free", cell: func(r siteRow) string { return freeText(r.gpus) }},
		{name: "Waiting", cell: func(r siteRow) string {
			if r.gpus.Waiting == 0 {
				return ""
			}
			return number(r.gpus.Waiting)
		}},
		{name: "Source", wide: true, cell: func(r siteRow) string { return string(r.gpus.Source) }},
		{name: "Clusters", wide: true, cell: func(r siteRow) string { return number(r.Status.Clusters) }},
		{name: "Seen", wide: true, cell: func(r siteRow) string { return age(now, r.Status.ObservedTime) }},
		{name: "Message", cell: func(r siteRow) string {
			return shorten(condition(r.Status.Conditions, fleetv1.ReadyCondition).Message, wide)
		}},
	}, rows)
}

// freeText shows a number that is not exact as such.
func freeText(gpus fleetv1.GPUCapacity) string {
	if gpus.Free == nil {
		return ""
	}
	text := strconv.Itoa(int(*gpus.Free))
	if gpus.Source == fleetv1.CapacityFromLimits {
		return "≤" + text
	}
	return text
}
