// Command fleet-manager gives tenants clusters made of releases and node templates, on top of Cluster API.
package main

import (
	"context"
	"os"
	"runtime/debug"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sendan-io/sendan/cmd/internal/manager"
)

const name = "fleet-manager"

// gcPercent spends processor time, of which a settled manager needs little, to save memory, most of which is what caches keep.
// The environment variable GOGC takes precedence.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	o := options{manager: manager.Options{Name: name}}
	manager.Main(&o.manager, o.addFlags, func(ctx context.Context) (ctrl.Manager, error) { return newManager(ctx, &o) })
}
