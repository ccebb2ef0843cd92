package simulator

import (
	"net/http"
	"slices"
	"strings"
)

func (k *identityService) projectView(c *call, p *project) fields {
	return fields{
		"id": p.id, "name": p.name, "domain_id": p.domain.id, "parent_id": p.domain.id, "description": "", "enabled": true, "is_domain": false,
		"tags": []string{}, "options": fields{}, "links": fields{"self": c.base("identity") + "/v3/projects/" + p.id},
	}
}

func (k *identityService) projectViews(c *call, sees func(*project) bool) []fields {
	views := []fields{}
	for _, p := range k.projects {
		if sees(p) {
			views = append(views, k.projectView(c, p))
		}
	}
	return views
}

func (k *identityService) ownProjects(c *call) (reply, error) {
	return k.list(c, "projects", k.projectViews(c, func(p *project) bool {
		if ac := c.token.credential; ac != nil {
			return ac.project == p
		}
		return len(c.token.user.roles[p]) > 0
	}))
}

func (k *identityService) ownDomains(c *call) (reply, error) { return k.list(c, "domains", []fields{}) }

func (k *identityService) listProjects(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:list_projects"); err != nil {
		return reply{}, err
	}
	return k.list(c, "projects", k.projectViews(c, func(*project) bool { return true }))
}

func (k *identityService) showProject(c *call) (reply, error) {
	if !c.isAdmin() && c.id("id") != c.token.project {
		return reply{}, notAuthorizedTo("identity:get_project")
	}
	return k.one("project", c.id("id"), k.projectViews(c, func(*project) bool { return true }))
}

func (k *identityService) userViews(c *call) []fields {
	views := []fields{}
	for _, u := range k.users {
		views = append(views, fields{
			"id": u.id, "name": u.name, "domain_id": u.domain.id, "enabled": true, "password_expires_at": nil, "options": fields{},
			"links": fields{"self": c.base("identity") + "/v3/users/" + u.id},
		})
	}
	return views
}

func (k *identityService) listUsers(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:list_users"); err != nil {
		return reply{}, err
	}
	return k.list(c, "users", k.userViews(c))
}

func (k *identityService) showUser(c *call) (reply, error) {
	if !c.isAdmin() && c.id("user") != c.token.user.id {
		return reply{}, notAuthorizedTo("identity:get_user")
	}
	return k.one("user", c.id("user"), k.userViews(c))
}

// accountOf is the user that a path is about; others than oneself only for admins.
func (k *identityService) accountOf(c *call, action string) (*user, error) {
	if c.id("user") != c.token.user.id && !c.isAdmin() {
		return nil, notAuthorizedTo(action)
	}
	u := find(k.users, func(u *user) bool { return u.id == c.id("user") })
	if u == nil {
		return nil, problemf(http.StatusNotFound, "Could not find user: %s.", c.id("user"))
	}
	return u, nil
}

func (k *identityService) userProjects(c *call) (reply, error) {
	u, err := k.accountOf(c, "identity:list_user_projects")
	if err != nil {
		return reply{}, err
	}
	return k.list(c, "projects", k.projectViews(c, func(p *project) bool { return len(u.roles[p]) > 0 }))
}

func (k *identityService) domainViews(c *call) []fields {
	views := []fields{}
	for _, d := range k.domains {
		views = append(views, fields{
			"id": d.id, "name": d.name, "description": "", "enabled": true, "tags": []string{}, "options": fields{},
			"links": fields{"self": c.base("identity") + "/v3/domains/" + d.id},
		})
	}
	return views
}

func (k *identityService) listDomains(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:list_domains"); err != nil {
		return reply{}, err
	}
	return k.list(c, "domains", k.domainViews(c))
}

func (k *identityService) showDomain(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:get_domain"); err != nil {
		return reply{}, err
	}
	return k.one("domain", c.id("id"), k.domainViews(c))
}

func (k *identityService) listRoles(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:list_roles"); err != nil {
		return reply{}, err
	}
	return k.list(c, "roles", roleViews(k.roles))
}

// credentialView leaves the secret out: it is shown once, by the create call.
func (k *identityService) credentialView(c *call, ac *applicationCredential) fields {
	var expires any
	if !ac.expires.IsZero() {
		expires = strings.TrimSuffix(keystoneTime(ac.expires), "Z")
	}
	return fields{
		"id": ac.id, "name": ac.name, "description": ac.description, "project_id": ac.project.id, "user_id": ac.user.id,
		"roles": roleViews(ac.roles), "expires_at": expires, "unrestricted": ac.unrestricted, "system": nil,
		"links": fields{"self": c.base("identity") + "/v3/users/" + ac.user.id + "/application_credentials/" + ac.id},
	}
}

func (k *identityService) listCredentials(c *call) (reply, error) {
	u, err := k.accountOf(c, "identity:list_application_credentials")
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, ac := range k.credentials {
		if ac.user == u {
			views = append(views, k.credentialView(c, ac))
		}
	}
	return k.list(c, "application_credentials", views)
}

func (k *identityService) createCredential(c *call) (reply, error) {
	if c.token.user.id != c.id("user") || c.token.scope == nil || c.token.credential != nil && !c.token.credential.unrestricted {
		return reply{}, notAuthorizedTo("identity:create_application_credential")
	}
	var in struct {
		Credential struct {
			Name         string     `json:"name"`
			Description  string     `json:"description"`
			Secret       string     `json:"secret"`
			ExpiresAt    string     `json:"expires_at"`
			Unrestricted bool       `json:"unrestricted"`
			Roles        []nameOrID `json:"roles"`
		} `json:"application_credential"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	asked := in.Credential
	if asked.Name == "" {
		return reply{}, problemf(http.StatusBadRequest, "'name' is a required property")
	}
	ac := &applicationCredential{
		id: strings.ReplaceAll(k.s.newID(), "-", ""), name: asked.Name, description: asked.Description, secret: asked.Secret,
		user: c.token.user, project: c.token.scope, unrestricted: asked.Unrestricted, roles: c.token.roles,
	}
	for _, other := range k.credentials {
		if other.user == ac.user && other.name == ac.name {
			return reply{}, problemf(http.StatusConflict, "Conflict occurred attempting to store application_credential - Duplicate entry found with name %s.", ac.name)
		}
	}
	if err := ac.restrictTo(asked.Roles); err != nil {
		return reply{}, err
	}
	if asked.ExpiresAt != "" {
		expires, ok := parseStamp(asked.ExpiresAt)
		if !ok || !expires.After(k.s.now()) {
			return reply{}, problemf(http.StatusBadRequest, "The 'expires_at' must not be before now.")
		}
		ac.expires = expires
	}
	if ac.secret == "" {
		ac.secret = strings.ReplaceAll(k.s.newID()+k.s.newID(), "-", "")
	}
	k.credentials[ac.id] = ac
	view := k.credentialView(c, ac)
	view["secret"] = ac.secret
	return reply{status: http.StatusCreated, body: fields{"application_credential": view}}, nil
}

// restrictTo narrows a new credential down to some of its maker's roles.
func (ac *applicationCredential) restrictTo(roles []nameOrID) error {
	if len(roles) == 0 {
		return nil
	}
	var chosen []string
	for _, asked := range roles {
		i := slices.IndexFunc(ac.roles, func(name string) bool { return asked.Name == name || asked.ID == shortID("role", name) })
		if i < 0 {
			return problemf(http.StatusBadRequest, "Invalid application credential: Could not find role assignment with role: %s, user or group: %s, project, domain, or system: %s.", asked.ID+asked.Name, ac.user.id, ac.project.id)
		}
		chosen = append(chosen, ac.roles[i])
	}
	ac.roles = chosen
	return nil
}

func (k *identityService) ownCredential(c *call, action string) (*applicationCredential, error) {
	u, err := k.accountOf(c, action)
	if err != nil {
		return nil, err
	}
	ac := k.credentials[c.id("id")]
	if ac == nil || ac.user != u {
		return nil, problemf(http.StatusNotFound, "Could not find Application Credential: %s.", c.id("id"))
	}
	return ac, nil
}

func (k *identityService) showCredential(c *call) (reply, error) {
	ac, err := k.ownCredential(c, "identity:get_application_credential")
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: fields{"application_credential": k.credentialView(c, ac)}}, nil
}

func (k *identityService) deleteCredential(c *call) (reply, error) {
	ac, err := k.ownCredential(c, "identity:delete_application_credential")
	if err != nil {
		return reply{}, err
	}
	if c.token.credential != nil && !c.token.credential.unrestricted {
		return reply{}, notAuthorizedTo("identity:delete_application_credential")
	}
	k.removeCredential(ac.id)
	return reply{status: http.StatusNoContent}, nil
}
