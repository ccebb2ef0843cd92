package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// A token is renewed renewalMargin before it expires, or a quarter of its life before where that is
// shorter.
const renewalMargin = 10 * time.Minute

// How long a failed login is remembered: a wrong password is wrong until a person acts, but the
// account may be enabled again at any time; an unreachable Keystone is back any moment.
const (
	rejectedLoginFirstPause   = 10 * time.Second
	rejectedLoginLongestPause = 2 * time.Minute
	failedLoginFirstPause     = time.Second
	failedLoginLongestPause   = 30 * time.Second
)

// A service that answers 401 to good tokens must not turn every request into a login: at most
// rejectionBurst at once and one per rejectionInterval after that.
const (
	rejectionInterval = 30 * time.Second
	rejectionBurst    = 3
)

// access is what one login gave.
type access struct {
	token       string
	renewAt     time.Time
	expires     time.Time
	region      string
	projectID   string
	projectName string
	endpoints   map[service]endpoint
}

// endpoint is where a service of the project is.
func (a access) endpoint(of service) (endpoint, error) {
	found, ok := a.endpoints[of]
	if !ok {
		return endpoint{}, Errorf(Config, "the cloud has no %s service in region %q: its catalog does not list one", of, a.region)
	}
	return found, nil
}

// authenticator keeps a session logged in.
type authenticator struct {
	session    *Session
	clock      clockwork.Clock
	flight     singleflight.Group
	rejections *rate.Limiter

	mu       sync.Mutex
	current  access // token empty before the first login and after a rejection
	failure  error  // of the last login; nil after a success
	failures int    // in a row
	retryAt  time.Time
	logins   int // that succeeded
}

func newAuthenticator(session *Session) *authenticator {
	return &authenticator{
		session:    session,
		clock:      session.clock,
		rejections: rate.NewLimiter(rate.Every(rejectionInterval), rejectionBurst),
	}
}

// known is the result of the last login, whether or not its token is still good.
func (a *authenticator) known() access {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}

// loginCount is how many logins have succeeded.
func (a *authenticator) loginCount() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logins
}

// access is a login that is good now. Whoever comes while a login is under way shares it.
func (a *authenticator) access(ctx context.Context) (access, error) {
	if current, settled, err := a.settled(ctx); settled {
		return current, err
	}
	// The login is nobody's own: it goes on when the caller that began it gives up.
	login := context.WithoutCancel(ctx)
	done := a.flight.DoChan("", func() (any, error) { return nil, a.loginOnce(login) })
	select {
	case <-done:
		current, _, err := a.settled(ctx)
		return current, err
	case <-ctx.Done():
		return access{}, ctx.Err()
	}
}

// settled answers from memory, and reports whether that will do.
func (a *authenticator) settled(ctx context.Context) (current access, settled bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	valid := a.current.token != "" && now.Before(a.current.expires)
	waiting := now.Before(a.retryAt) || isBackground(ctx) && ClassOf(a.failure) == Auth
	switch {
	case valid && now.Before(a.current.renewAt):
		return a.current, true, nil
	case waiting && valid: // could not renew it yet, but it still works
		return a.current, true, nil
	case waiting:
		return access{}, true, withRetryAfter(a.failure, max(0, a.retryAt.Sub(now)))
	}
	return access{}, false, a.failure
}

// renew gives up a token a service rejected.
func (a *authenticator) renew(ctx context.Context, rejected string) (access, error) {
	a.mu.Lock()
	if a.current.token == rejected {
		if !a.rejections.AllowN(a.clock.Now(), 1) {
			a.mu.Unlock()
			return access{}, Errorf(Auth, "the services keep rejecting fresh tokens of %s", a.session.identity)
		}
		a.current.token = ""
	}
	a.mu.Unlock()
	return a.access(ctx)
}

// loginOnce logs in unless a login that ended meanwhile settled the matter, and remembers the
// outcome either way.
func (a *authenticator) loginOnce(ctx context.Context) error {
	if _, settled, err := a.settled(ctx); settled {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.session.options.RequestTimeout+limiterLongestWait)
	defer cancel()
	current, err := a.login(ctx)

	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.current, a.failure, a.failures, a.retryAt = current, nil, 0, time.Time{}
		a.logins++
		return nil
	}
	a.failure = err
	a.failures++
	a.retryAt = a.clock.Now().Add(loginPause(err, a.failures))
	a.session.logger.Warn("login failed", "identity", a.session.identity, "error", err, "failures", a.failures)
	return err
}

// loginPause is how long to wait after so many failures in a row.
func loginPause(err error, failures int) time.Duration {
	var classified *Error
	if errors.As(err, &classified) && classified.RetryAfter > 0 {
		return classified.RetryAfter
	}
	first, longest := failedLoginFirstPause, failedLoginLongestPause
	if class := ClassOf(err); class == Auth || class == Config {
		first, longest = rejectedLoginFirstPause, rejectedLoginLongestPause
	}
	return min(first<<min(failures-1, 10), longest)
}

// withRetryAfter is the same error, saying when the next attempt makes sense.
func withRetryAfter(err error, wait time.Duration) error {
	var classified *Error
	if !errors.As(err, &classified) {
		return err
	}
	repeated := *classified
	repeated.RetryAfter = wait
	return &repeated
}

// login is one request to Keystone. The expiry and the catalog are taken from its answer: a GET of
// the token is forbidden to application credentials with access rules.
func (a *authenticator) login(ctx context.Context) (access, error) {
	identity := a.session.identity
	if err := identity.validate(); err != nil {
		return access{}, err
	}
	sent := a.clock.Now()
	result := tokens.Create(ctx, a.identityClient(), identity.authOptions())
	if result.Err != nil {
		return access{}, a.explain(a.session.classify("POST /auth/tokens", result.Err))
	}
	return a.read(result, sent)
}

// identityClient calls Keystone without a token.
func (a *authenticator) identityClient() *gophercloud.ServiceClient {
	root := keystoneRoot(a.session.identity.AuthURL)
	at := endpoint{root: root}
	return &gophercloud.ServiceClient{
		ProviderClient: a.session.connector.provider(identityService, at, "", nil),
		Endpoint:       root,
		Type:           string(identityService),
	}
}

// keystoneRoot is the v3 API of an auth_url, which people write with and without the version.
func keystoneRoot(authURL string) string {
	root := strings.TrimRight(authURL, "/")
	for _, old := range []string{"/v2.0", "/v3"} {
		root = strings.TrimSuffix(root, old)
	}
	return root + "/v3/"
}

// authOptions is the identity in gophercloud's words.
func (i Identity) authOptions() *tokens.AuthOptions {
	options := &tokens.AuthOptions{
		TokenID:                     i.Token,
		UserID:                      i.UserID,
		Username:                    i.Username,
		Password:                    i.Password,
		DomainID:                    i.UserDomainID,
		ApplicationCredentialID:     i.ApplicationCredentialID,
		ApplicationCredentialName:   i.ApplicationCredentialName,
		ApplicationCredentialSecret: i.ApplicationCredentialSecret,
	}
	if i.UserDomainID == "" {
		options.DomainName = i.UserDomainName
	}
	if i.UserID != "" { // Keystone knows the domain of an id
		options.Username, options.DomainID, options.DomainName = "", "", ""
	}
	if i.ApplicationCredentialSecret != "" {
		return options // an application credential is bound to its project
	}
	options.Scope = tokens.Scope{ProjectID: i.ProjectID}
	if i.ProjectID == "" {
		options.Scope = tokens.Scope{ProjectName: i.ProjectName, DomainID: i.ProjectDomainID}
		if i.ProjectDomainID == "" {
			options.Scope.DomainName = i.ProjectDomainName
		}
	}
	return options
}

// explain adds to Keystone's terse answers what a person can do about them.
func (a *authenticator) explain(err error) error {
	var classified *Error
	if !errors.As(err, &classified) {
		return err
	}
	identity := a.session.identity
	explained := *classified
	status := classified.StatusCode
	if status == http.StatusNotFound && identity.Token != "" {
		status = http.StatusUnauthorized // how older Keystones answer to an unknown token
	}
	switch status {
	case http.StatusUnauthorized:
		explained.Class = Auth
		explained.Message = fmt.Sprintf("%s rejected the %s of %q for project %q: %s Check the credentials of cloud %q in clouds.yaml: they may be wrong, expired or revoked",
			identity.AuthURL, identity.method(), identity.user(), identity.project(), sentence(classified.Message), identity.CloudName)
	case http.StatusNotFound, http.StatusMultipleChoices, http.StatusMethodNotAllowed:
		explained.Class = Config
		explained.Message = fmt.Sprintf("auth_url %q of cloud %q is not a Keystone v3 API (HTTP %d); set it to the identity endpoint, such as https://cloud.example:5000/v3",
			identity.AuthURL, identity.CloudName, classified.StatusCode)
	default:
		explained.Message = fmt.Sprintf("log in at %s: %s", identity.AuthURL, classified.Message)
	}
	// A login makes nothing, so there is nothing to look for after a lost answer.
	explained.Uncertain = false
	return &explained
}

// sentence ends a text with a full stop.
func sentence(text string) string {
	return strings.TrimRight(text, ". ") + "."
}

// read turns Keystone's answer into an access.
func (a *authenticator) read(result tokens.CreateResult, sent time.Time) (access, error) {
	var body struct {
		IssuedAt  time.Time             `json:"issued_at"`
		ExpiresAt time.Time             `json:"expires_at"`
		Project   *tokens.Project       `json:"project"`
		Catalog   []tokens.CatalogEntry `json:"catalog"`
	}
	if err := result.ExtractIntoStructPtr(&body, "token"); err != nil {
		return access{}, &Error{Class: Transient, Operation: "POST /auth/tokens", Message: fmt.Sprintf("the answer of %s cannot be read", a.session.identity.AuthURL), Err: err}
	}
	token, _ := result.ExtractTokenID()
	identity := a.session.identity
	if token == "" {
		return access{}, Errorf(Transient, "%s answered without a token", identity.AuthURL)
	}
	if body.Project == nil {
		return access{}, Errorf(Config, "cloud %q logs in without a project; set project_id, or project_name and project_domain_name, in clouds.yaml", identity.CloudName)
	}
	region, endpoints, err := readCatalog(body.Catalog, *identity, body.Project.ID)
	if err != nil {
		return access{}, err
	}
	made := access{token: token, region: region, projectID: body.Project.ID, projectName: body.Project.Name, endpoints: endpoints}
	made.expires, made.renewAt = tokenLife(sent, body.IssuedAt, body.ExpiresAt)
	return made, nil
}

// tokenLife says until when a token is good and when to renew it, by our own clock: the cloud's may
// be wrong, but the time between issue and expiry is right even then.
func tokenLife(sent, issued, expires time.Time) (until, renewAt time.Time) {
	life := expires.Sub(issued)
	if issued.IsZero() {
		life = expires.Sub(sent)
	}
	return sent.Add(life), sent.Add(life - min(renewalMargin, life/4))
}
