package cloud

import (
	"fmt"
	"strings"
)

// Mark says which object of the management cluster a cloud object belongs to. It is written by the
// same call that creates the object, because a tag set by a second call is lost with a crash in
// between. Names are for people and never decide ownership.
type Mark struct {
	// Cluster is the owner id of the cluster. It survives `clusterctl move`, which a UID does not.
	Cluster string
	// Machine is the owner id of the machine; empty for objects of the whole cluster.
	Machine string
	// Role tells the objects of one owner apart, such as "port-0", "volume-root" or "api".
	Role string
}

const markPrefix = "sendan"

// The metadata keys of a Mark on Nova servers and Cinder volumes.
const (
	MetadataCluster = "sendan-cluster"
	MetadataMachine = "sendan-machine"
	MetadataRole    = "sendan-role"
)

// String is the mark as written to the description of Neutron and Octavia objects:
// "sendan cluster=<id> machine=<id> role=<role>", empty parts left out.
func (m Mark) String() string {
	if m.Cluster == "" {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s cluster=%s", markPrefix, m.Cluster)
	if m.Machine != "" {
		fmt.Fprintf(&b, " machine=%s", m.Machine)
	}
	if m.Role != "" {
		fmt.Fprintf(&b, " role=%s", m.Role)
	}
	return b.String()
}

// ParseMark reads a description written by [Mark.String]. Anything else is not ours: the zero Mark.
func ParseMark(description string) Mark {
	fields := strings.Fields(description)
	if len(fields) == 0 || fields[0] != markPrefix {
		return Mark{}
	}
	var m Mark
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "cluster":
			m.Cluster = value
		case "machine":
			m.Machine = value
		case "role":
			m.Role = value
		}
	}
	return m
}

// Metadata is the mark as written to Nova servers and Cinder volumes.
func (m Mark) Metadata() map[string]string {
	out := map[string]string{}
	for key, value := range map[string]string{MetadataCluster: m.Cluster, MetadataMachine: m.Machine, MetadataRole: m.Role} {
		if value != "" {
			out[key] = value
		}
	}
	return out
}

// MarkFromMetadata reads what [Mark.Metadata] wrote.
func MarkFromMetadata(metadata map[string]string) Mark {
	return Mark{Cluster: metadata[MetadataCluster], Machine: metadata[MetadataMachine], Role: metadata[MetadataRole]}
}

// IsZero reports that an object carries no mark, which means it is not ours.
func (m Mark) IsZero() bool { return m.Cluster == "" }
