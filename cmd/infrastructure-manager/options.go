package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/sendan-io/sendan/cmd/internal/manager"
)

// options are the flags of the manager.
type options struct {
	manager manager.Options

	clusterConcurrency    int
	machineConcurrency    int
	templateConcurrency   int
	cloudRequestsPerSec   float64
	cloudRequestBurst     int
	cloudRequestTimeout   time.Duration
	inventoryPollServers  time.Duration
	inventoryPollSweep    time.Duration
	inventoryPollSlow     time.Duration
	inventoryPollBuilding time.Duration
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	o.manager.AddFlags(fs)
	fs.IntVar(&o.clusterConcurrency, "sendancluster-concurrency", 10, "Number of SendanClusters to work on at the same time.")
	fs.IntVar(&o.machineConcurrency, "sendanmachine-concurrency", 50, "Number of SendanMachines to work on at the same time.")
	fs.IntVar(&o.templateConcurrency, "sendanmachinetemplate-concurrency", 5, "Number of SendanMachineTemplates to work on at the same time.")
	fs.Float64Var(&o.cloudRequestsPerSec, "cloud-requests-per-second", 20, "Most requests per second to one cloud.")
	fs.IntVar(&o.cloudRequestBurst, "cloud-request-burst", 40, "Most requests in one burst to one cloud.")
	fs.DurationVar(&o.cloudRequestTimeout, "cloud-request-timeout", time.Minute, "How long one request to a cloud may take.")
	fs.DurationVar(&o.inventoryPollBuilding, "inventory-poll-building", 2*time.Second, "How often to list what is building or going away, at first; less often the longer it takes.")
	fs.DurationVar(&o.inventoryPollServers, "inventory-poll-servers", 2*time.Minute, "How often to ask for servers that changed, when nothing is building.")
	fs.DurationVar(&o.inventoryPollSweep, "inventory-poll-sweep", 10*time.Minute, "How often to list ports, volumes, load balancers and security groups, and all servers.")
	fs.DurationVar(&o.inventoryPollSlow, "inventory-poll-slow-sweep", time.Hour, "How often to list what seldom changes: networks, subnets, routers, floating IPs and server groups.")
}
