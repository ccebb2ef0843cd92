package cloud

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// ServerGroupName is the mark of a server group: "sendan-<cluster id>-<role>". Nova gives server
// groups no other place for one. The cluster id has to be a UUID; a server group has no machine.
func ServerGroupName(m Mark) string { return markPrefix + "-" + m.Cluster + "-" + m.Role }

// uuidLength is that of the form with dashes.
const uuidLength = 36

// ParseServerGroupName reads what [ServerGroupName] wrote. Anything else is not ours: the zero Mark.
func ParseServerGroupName(name string) Mark {
	rest, ours := strings.CutPrefix(name, markPrefix+"-")
	if !ours || len(rest) < uuidLength {
		return Mark{}
	}
	cluster, role := rest[:uuidLength], rest[uuidLength:]
	if uuid.Validate(cluster) != nil || !strings.HasPrefix(role, "-") {
		return Mark{}
	}
	return Mark{Cluster: cluster, Role: role[1:]}
}

type wireServerGroup struct {
	wireOwned
	Name     string   `json:"name"`
	Policy   string   `json:"policy"`   // since microversion 2.64
	Policies []string `json:"policies"` // before
	Members  []string `json:"members"`
}

func (w wireServerGroup) serverGroup() ServerGroup {
	group := ServerGroup{ID: w.ID, Name: w.Name, Mark: ParseServerGroupName(w.Name), Policy: w.Policy, Members: sorted(w.Members)}
	if group.Policy == "" && len(w.Policies) > 0 {
		group.Policy = w.Policies[0]
	}
	return group
}

// listServerGroups pages by offset, since Nova knows neither markers nor links for server groups. A
// cloud may return fewer than asked for. Such limits are round numbers, so another page is asked
// for after a round number of groups.
func (s *Session) listServerGroups(ctx context.Context) ([]object, error) {
	const roundNumber = 50
	query := url.Values{"limit": {strconv.Itoa(s.Inventory().options.PageSize)}}
	var out []object
	for listed := 0; ; {
		var answer struct {
			ServerGroups []wireServerGroup `json:"server_groups"`
		}
		if err := s.read(ctx, computeService, "os-server-groups?"+query.Encode(), &answer); err != nil {
			return nil, err
		}
		for _, group := range answer.ServerGroups {
			if s.isOurs(group.project()) {
				out = append(out, group.serverGroup())
			}
		}
		page := len(answer.ServerGroups)
		if page == 0 || page%roundNumber != 0 && page != s.Inventory().options.PageSize {
			return out, nil
		}
		listed += page
		query.Set("offset", strconv.Itoa(listed))
	}
}

// CreateServerGroup creates a server group.
func (s *Session) CreateServerGroup(ctx context.Context, request ServerGroupRequest) (ServerGroup, error) {
	wanted := map[string]any{"name": ServerGroupName(request.Mark), "policy": request.Policy}
	single, err := s.supports(ctx, minorServerGroupRule)
	if err != nil {
		return ServerGroup{}, s.classify("POST /os-server-groups", err)
	}
	if !single {
		delete(wanted, "policy")
		wanted["policies"] = []string{request.Policy}
	}
	var answer struct {
		ServerGroup wireServerGroup `json:"server_group"`
	}
	if err := s.create(ctx, KindServerGroup, computeService, "os-server-groups", map[string]any{"server_group": wanted}, &answer); err != nil {
		return ServerGroup{}, err
	}
	made := answer.ServerGroup.serverGroup()
	s.Inventory().created(made)
	return made, nil
}

// DeleteServerGroup deletes a server group; its members stay.
func (s *Session) DeleteServerGroup(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindServerGroup, computeService, "os-server-groups/"+id); err != nil {
		return err
	}
	s.Inventory().deleted(KindServerGroup, id)
	return nil
}
