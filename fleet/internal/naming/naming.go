// Package naming knows what a site calls things.
package naming

import fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"

// InCloud is the cloud's name of what the fleet calls by a logical name: the same, unless the site says otherwise.
func InCloud(names []fleetv1.NameInCloud, name string) string {
	for _, entry := range names {
		if entry.Name == name {
			return entry.NameInCloud
		}
	}
	return name
}
