package memory

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	etcdVersion  = "3.6.8"
	etcdPeerPort = 2380
	// etcdDatabaseBytes is what a small cluster's database takes; nothing here grows it.
	etcdDatabaseBytes = 20 << 20
	// removalGrace is how long a machine goes on serving after its etcd member was removed: the answer to the removal
	// travels through its API server.
	removalGrace = time.Second
)

// etcdCluster is the membership of a tenant cluster's etcd. It holds no data. All of it is guarded by Backend.mu.
type etcdCluster struct {
	id      uint64
	term    uint64
	leader  uint64 // zero for none
	members []*etcdMember
}

type etcdMember struct {
	id      uint64
	name    string
	peerURL string
	machine *machine
}

func newEtcdCluster(id uint64) *etcdCluster { return &etcdCluster{id: id} }

func (m *etcdMember) started() bool { return m.machine.etcdTLS != nil }

func (m *etcdMember) proto() *pb.Member {
	out := &pb.Member{ID: m.id, Name: m.name, PeerURLs: []string{m.peerURL}}
	out.ClientURLs = []string{"https://" + net.JoinHostPort(m.machine.firstAddress(), strconv.Itoa(etcdPort))}
	return out
}

// add makes a machine a member; kubeadm has done so by the time the member starts.
func (e *etcdCluster) add(m *machine) {
	e.members = append(e.members, &etcdMember{
		id: m.backend.random.uint64(), name: m.nodeName, machine: m,
		peerURL: "https://" + net.JoinHostPort(m.firstAddress(), strconv.Itoa(etcdPeerPort)),
	})
}

func (e *etcdCluster) find(id uint64) *etcdMember {
	for _, m := range e.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (e *etcdCluster) memberOf(m *machine) *etcdMember {
	for _, member := range e.members {
		if member.machine == m {
			return member
		}
	}
	return nil
}

func (e *etcdCluster) hasMemberOf(m *machine) bool { return e.memberOf(m) != nil }

func (e *etcdCluster) startedMembers() int {
	started := 0
	for _, m := range e.members {
		if m.started() {
			started++
		}
	}
	return started
}

func (e *etcdCluster) hasQuorum() bool { return e.startedMembers() > len(e.members)/2 }

// elect keeps the leader while it can lead, and chooses the member of the lowest id otherwise.
func (e *etcdCluster) elect() {
	if !e.hasQuorum() {
		e.leader = 0
		return
	}
	if leader := e.find(e.leader); leader != nil && leader.started() {
		return
	}
	started := slices.DeleteFunc(slices.Clone(e.members), func(m *etcdMember) bool { return !m.started() })
	e.leader = slices.MinFunc(started, func(a, b *etcdMember) int { return cmp.Compare(a.id, b.id) }).id
	e.term++
}

// remove takes a member out, unless the members left could not form a quorum.
func (e *etcdCluster) remove(id uint64) (*etcdMember, error) {
	member := e.find(id)
	switch {
	case member == nil:
		return nil, rpctypes.ErrGRPCMemberNotFound
	case !e.hasQuorum():
		return nil, rpctypes.ErrGRPCNoLeader
	}
	left, leftStarted := len(e.members)-1, e.startedMembers()
	if member.started() {
		leftStarted--
	}
	if left > 0 && leftStarted <= left/2 {
		return nil, rpctypes.ErrGRPCMemberNotEnoughStarted
	}
	e.members = slices.DeleteFunc(e.members, func(m *etcdMember) bool { return m == member })
	return member, nil
}

func (e *etcdCluster) header(m *etcdMember) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: e.id, MemberId: m.id, Revision: 1, RaftTerm: e.term}
}

// etcdServer answers for the member at whose machine a call arrives.
type etcdServer struct {
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer
	backend *Backend
}

func newEtcdServer(b *Backend) *grpc.Server {
	server := grpc.NewServer()
	service := &etcdServer{backend: b}
	pb.RegisterClusterServer(server, service)
	pb.RegisterMaintenanceServer(server, service)
	return server
}

// with runs a call on the member that was connected to, with the lock held.
func with[T any](ctx context.Context, s *etcdServer, do func(*etcdCluster, *etcdMember) (T, error)) (T, error) {
	var none T
	conn := connOf(ctx)
	if conn == nil {
		return none, status.Error(codes.Internal, "not a connection to a machine")
	}
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	etcd := conn.machine.cluster.etcd
	member := etcd.memberOf(conn.machine)
	if member == nil || !member.started() {
		return none, rpctypes.ErrGRPCStopped
	}
	return do(etcd, member)
}

func (s *etcdServer) MemberList(ctx context.Context, _ *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return with(ctx, s, func(e *etcdCluster, self *etcdMember) (*pb.MemberListResponse, error) {
		if !e.hasQuorum() {
			return nil, rpctypes.ErrGRPCNoLeader
		}
		return &pb.MemberListResponse{Header: e.header(self), Members: e.list()}, nil
	})
}

func (e *etcdCluster) list() []*pb.Member {
	members := make([]*pb.Member, 0, len(e.members))
	for _, m := range e.members {
		members = append(members, m.proto())
	}
	return members
}

func (s *etcdServer) MemberRemove(ctx context.Context, req *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return with(ctx, s, func(e *etcdCluster, self *etcdMember) (*pb.MemberRemoveResponse, error) {
		removed, err := e.remove(req.ID)
		if err != nil {
			return nil, err
		}
		s.backend.retire(removed.machine)
		e.elect()
		return &pb.MemberRemoveResponse{Header: e.header(self), Members: e.list()}, nil
	})
}

// retire ends the control plane of a machine whose etcd member was removed: an API server cannot live without the
// etcd on its own machine. The lock is held.
func (b *Backend) retire(m *machine) {
	m.etcdTLS = nil
	m.printf("etcd: the member has been permanently removed from the cluster")
	b.Clock.AfterFunc(removalGrace, func() {
		b.mu.Lock()
		var open []net.Conn
		if !m.cluster.etcd.hasMemberOf(m) {
			open = m.stopServing()
		}
		b.mu.Unlock()
		closeAll(open)
	})
}

func (s *etcdServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	return with(ctx, s, func(e *etcdCluster, self *etcdMember) (*pb.StatusResponse, error) {
		out := &pb.StatusResponse{
			Header: e.header(self), Version: etcdVersion, StorageVersion: "3.6.0", Leader: e.leader,
			DbSize: etcdDatabaseBytes, DbSizeInUse: etcdDatabaseBytes, RaftIndex: 1, RaftAppliedIndex: 1, RaftTerm: e.term,
		}
		if e.leader == 0 {
			out.Errors = append(out.Errors, "etcdserver: no leader")
		}
		return out, nil
	})
}

func (s *etcdServer) MoveLeader(ctx context.Context, req *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	return with(ctx, s, func(e *etcdCluster, self *etcdMember) (*pb.MoveLeaderResponse, error) {
		if e.leader != self.id {
			return nil, rpctypes.ErrGRPCNotLeader
		}
		if target := e.find(req.TargetID); target == nil || !target.started() {
			return nil, rpctypes.ErrGRPCBadLeaderTransferee
		}
		e.leader = req.TargetID
		e.term++
		return &pb.MoveLeaderResponse{Header: e.header(self)}, nil
	})
}

// Alarm lists none: nothing here runs out of space.
func (s *etcdServer) Alarm(ctx context.Context, _ *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return with(ctx, s, func(e *etcdCluster, self *etcdMember) (*pb.AlarmResponse, error) {
		return &pb.AlarmResponse{Header: e.header(self)}, nil
	})
}
