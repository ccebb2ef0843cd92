package cloud

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// operation is one call of the API of a session, as it should look on the wire.
type operation struct {
	name   string
	call   string // method and path
	status int
	answer any
	sent   string // the body; empty for none
	do     func(*testing.T, *Session) error
}

var nodeMark = Mark{Cluster: "c1", Machine: "m1", Role: "node"}

const nodeDescription = "sendan cluster=c1 machine=m1 role=node"

func operations() []operation {
	yes := true
	groups := []string{"sg1"}
	return []operation{
		{
			name: "create network", call: "POST " + networksPath, status: 201,
			answer: fields{"network": fields{"id": "n1", "description": nodeDescription, "mtu": 9000}},
			sent:   `{"network":{"name":"net","description":"` + nodeDescription + `","mtu":9000,"port_security_enabled":false}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateNetwork(t.Context(), NetworkRequest{Name: "net", Mark: nodeMark, MTU: 9000, PortSecurityDisabled: true})
				if err == nil && (got.ID != "n1" || got.MTU != 9000 || got.Mark != nodeMark) {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "update network", call: "PUT " + networksPath + "/n1", status: 200, answer: fields{"network": fields{"id": "n1"}},
			sent: `{"network":{"mtu":1400}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.UpdateNetwork(t.Context(), "n1", NetworkUpdate{MTU: 1400})
				return err
			},
		},
		{
			name: "create v4 subnet", call: "POST " + subnetsPath, status: 201,
			answer: fields{"subnet": fields{"id": "sub1", "network_id": "n1", "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1", "dns_nameservers": []string{"9.9.9.9"}}},
			sent: `{"subnet":{"name":"sub","description":"` + nodeDescription + `","network_id":"n1","cidr":"10.0.0.0/24","ip_version":4,
				"dns_nameservers":["9.9.9.9"],"allocation_pools":[{"start":"10.0.0.9","end":"10.0.0.99"}]}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateSubnet(t.Context(), SubnetRequest{
					Name: "sub", Mark: nodeMark, NetworkID: "n1", CIDR: netip.MustParsePrefix("10.0.0.0/24"),
					DNSNameservers: []string{"9.9.9.9"}, AllocationPools: []AddressRange{{"10.0.0.9", "10.0.0.99"}},
				})
				if err == nil && (got.CIDR.String() != "10.0.0.0/24" || got.GatewayIP != "10.0.0.1") {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "create v6 subnet", call: "POST " + subnetsPath, status: 201, answer: fields{"subnet": fields{"id": "sub6", "cidr": "fd00::/64", "ipv6_address_mode": "slaac"}},
			sent: `{"subnet":{"name":"","description":"","network_id":"n1","cidr":"fd00::/64","ip_version":6,"ipv6_address_mode":"slaac","ipv6_ra_mode":"slaac"}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.CreateSubnet(t.Context(), SubnetRequest{NetworkID: "n1", CIDR: netip.MustParsePrefix("fd00::/64"), IPv6Mode: "slaac"})
				return err
			},
		},
		{
			name: "empty a subnet's DNS servers", call: "PUT " + subnetsPath + "/sub1", status: 200, answer: fields{"subnet": fields{"id": "sub1"}},
			sent: `{"subnet":{"dns_nameservers":[]}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.UpdateSubnet(t.Context(), "sub1", SubnetUpdate{DNSNameservers: new([]string)})
				return err
			},
		},
		{
			name: "create router", call: "POST " + routersPath, status: 201,
			answer: fields{"router": fields{"id": "r1", "external_gateway_info": fields{"network_id": "ext", "external_fixed_ips": []fields{{"ip_address": "192.0.2.7"}}}}},
			sent:   `{"router":{"name":"r","description":"` + nodeDescription + `","external_gateway_info":{"network_id":"ext"}}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateRouter(t.Context(), RouterRequest{Name: "r", Mark: nodeMark, ExternalNetworkID: "ext"})
				if err == nil && (got.ExternalNetworkID != "ext" || len(got.ExternalIPs) != 1 || got.ExternalIPs[0] != "192.0.2.7") {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "update router", call: "PUT " + routersPath + "/r1", status: 200, answer: fields{"router": fields{"id": "r1"}},
			sent: `{"router":{"external_gateway_info":{"network_id":"ext2"}}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.UpdateRouter(t.Context(), "r1", RouterUpdate{ExternalNetworkID: "ext2"})
				return err
			},
		},
		{
			name: "add router interface", call: "PUT " + routersPath + "/r1/add_router_interface", status: 200, answer: fields{"port_id": "ri", "network_id": "n1"},
			sent: `{"subnet_id":"sub1"}`,
			do:   func(t *testing.T, s *Session) error { return s.AddRouterInterface(t.Context(), "r1", "sub1") },
		},
		{
			name: "remove router interface", call: "PUT " + routersPath + "/r1/remove_router_interface", status: 200, answer: fields{"port_id": "ri"},
			sent: `{"subnet_id":"sub1"}`,
			do:   func(t *testing.T, s *Session) error { return s.RemoveRouterInterface(t.Context(), "r1", "sub1") },
		},
		{
			name: "create security group", call: "POST " + groupsPath, status: 201, answer: fields{"security_group": fields{"id": "sg1"}},
			sent: `{"security_group":{"name":"nodes","description":"` + nodeDescription + `"}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.CreateSecurityGroup(t.Context(), SecurityGroupRequest{Name: "nodes", Mark: nodeMark})
				return err
			},
		},
		{
			name: "create rules in one call", call: "POST /network/v2.0/security-group-rules", status: 201,
			answer: fields{"security_group_rules": []fields{{"id": "rule1", "security_group_id": "sg1", "port_range_min": nil}, {"id": "rule2", "security_group_id": "sg2"}}},
			sent: `{"security_group_rules":[
				{"security_group_id":"sg1","direction":"ingress","ethertype":"IPv4","protocol":"tcp","port_range_min":6443,"port_range_max":6443,"remote_ip_prefix":"10.0.0.0/8"},
				{"security_group_id":"sg2","direction":"egress","remote_group_id":"sg1","description":"why"}]}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateSecurityGroupRules(t.Context(), []SecurityGroupRule{
					{SecurityGroupID: "sg1", Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: 6443, PortMax: 6443, RemoteIPPrefix: "10.0.0.0/8"},
					{SecurityGroupID: "sg2", Direction: "egress", RemoteGroupID: "sg1", Description: "why"},
				})
				if err == nil && len(got) != 2 {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "create port", call: "POST " + portsPath, status: 201,
			answer: fields{"port": fields{"id": "p1", "fixed_ips": []fields{{"subnet_id": "sub1", "ip_address": "10.0.0.5"}}, "trunk_details": fields{"trunk_id": "t1"}, "allowed_address_pairs": []fields{{"ip_address": "10.0.0.100", "mac_address": "fa:16:3e:00:00:01"}}}},
			sent: `{"port":{"name":"p","description":"` + nodeDescription + `","network_id":"n1","fixed_ips":[{"subnet_id":"sub1"}],"security_groups":["sg1"],
				"binding:vnic_type":"direct","binding:profile":{"capabilities":["switchdev"]},"allowed_address_pairs":[{"ip_address":"10.0.0.100"}],
				"port_security_enabled":true,"mac_address":"fa:16:3e:00:00:01","admin_state_up":false}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreatePort(t.Context(), PortRequest{
					Name: "p", Mark: nodeMark, NetworkID: "n1", FixedIPs: []FixedIP{{SubnetID: "sub1"}}, SecurityGroups: &groups, VNICType: "direct",
					Profile: map[string]any{"capabilities": []string{"switchdev"}}, AllowedAddressPairs: []AddressPair{{IPAddress: "10.0.0.100"}},
					PortSecurity: &yes, MACAddress: "fa:16:3e:00:00:01", AdminStateDown: true,
				})
				if err == nil && (got.TrunkID != "t1" || len(got.FixedIPs) != 1 || got.AllowedAddressPairs[0].IPAddress != "10.0.0.100") {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "create port without security groups", call: "POST " + portsPath, status: 201, answer: fields{"port": fields{"id": "p1"}},
			sent: `{"port":{"network_id":"n1","security_groups":[]}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.CreatePort(t.Context(), PortRequest{NetworkID: "n1", SecurityGroups: new([]string)})
				return err
			},
		},
		{
			name: "update port", call: "PUT " + portsPath + "/p1", status: 200, answer: fields{"port": fields{"id": "p1"}},
			sent: `{"port":{"security_groups":["sg1"],"allowed_address_pairs":[]}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.UpdatePort(t.Context(), "p1", PortUpdate{SecurityGroups: &groups, AllowedAddressPairs: new([]AddressPair)})
				return err
			},
		},
		{
			name: "get port", call: "GET " + portsPath + "/p1", status: 200, answer: fields{"port": fields{"id": "p1"}},
			do: func(t *testing.T, s *Session) error { _, err := s.GetPort(t.Context(), "p1"); return err },
		},
		{
			name: "create trunk", call: "POST /network/v2.0/trunks", status: 201, answer: fields{"trunk": fields{"id": "t1", "port_id": "p1", "description": nodeDescription}},
			sent: `{"trunk":{"name":"t","description":"` + nodeDescription + `","port_id":"p1"}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateTrunk(t.Context(), TrunkRequest{Name: "t", Mark: nodeMark, PortID: "p1"})
				if err == nil && (got.ID != "t1" || got.Mark != nodeMark) {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "create floating IP", call: "POST " + floatingIPsPath, status: 201, answer: fields{"floatingip": fields{"id": "f1", "floating_ip_address": "192.0.2.9"}},
			sent: `{"floatingip":{"description":"` + nodeDescription + `","floating_network_id":"ext","port_id":"p1","floating_ip_address":"192.0.2.9"}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateFloatingIP(t.Context(), FloatingIPRequest{Mark: nodeMark, FloatingNetworkID: "ext", PortID: "p1", Address: "192.0.2.9"})
				if err == nil && got.Address != "192.0.2.9" {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "dissociate floating IP", call: "PUT " + floatingIPsPath + "/f1", status: 200, answer: fields{"floatingip": fields{"id": "f1", "port_id": nil}},
			sent: `{"floatingip":{"port_id":null}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.AssociateFloatingIP(t.Context(), "f1", "")
				return err
			},
		},
		{
			name: "create load balancer with its tree", call: "POST " + loadBalancersPath, status: 201, answer: fields{"loadbalancer": fields{"id": "lb1", "provisioning_status": "PENDING_CREATE"}},
			sent: `{"loadbalancer":{"name":"api","description":"` + nodeDescription + `","vip_subnet_id":"sub1","provider":"ovn","flavor_id":"fl","availability_zone":"z","tags":["x"],
				"listeners":[{"name":"l","protocol":"TCP","protocol_port":6443,"allowed_cidrs":["10.0.0.0/8"],
					"default_pool":{"name":"p","protocol":"TCP","lb_algorithm":"SOURCE_IP_PORT","members":[{"address":"10.0.0.5","protocol_port":6443}],
						"healthmonitor":{"type":"TCP","delay":10,"timeout":5,"max_retries":3}}}]}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.CreateLoadBalancer(t.Context(), LoadBalancerRequest{
					Name: "api", Mark: nodeMark, VIPSubnetID: "sub1", Provider: "ovn", FlavorID: "fl", Zone: "z", Tags: []string{"x"},
					Listeners: []ListenerRequest{{Name: "l", Protocol: "TCP", Port: 6443, AllowedCIDRs: []string{"10.0.0.0/8"}, Pool: PoolRequest{
						Name: "p", Protocol: "TCP", Method: "SOURCE_IP_PORT", Members: []MemberRequest{{Address: "10.0.0.5", Port: 6443}},
						Monitor: &HealthMonitor{Type: "TCP", DelaySeconds: 10, TimeoutSeconds: 5, MaxRetries: 3},
					}}},
				})
				return err
			},
		},
		{
			name: "get load balancer", call: "GET " + loadBalancersPath + "/lb1", status: 200, answer: fields{"loadbalancer": fields{"id": "lb1"}},
			do: func(t *testing.T, s *Session) error { _, err := s.GetLoadBalancer(t.Context(), "lb1"); return err },
		},
		{
			name: "fail over load balancer", call: "PUT " + loadBalancersPath + "/lb1/failover", status: 202,
			do: func(t *testing.T, s *Session) error { return s.FailoverLoadBalancer(t.Context(), "lb1") },
		},
		{
			name: "set members", call: "PUT " + poolsPath + "/pool1/members", status: 202,
			sent: `{"members":[{"name":"a","address":"10.0.0.5","protocol_port":6443,"subnet_id":"sub1"}]}`,
			do: func(t *testing.T, s *Session) error {
				return s.SetPoolMembers(t.Context(), "pool1", []MemberRequest{{Name: "a", Address: "10.0.0.5", Port: 6443, SubnetID: "sub1"}})
			},
		},
		{
			name: "set no members", call: "PUT " + poolsPath + "/pool1/members", status: 202, sent: `{"members":[]}`,
			do: func(t *testing.T, s *Session) error { return s.SetPoolMembers(t.Context(), "pool1", nil) },
		},
		{
			name: "allow addresses", call: "PUT " + listenersPath + "/l1", status: 200, sent: `{"listener":{"allowed_cidrs":["10.0.0.0/8"]}}`,
			do: func(t *testing.T, s *Session) error {
				return s.UpdateListenerAllowedCIDRs(t.Context(), "l1", []string{"10.0.0.0/8"})
			},
		},
		{
			name: "create listener", call: "POST " + listenersPath, status: 201, answer: fields{"listener": fields{"id": "l2", "protocol_port": 9345}},
			sent: `{"listener":{"loadbalancer_id":"lb1","protocol":"TCP","protocol_port":9345,"default_pool":{"protocol":"TCP","lb_algorithm":"ROUND_ROBIN"}}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateListener(t.Context(), "lb1", ListenerRequest{Protocol: "TCP", Port: 9345, Pool: PoolRequest{Protocol: "TCP", Method: "ROUND_ROBIN"}})
				if err == nil && (got.ID != "l2" || got.Port != 9345) {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "create server from an image", call: "POST " + serversPath, status: 202, answer: fields{"server": fields{"id": "s1", "adminPass": "x"}},
			sent: `{"server":{"name":"gpu-1","flavorRef":"fl","imageRef":"img","networks":[{"port":"p1"},{"port":"p2"}],"availability_zone":"az1","key_name":"key",
				"user_data":"I2Nsb3VkLWNvbmZpZw==","config_drive":true,"tags":["x"],
				"metadata":{"team":"a","sendan-cluster":"c1","sendan-machine":"m1","sendan-role":"node"}},
				"os:scheduler_hints":{"group":"g1","different_host":["h"]}}`,
			do: func(t *testing.T, s *Session) error {
				hints := map[string]any{"different_host": []string{"h"}}
				got, err := s.CreateServer(t.Context(), ServerRequest{
					Name: "gpu-1", Mark: nodeMark, FlavorID: "fl", ImageID: "img", PortIDs: []string{"p1", "p2"}, Zone: "az1", KeyPair: "key",
					UserData: []byte("#cloud-config"), ConfigDrive: &yes, Tags: []string{"x"}, Metadata: map[string]string{"team": "a"}, ServerGroupID: "g1", SchedulerHints: hints,
				})
				if err == nil && (got.ID != "s1" || got.Status != "BUILD" || got.Mark != nodeMark || len(hints) != 1) {
					t.Errorf("got %+v, hints %v", got, hints)
				}
				return err
			},
		},
		{
			name: "create server from a volume", call: "POST " + serversPath, status: 202, answer: fields{"server": fields{"id": "s1"}},
			sent: `{"server":{"name":"n","flavorRef":"fl","imageRef":"","networks":"auto",
				"block_device_mapping_v2":[{"boot_index":0,"uuid":"v0","source_type":"volume","destination_type":"volume","delete_on_termination":true},
					{"boot_index":-1,"uuid":"v1","source_type":"volume","destination_type":"volume","delete_on_termination":false,"tag":"data"}]}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.CreateServer(t.Context(), ServerRequest{Name: "n", FlavorID: "fl", Volumes: []ServerVolume{{VolumeID: "v0", Boot: true, DeleteOnTermination: true}, {VolumeID: "v1", Tag: "data"}}})
				return err
			},
		},
		{
			name: "create server from an image with a volume", call: "POST " + serversPath, status: 202, answer: fields{"server": fields{"id": "s1"}},
			sent: `{"server":{"name":"n","flavorRef":"fl","imageRef":"img","networks":"auto",
				"block_device_mapping_v2":[{"boot_index":0,"uuid":"img","source_type":"image","destination_type":"local","delete_on_termination":true},
					{"boot_index":-1,"uuid":"v1","source_type":"volume","destination_type":"volume","delete_on_termination":false}]}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.CreateServer(t.Context(), ServerRequest{Name: "n", FlavorID: "fl", ImageID: "img", Volumes: []ServerVolume{{VolumeID: "v1"}}})
				return err
			},
		},
		{
			name: "get server", call: "GET " + serversPath + "/s1", status: 200, answer: fields{"server": fields{"id": "s1", "image": fields{"id": "img"}, "addresses": fields{
				"b": []fields{{"addr": "10.1.0.1", "OS-EXT-IPS:type": "fixed"}}, "a": []fields{{"addr": "10.0.0.1", "OS-EXT-IPS:type": "fixed"}, {"addr": "192.0.2.1", "OS-EXT-IPS:type": "floating"}}}}},
			do: func(t *testing.T, s *Session) error {
				got, err := s.GetServer(t.Context(), "s1")
				if err == nil && (got.ImageID != "img" || len(got.Addresses) != 3 || got.Addresses[1].Address != "192.0.2.1") {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "reboot server", call: "POST " + serversPath + "/s1/action", status: 202, sent: `{"reboot":{"type":"HARD"}}`,
			do: func(t *testing.T, s *Session) error { return s.RebootServer(t.Context(), "s1", HardReboot) },
		},
		{
			name: "start server", call: "POST " + serversPath + "/s1/action", status: 202, sent: `{"os-start":null}`,
			do: func(t *testing.T, s *Session) error { return s.StartServer(t.Context(), "s1") },
		},
		{
			name: "stop server", call: "POST " + serversPath + "/s1/action", status: 202, sent: `{"os-stop":null}`,
			do: func(t *testing.T, s *Session) error { return s.StopServer(t.Context(), "s1") },
		},
		{
			name: "console log", call: "POST " + serversPath + "/s1/action", status: 200, answer: fields{"output": "kernel panic"}, sent: `{"os-getConsoleOutput":{"length":50}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.ConsoleLog(t.Context(), "s1", 50)
				if err == nil && got != "kernel panic" {
					t.Errorf("got %q", got)
				}
				return err
			},
		},
		{
			name: "create server group", call: "POST " + serverGroupsPath, status: 200, answer: fields{"server_group": fields{"id": "g1", "policy": "soft-anti-affinity"}},
			sent: `{"server_group":{"name":"sendan-c1-control-plane","policy":"soft-anti-affinity"}}`,
			do: func(t *testing.T, s *Session) error {
				_, err := s.CreateServerGroup(t.Context(), ServerGroupRequest{Mark: Mark{Cluster: "c1", Role: "control-plane"}, Policy: "soft-anti-affinity"})
				return err
			},
		},
		{
			name: "create volume", call: "POST " + volumesPath, status: 202, answer: fields{"volume": fields{"id": "v1", "status": "creating", "size": 50}},
			sent: `{"volume":{"name":"v","size":50,"volume_type":"ssd","availability_zone":"az1","imageRef":"img","metadata":{"sendan-cluster":"c1","sendan-machine":"m1","sendan-role":"node"}}}`,
			do: func(t *testing.T, s *Session) error {
				got, err := s.CreateVolume(t.Context(), VolumeRequest{Name: "v", Mark: nodeMark, SizeGiB: 50, Type: "ssd", Zone: "az1", ImageID: "img"})
				if err == nil && (got.Status != "creating" || got.SizeGiB != 50) {
					t.Errorf("got %+v", got)
				}
				return err
			},
		},
		{
			name: "get volume", call: "GET " + volumesPath + "/v1", status: 200, answer: fields{"volume": fields{"id": "v1"}},
			do: func(t *testing.T, s *Session) error { _, err := s.GetVolume(t.Context(), "v1"); return err },
		},
		{
			name: "tag server", call: "PUT " + serversPath + "/s1/tags", status: 200, sent: `{"tags":["a","b"]}`,
			do: func(t *testing.T, s *Session) error {
				return s.SetTags(t.Context(), KindServer, "s1", []string{"b", "a"})
			},
		},
		{
			name: "tag load balancer", call: "PUT " + loadBalancersPath + "/lb1", status: 200, sent: `{"loadbalancer":{"tags":[]}}`,
			do: func(t *testing.T, s *Session) error { return s.SetTags(t.Context(), KindLoadBalancer, "lb1", nil) },
		},
	}
}

func TestEveryOperationIsOneCallWithTheRightBody(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			cloud := newStoreCloud(t)
			session := cloud.poller(t)
			cloud.answer(op.call, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, op.status, op.answer) })
			calls := cloud.callsDuring(func() {
				if err := op.do(t, session); err != nil {
					t.Fatal(err)
				}
			})
			if calls != 1 {
				t.Errorf("%d calls", calls)
			}
			if op.sent != "" {
				wantJSON(t, cloud.body(t, op.call), op.sent)
			}
		})
	}
}

func TestEveryOperationReturnsAClassifiedError(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			cloud := newStoreCloud(t)
			session := cloud.poller(t)
			cloud.answer(op.call, func(w http.ResponseWriter, _ *http.Request) {
				writeJSON(w, http.StatusConflict, fields{"conflictingRequest": fields{"code": 409, "message": "not in this state"}})
			})
			before := session.Inventory().Snapshot().Seq
			wantClass(t, op.do(t, session), Conflict, "not in this state", strings.Fields(op.call)[0])
			if got := session.Inventory().Snapshot().Seq; got != before {
				t.Error("a failed call changed the inventory")
			}
		})
	}
}

// deletions are the calls that delete, with what is there before.
func deletions() []operation {
	remove := func(name, path string, do func(*testing.T, *Session) error) operation {
		return operation{name: name, call: "DELETE " + path + "/x", do: do}
	}
	return []operation{
		remove("network", networksPath, func(t *testing.T, s *Session) error { return s.DeleteNetwork(t.Context(), "x") }),
		remove("subnet", subnetsPath, func(t *testing.T, s *Session) error { return s.DeleteSubnet(t.Context(), "x") }),
		remove("router", routersPath, func(t *testing.T, s *Session) error { return s.DeleteRouter(t.Context(), "x") }),
		remove("security group", groupsPath, func(t *testing.T, s *Session) error { return s.DeleteSecurityGroup(t.Context(), "x") }),
		remove("rule", "/network/v2.0/security-group-rules", func(t *testing.T, s *Session) error { return s.DeleteSecurityGroupRule(t.Context(), "x") }),
		remove("port", portsPath, func(t *testing.T, s *Session) error { return s.DeletePort(t.Context(), "x") }),
		remove("trunk", "/network/v2.0/trunks", func(t *testing.T, s *Session) error { return s.DeleteTrunk(t.Context(), "x") }),
		remove("floating IP", floatingIPsPath, func(t *testing.T, s *Session) error { return s.DeleteFloatingIP(t.Context(), "x") }),
		remove("load balancer", loadBalancersPath, func(t *testing.T, s *Session) error { return s.DeleteLoadBalancer(t.Context(), "x") }),
		remove("listener", listenersPath, func(t *testing.T, s *Session) error { return s.DeleteListener(t.Context(), "x") }),
		remove("pool", poolsPath, func(t *testing.T, s *Session) error { return s.DeletePool(t.Context(), "x") }),
		remove("server", serversPath, func(t *testing.T, s *Session) error { return s.DeleteServer(t.Context(), "x") }),
		remove("server group", serverGroupsPath, func(t *testing.T, s *Session) error { return s.DeleteServerGroup(t.Context(), "x") }),
		remove("volume", volumesPath, func(t *testing.T, s *Session) error { return s.DeleteVolume(t.Context(), "x") }),
	}
}

func TestDeletingWhatIsNotThereSucceeds(t *testing.T) {
	for _, op := range deletions() {
		t.Run(op.name, func(t *testing.T) {
			cloud := newStoreCloud(t) // answers 404
			session := cloud.poller(t)
			if err := op.do(t, session); err != nil {
				t.Error(err)
			}
			if cloud.count(op.call) != 1 {
				t.Errorf("%d calls", cloud.count(op.call))
			}
		})
	}
}

func TestWhatIsDeletedLeavesTheInventoryOrIsOnItsWay(t *testing.T) {
	cloud := newStoreCloud(t)
	mark := ofC1.String()
	cloud.put(networksPath, fields{"id": "x", "description": mark, "subnets": []string{"y"}})
	cloud.put(subnetsPath, fields{"id": "y", "network_id": "x", "cidr": "10.0.0.0/24"})
	cloud.put(groupsPath, fields{"id": "g", "security_group_rules": []fields{{"id": "x"}, {"id": "stays"}}})
	cloud.put(portsPath, fields{"id": "trunked", "network_id": "x", "trunk_details": fields{"trunk_id": "x"}})
	cloud.put(loadBalancersPath, fields{"id": "x", "provisioning_status": "ACTIVE"})
	cloud.put(volumesPath, fields{"id": "x", "status": "available"})
	cloud.put(serversPath, cloud.server("x", "ACTIVE"))
	session := cloud.poller(t)
	for _, op := range deletions() {
		cloud.answer(op.call, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		if err := op.do(t, session); err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
	}
	s := session.Inventory().Snapshot()
	if s.Count(KindNetwork) != 0 || s.Count(KindSubnet) != 0 {
		t.Error("the network or its subnet is still there")
	}
	if group, _ := s.SecurityGroup("g"); len(group.Rules) != 1 || group.Rules[0].ID != "stays" {
		t.Errorf("rules %+v", group.Rules)
	}
	if port, _ := s.Port("trunked"); port.TrunkID != "" {
		t.Error("the port still has its trunk")
	}
	if server, found := s.Server("x"); !found || !server.Deleting {
		t.Errorf("server %+v", server)
	}
	if lb, found := s.LoadBalancer("x"); !found || lb.ProvisioningStatus != "PENDING_DELETE" {
		t.Errorf("load balancer %+v", lb)
	}
	if volume, found := s.Volume("x"); !found || volume.Status != "deleting" {
		t.Errorf("volume %+v", volume)
	}
}

func TestAnAttachedVolumeIsAConflictAlthoughCinderSays400(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.answer("DELETE "+volumesPath+"/v1", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusBadRequest, fields{"badRequest": fields{"code": 400, "message": "Invalid volume: Volume status must be available or error"}})
	})
	wantClass(t, session.DeleteVolume(t.Context(), "v1"), Conflict, "must be available")
}

func TestASubnetThatIsAttachedAlreadyIsFine(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.answer("PUT "+routersPath+"/r1/add_router_interface", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusBadRequest, fields{"NeutronError": fields{"type": "BadRequest", "message": "Bad router request: Router already has a port on subnet sub1.", "detail": ""}})
	})
	if err := session.AddRouterInterface(t.Context(), "r1", "sub1"); err != nil {
		t.Error(err)
	}
	asked := cloud.fake.Now()
	cloud.pollAfter(t, session, 2*time.Second)
	if !session.Inventory().Snapshot().ListedAfter(KindPort, asked) {
		t.Error("the interface is not looked for")
	}
}

func TestARouterInterfaceIsKnownWithoutAListing(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.answerJSON("PUT "+routersPath+"/r1/add_router_interface", fields{"port_id": "ri", "network_id": "n1"})
	cloud.answer("PUT "+routersPath+"/r1/remove_router_interface", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if err := session.AddRouterInterface(t.Context(), "r1", "sub1"); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, session.Inventory().Snapshot().PortsOfDevice("r1"), "ri")
	if err := session.RemoveRouterInterface(t.Context(), "r1", "sub1"); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, session.Inventory().Snapshot().PortsOfDevice("r1"))
}

func TestUserDataThatNovaWouldRefuseIsRefusedHere(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	calls := cloud.callsDuring(func() {
		_, err := session.CreateServer(t.Context(), ServerRequest{Name: "big", UserData: make([]byte, 50_000)})
		wantClass(t, err, Config, "big", "66668", "65535")
	})
	if calls != 0 {
		t.Errorf("%d calls", calls)
	}
}

func TestAnOldNovaIsNotAskedForWhatItLacks(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.answerJSON("GET /compute/v2.1/", fields{"version": fields{"id": "v2.1", "version": "2.30", "min_version": "2.1"}})
	session := cloud.poller(t)
	cloud.answer("POST "+serversPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusAccepted, fields{"server": fields{"id": "s1"}})
	})
	_, err := session.CreateServer(t.Context(), ServerRequest{Name: "n", FlavorID: "fl", Tags: []string{"x"}, Volumes: []ServerVolume{{VolumeID: "v", Boot: true, Tag: "root"}}})
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, cloud.body(t, "POST "+serversPath), `{"server":{"name":"n","flavorRef":"fl","imageRef":"",
		"block_device_mapping_v2":[{"boot_index":0,"uuid":"v","source_type":"volume","destination_type":"volume","delete_on_termination":false}]}}`)
	cloud.answer("POST "+serverGroupsPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, fields{"server_group": fields{"id": "g1", "policies": []string{"affinity"}}})
	})
	group, err := session.CreateServerGroup(t.Context(), ServerGroupRequest{Mark: ofC1, Policy: "affinity"})
	if err != nil || group.Policy != "affinity" {
		t.Fatalf("%+v, %v", group, err)
	}
	wantJSON(t, cloud.body(t, "POST "+serverGroupsPath), `{"server_group":{"name":"sendan-c1-","policies":["affinity"]}}`)
}

func TestTagsOfACloudWithoutThemAreLeftOutButNotAskedForAgain(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("p1"))
	session := cloud.poller(t)
	cloud.answerJSON("GET /network/v2.0/extensions", fields{"extensions": []fields{{"alias": "router"}}})
	tag := func() {
		t.Helper()
		if err := session.SetTags(t.Context(), KindPort, "p1", []string{"b", "a"}); err != nil {
			t.Fatal(err)
		}
	}
	tags := func() []string {
		port, _ := session.Inventory().Snapshot().Port("p1")
		return port.Tags
	}
	tag()
	if got := cloud.count("PUT " + portsPath + "/p1/tags"); got != 0 {
		t.Error("the tags were sent")
	}
	changes := 0
	session.Inventory().Subscribe(func([]Change) { changes++ })
	for range 5 {
		cloud.pollAfter(t, session, 10*time.Minute)
		if got := tags(); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("tags %v: whoever compares asks for them again", got)
		}
	}
	if changes != 0 {
		t.Errorf("%d changes of a port that did not change", changes)
	}

	cloud.pollAfter(t, session, 10*time.Minute)
	if got := tags(); len(got) != 0 {
		t.Errorf("tags %v: a Neutron that has learned about tags never gets them", got)
	}
	cloud.answerJSON("GET /network/v2.0/extensions", fields{"extensions": []fields{{"alias": "standard-attr-tag"}}})
	cloud.answerJSON("PUT "+portsPath+"/p1/tags", fields{})
	cloud.fake.Advance(time.Second)
	tag()
	if got := cloud.count("PUT " + portsPath + "/p1/tags"); got != 1 {
		t.Errorf("%d calls, want the tags to be sent once there is a place for them", got)
	}
	wantClass(t, session.SetTags(t.Context(), KindVolume, "v1", nil), Config, "volume")
}

func TestTheNameOfAServerGroupIsItsMark(t *testing.T) {
	id := "6e0c3f0a-1111-4222-8333-444444444444"
	mark := Mark{Cluster: id, Role: "pool-gpu-a"}
	if got := ParseServerGroupName(ServerGroupName(mark)); got != mark {
		t.Errorf("got %+v", got)
	}
	for _, name := range []string{"", "sendan-", "sendan-team-a-group", "sendan-" + id, "other-" + id + "-x", "sendan-" + strings.Repeat("x", 36) + "-role"} {
		if got := ParseServerGroupName(name); !got.IsZero() {
			t.Errorf("%q gives %+v", name, got)
		}
	}
}

func TestRulesThatAreTheSameToNeutronHaveOneKey(t *testing.T) {
	rule := SecurityGroupRule{SecurityGroupID: "sg", Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: 22, PortMax: 22}
	with := func(change func(*SecurityGroupRule)) SecurityGroupRule {
		changed := rule
		change(&changed)
		return changed
	}
	same := []SecurityGroupRule{
		with(func(r *SecurityGroupRule) { r.ID, r.Description = "x", "y" }),
		with(func(r *SecurityGroupRule) { r.EtherType = "" }),
		with(func(r *SecurityGroupRule) { r.Protocol = "6" }),
		with(func(r *SecurityGroupRule) { r.Protocol = "TCP" }),
		with(func(r *SecurityGroupRule) { r.RemoteIPPrefix = "0.0.0.0/0" }),
	}
	for _, other := range same {
		if other.Key() != rule.Key() {
			t.Errorf("%+v has another key", other)
		}
	}
	different := []SecurityGroupRule{
		with(func(r *SecurityGroupRule) { r.SecurityGroupID = "sg2" }),
		with(func(r *SecurityGroupRule) { r.Direction = "egress" }),
		with(func(r *SecurityGroupRule) { r.EtherType = "IPv6" }),
		with(func(r *SecurityGroupRule) { r.Protocol = "udp" }),
		with(func(r *SecurityGroupRule) { r.PortMax = 23 }),
		with(func(r *SecurityGroupRule) { r.RemoteGroupID = "sg" }),
		with(func(r *SecurityGroupRule) { r.RemoteIPPrefix = "10.0.0.0/8" }),
	}
	for _, other := range different {
		if other.Key() == rule.Key() {
			t.Errorf("%+v has the same key", other)
		}
	}
	icmp := SecurityGroupRule{EtherType: "IPv6", Protocol: "icmp"}
	if want := (SecurityGroupRule{EtherType: "IPv6", Protocol: "ipv6-icmp"}); icmp.Key() != want.Key() {
		t.Error("ICMP for IPv6 has two keys")
	}
}
