// Command fleet-manager gives tenants clusters made of releases and node templates, on top of Cluster API.
package main

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sendan-io/sendan/cmd/internal/manager"
)

const name = "fleet-manager"

func main() {
	o := options{manager: manager.Options{Name: name}}
	manager.Main(&o.manager, o.addFlags, func(ctx context.Context) (ctrl.Manager, error) { return newManager(ctx, &o) })
}
