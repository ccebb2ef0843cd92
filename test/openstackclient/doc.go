// Package openstackclient holds the test that runs the real `openstack` command line client against
// the simulator.
package openstackclient
