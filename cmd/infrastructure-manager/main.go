// Command infrastructure-manager is the Cluster API infrastructure provider Sendan.
package main

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sendan-io/sendan/cmd/internal/manager"
)

const name = "infrastructure-manager"

func main() {
	o := options{manager: manager.Options{Name: name}}
	manager.Main(&o.manager, o.addFlags, func(ctx context.Context) (ctrl.Manager, error) { return newManager(ctx, &o) })
}
