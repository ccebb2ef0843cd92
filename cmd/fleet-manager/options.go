package main

import (
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/sendan-io/sendan/cmd/internal/manager"
)

// defaultSystemNamespace is where the fleet manager is installed.
const defaultSystemNamespace = "sendan-fleet-system"

// options are the flags of the manager.
type options struct {
	manager manager.Options

	systemNamespace    string
	concurrency        int
	clusterConcurrency int
	siteInterval       time.Duration
	addonInterval      time.Duration
	deviceInterval     time.Duration
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	o.manager.AddFlags(fs)
	namespace := os.Getenv("POD_NAMESPACE")
	if namespace == "" {
		namespace = defaultSystemNamespace
	}
	fs.StringVar(&o.systemNamespace, "system-namespace", namespace, "Namespace that Releases are compiled to ClusterClasses in. Tenants need no rights there.")
	fs.IntVar(&o.concurrency, "concurrency", 10, "Number of tenants, templates and releases each to work on at the same time.")
	fs.IntVar(&o.clusterConcurrency, "cluster-concurrency", 50, "Number of clusters to work on at the same time, for each of what clusters have done to them.")
	fs.DurationVar(&o.siteInterval, "site-interval", time.Minute, "How often to look at each site's cloud.")
	fs.DurationVar(&o.addonInterval, "addon-interval", 10*time.Minute, "How often to compare what each cluster has with its add-ons, although nothing happened.")
	fs.DurationVar(&o.deviceInterval, "device-interval", time.Minute, "How often to compare the nodes of each cluster with what was promised of them.")
}
