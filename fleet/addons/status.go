package addons

import (
	"fmt"
	"slices"
	"strings"
	"time"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// Limits of FleetMember.status.addons.
const (
	maxMessage = 2048
	maxAddons  = 64
)

const unreachableSince = "unreachable since "

// keep leaves every add-on as it was last seen, with a message that says why nothing newer is known. Those that have not been
// seen are Pending.
func keep(before []fleetv1.MemberAddon, intent Intent, message string) []fleetv1.MemberAddon {
	kept := map[string]fleetv1.MemberAddon{}
	for _, addon := range intent.Addons {
		kept[addon.Name] = fleetv1.MemberAddon{Name: addon.Name, Phase: fleetv1.AddonPending, Message: message}
	}
	for _, addon := range before {
		addon.Message = message
		kept[addon.Name] = addon
	}
	return sortedResults(kept)
}

// unreachable says since when. A moment that was written once stays, so that the message does not change with every try.
func unreachable(before []fleetv1.MemberAddon, since time.Time) string {
	for _, addon := range before {
		if strings.HasPrefix(addon.Message, unreachableSince) {
			return addon.Message
		}
	}
	return fmt.Sprintf("%s%s: the cluster's API server does not answer; this goes on as soon as it does", unreachableSince, since.UTC().Format(time.RFC3339))
}

// fit keeps within the limits of the API. Add-ons with trouble go first when there are too many.
func fit(addons []fleetv1.MemberAddon) []fleetv1.MemberAddon {
	for i := range addons {
		addons[i].Message = message.Clip(addons[i].Message, maxMessage)
	}
	if len(addons) <= maxAddons {
		return addons
	}
	slices.SortStableFunc(addons, func(a, b fleetv1.MemberAddon) int {
		if (a.Phase == fleetv1.AddonHealthy) == (b.Phase == fleetv1.AddonHealthy) {
			return 0
		}
		if a.Phase == fleetv1.AddonHealthy {
			return 1
		}
		return -1
	})
	addons = addons[:maxAddons]
	slices.SortFunc(addons, func(a, b fleetv1.MemberAddon) int { return strings.Compare(a.Name, b.Name) })
	return addons
}

func isSettled(addons []fleetv1.MemberAddon) bool {
	return !slices.ContainsFunc(addons, func(addon fleetv1.MemberAddon) bool {
		return addon.Phase != fleetv1.AddonHealthy && addon.Phase != fleetv1.AddonSuspended
	})
}
