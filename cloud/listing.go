package cloud

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// send makes one request. The answer, if any is wanted, is decoded into answer.
func (s *Session) send(ctx context.Context, of service, method, path string, body, answer any) error {
	operation := method + " /" + path
	client, err := s.client(ctx, of)
	if err != nil {
		return s.classify(operation, err)
	}
	response, err := client.Request(ctx, method, client.ServiceURL(path), &gophercloud.RequestOpts{
		JSONBody:     body,
		JSONResponse: answer,
		OkCodes:      []int{http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent},
	})
	if err != nil {
		return s.classify(operation, err)
	}
	return response.Body.Close()
}

// create makes one POST. When it is not certain that it failed, the kind is listed soon: what the
// call may have made has to be found by its mark.
func (s *Session) create(ctx context.Context, kind Kind, of service, path string, body, answer any) error {
	err := s.send(ctx, of, http.MethodPost, path, body, answer)
	s.findUncertain(kind, err)
	return err
}

// remove makes one DELETE. Something that is not there any more counts as deleted.
func (s *Session) remove(ctx context.Context, kind Kind, of service, path string) error {
	_, err := s.removeSlowly(ctx, kind, of, path)
	return err
}

// removeSlowly makes one DELETE that only begins a deletion: the object stays for a while, unless it
// was not there in the first place.
func (s *Session) removeSlowly(ctx context.Context, kind Kind, of service, path string) (stays bool, err error) {
	err = s.send(ctx, of, http.MethodDelete, path, nil, nil)
	if IsNotFound(err) {
		return false, nil
	}
	s.findUncertain(kind, err)
	return err == nil, err
}

// findUncertain brings the next listing of a kind forward after a request that may have worked.
func (s *Session) findUncertain(kind Kind, err error) {
	if IsUncertain(err) {
		s.Inventory().Require(kind, s.clock.Now())
	}
}

// wireObject is an object as a service writes it.
type wireObject interface {
	identity() string
	project() string
	object() object
}

// wireOwned are the fields every object has. Neutron and Octavia write both names of the project.
type wireOwned struct {
	ID        string   `json:"id"`
	ProjectID string   `json:"project_id"`
	TenantID  string   `json:"tenant_id"`
	Created   wireTime `json:"created_at"`
}

// wireTime is a time of Neutron, Octavia or Cinder, of which the last two leave out that it is UTC. It is
// zero where a cloud writes none, or in another way: nothing but an age depends on it.
type wireTime struct{ time.Time }

// UnmarshalJSON never fails.
func (w *wireTime) UnmarshalJSON(data []byte) error {
	text := strings.TrimSuffix(strings.Trim(string(data), `"`), "Z")
	w.Time, _ = time.Parse("2006-01-02T15:04:05", text) // fractions of seconds are taken too
	return nil
}

func (w wireOwned) identity() string { return w.ID }

func (w wireOwned) project() string {
	if w.ProjectID != "" {
		return w.ProjectID
	}
	return w.TenantID
}

// collection is where the objects of a kind are listed.
type collection struct {
	service service
	path    string
	key     string // of the list in the answer
	query   url.Values
}

// ofProject keeps administrators from listing the whole cloud, and everybody from listing what
// others share with the project.
func (s *Session) ofProject() url.Values {
	query := url.Values{}
	if project := s.ProjectID(); project != "" {
		query.Set("project_id", project)
	}
	return query
}

// list returns all objects of a kind or, for servers and a time other than zero, those that changed
// or went away since.
func (s *Session) list(ctx context.Context, kind Kind, since time.Time, known *Snapshot) ([]object, error) {
	if of, optional := optionalService(kind); optional && known.Count(kind) == 0 {
		access, err := s.auth.access(ctx)
		if err != nil {
			return nil, s.classify("", err)
		}
		if _, there := access.endpoints[of]; !there {
			return nil, nil
		}
	}
	switch kind {
	case KindServer:
		return s.listServers(ctx, since)
	case KindLoadBalancer:
		return s.listLoadBalancers(ctx, known)
	case KindServerGroup:
		return s.listServerGroups(ctx)
	case KindVolume:
		return listObjects[wireVolume](ctx, s, collection{volumeService, "volumes/detail", "volumes", url.Values{}})
	case KindNetwork:
		return listObjects[wireNetwork](ctx, s, collection{networkService, "networks", "networks", s.ofProject()})
	case KindSubnet:
		return listObjects[wireSubnet](ctx, s, collection{networkService, "subnets", "subnets", s.ofProject()})
	case KindRouter:
		return listObjects[wireRouter](ctx, s, collection{networkService, "routers", "routers", s.ofProject()})
	case KindSecurityGroup:
		return listObjects[wireSecurityGroup](ctx, s, collection{networkService, "security-groups", "security_groups", s.ofProject()})
	case KindPort:
		return listObjects[wirePort](ctx, s, collection{networkService, "ports", "ports", s.ofProject()})
	case KindFloatingIP:
		return listObjects[wireFloatingIP](ctx, s, collection{networkService, "floatingips", "floatingips", s.ofProject()})
	}
	return nil, Errorf(Config, "nothing is known about the kind %q", kind)
}

// optionalService is the service of a kind that a cloud may do without. It then has no object of that
// kind, which is not an error. Objects that are known do not vanish with an entry of the catalog,
// though: that is more likely an outage.
func optionalService(kind Kind) (of service, optional bool) {
	switch kind {
	case KindVolume:
		return volumeService, true
	case KindLoadBalancer:
		return loadBalancerService, true
	}
	return "", false
}

// listObjects lists a collection page by page and leaves out what belongs to another project.
func listObjects[W wireObject](ctx context.Context, s *Session, from collection) ([]object, error) {
	var out []object
	err := listPages(ctx, s, from, func(page []W) {
		for _, listed := range page {
			if s.isOurs(listed.project()) {
				out = append(out, listed.object())
			}
		}
	})
	return out, err
}

// isOurs reports that an object is of the session's project. Some kinds do not say.
func (s *Session) isOurs(project string) bool {
	return project == "" || s.ProjectID() == "" || project == s.ProjectID()
}

// listPages lists a collection page by page. Whether there is another page is known by a link to it,
// but the link itself is not followed: behind a proxy it often names a host nobody can reach. A cloud whose pages go round in a circle
// would fill the memory.
func listPages[W interface{ identity() string }](ctx context.Context, s *Session, from collection, visit func([]W)) error {
	from.query.Set("limit", strconv.Itoa(s.Inventory().options.PageSize))
	markers := map[string]bool{}
	for {
		var answer map[string]json.RawMessage
		if err := s.read(ctx, from.service, from.path+"?"+from.query.Encode(), &answer); err != nil {
			return err
		}
		var page []W
		if err := json.Unmarshal(answer[from.key], &page); err != nil {
			return s.classify("GET /"+from.path, err)
		}
		visit(page)
		if len(page) == 0 || !hasNext(answer[from.key+"_links"]) {
			return nil
		}
		last := page[len(page)-1].identity()
		if markers[last] {
			return s.classify("GET /"+from.path, Errorf(Transient, "the list goes on after %s again and again", last))
		}
		markers[last] = true
		from.query.Set("marker", last)
	}
}

func hasNext(raw json.RawMessage) bool {
	var links []struct {
		Rel string `json:"rel"`
	}
	if json.Unmarshal(raw, &links) != nil {
		return false // no links: the last page
	}
	for _, link := range links {
		if link.Rel == "next" {
			return true
		}
	}
	return false
}

// orNil leaves an empty text out of a request as null.
func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}
