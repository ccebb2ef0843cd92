package main

import (
	"testing"

	demomanifests "github.com/sendan-io/sendan/templates/demo"
)

func demoTenant(t *testing.T) *tenant {
	t.Helper()
	c, err := newTenant(nil, "somewhere", demomanifests.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestManifestsWithoutAClusterAreRefused(t *testing.T) {
	if _, err := newTenant(nil, "somewhere", []byte("kind: Secret\n")); err == nil {
		t.Error("no error")
	}
}
