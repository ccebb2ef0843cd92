package main

import (
	"testing"

	"github.com/sendan-io/sendan/cmd/internal/manifesttest"
)

const manifests = "infrastructure"

func TestTheManagerTakesTheFlagsOfItsDeployment(t *testing.T) {
	manifesttest.TakesFlags(t, manifests, new(options).addFlags)
}

func TestTheRoleIsForTheLeaseThatTheManagerTakes(t *testing.T) {
	manifesttest.IsForLease(t, manifests, "sendan-"+name)
}
