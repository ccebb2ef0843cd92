package cloud

import (
	"cmp"
	"crypto/x509"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// cloudEntry is one entry of clouds.yaml, as far as it says how to log in.
type cloudEntry struct {
	Auth struct {
		AuthURL string `yaml:"auth_url"`

		ProjectID         string `yaml:"project_id"`
		ProjectName       string `yaml:"project_name"`
		TenantID          string `yaml:"tenant_id"` // the old name of a project
		TenantName        string `yaml:"tenant_name"`
		ProjectDomainID   string `yaml:"project_domain_id"`
		ProjectDomainName string `yaml:"project_domain_name"`

		UserID         string `yaml:"user_id"`
		Username       string `yaml:"username"`
		UserDomainID   string `yaml:"user_domain_id"`
		UserDomainName string `yaml:"user_domain_name"`
		Password       string `yaml:"password"`

		// The domain of user and project where they have none of their own.
		DomainID      string `yaml:"domain_id"`
		DomainName    string `yaml:"domain_name"`
		DefaultDomain string `yaml:"default_domain"`

		ApplicationCredentialID     string `yaml:"application_credential_id"`
		ApplicationCredentialName   string `yaml:"application_credential_name"`
		ApplicationCredentialSecret string `yaml:"application_credential_secret"`

		Token string `yaml:"token"`
	} `yaml:"auth"`
	AuthType           string `yaml:"auth_type"`
	RegionName         string `yaml:"region_name"`
	Interface          string `yaml:"interface"`
	IdentityAPIVersion string `yaml:"identity_api_version"`
	CACert             string `yaml:"cacert"`
	Verify             *bool  `yaml:"verify"`
}

// ParseCloudsYAML reads one entry of a clouds.yaml. An empty name chooses the only entry. Errors are
// of class Config; they name the field to change and never quote a secret.
func ParseCloudsYAML(data []byte, cloudName string) (Identity, error) {
	var file struct {
		Clouds map[string]cloudEntry `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return Identity{}, Errorf(Config, "clouds.yaml cannot be read: %s; fix its YAML", withoutValues(err.Error()))
	}
	there := slices.Sorted(maps.Keys(file.Clouds))
	if len(there) == 0 {
		return Identity{}, Errorf(Config, "clouds.yaml has no entries below the key \"clouds\"; add one")
	}
	if cloudName == "" && len(there) == 1 {
		cloudName = there[0]
	}
	entry, found := file.Clouds[cloudName]
	if !found {
		return Identity{}, Errorf(Config, "cloud %q is not in clouds.yaml, which has: %s; set cloudName to one of them", cloudName, strings.Join(there, ", "))
	}
	return entry.identity(cloudName)
}

// quotedValue is what the YAML parser repeats of a document in its messages, which may be a part
// of a password. Punctuation such as ':' is safe.
var quotedValue = regexp.MustCompile("`[^`]*`|'[^']{2,}'")

func withoutValues(message string) string {
	message = strings.TrimPrefix(message, "yaml: ")
	return strings.Join(strings.Fields(quotedValue.ReplaceAllString(message, "(value hidden)")), " ")
}

func (e cloudEntry) identity(name string) (Identity, error) {
	identity := Identity{
		CloudName:         name,
		AuthURL:           strings.TrimSpace(e.Auth.AuthURL),
		Region:            e.RegionName,
		Interface:         strings.TrimSuffix(e.Interface, "URL"), // publicURL is an old spelling
		ProjectID:         cmp.Or(e.Auth.ProjectID, e.Auth.TenantID),
		ProjectName:       cmp.Or(e.Auth.ProjectName, e.Auth.TenantName),
		ProjectDomainID:   e.Auth.ProjectDomainID,
		ProjectDomainName: e.Auth.ProjectDomainName,
		Insecure:          e.Verify != nil && !*e.Verify,
	}
	if identity.ProjectDomainID == "" && identity.ProjectDomainName == "" {
		identity.ProjectDomainID, identity.ProjectDomainName = e.fallbackDomain()
	}
	if strings.Contains(e.CACert, "-----BEGIN") {
		identity.CACert = []byte(e.CACert)
	} else {
		identity.caCertPath = e.CACert
	}
	switch e.IdentityAPIVersion {
	case "", "3", "3.0", "v3":
	default:
		return Identity{}, Errorf(Config, "cloud %q: identity_api_version %q is not supported; set it to 3", name, e.IdentityAPIVersion)
	}
	if err := e.addCredential(&identity); err != nil {
		return Identity{}, err
	}
	return identity, identity.validateLogin()
}

// addCredential takes over the credential auth_type asks for and no other.
func (e cloudEntry) addCredential(identity *Identity) error {
	switch authType := strings.ToLower(e.authType()); authType {
	case "password", "v3password":
		identity.addUser(e)
		identity.Password = e.Auth.Password
	case "v3applicationcredential", "applicationcredential", "application_credential":
		identity.ApplicationCredentialID = e.Auth.ApplicationCredentialID
		identity.ApplicationCredentialName = e.Auth.ApplicationCredentialName
		identity.ApplicationCredentialSecret = e.Auth.ApplicationCredentialSecret
		if identity.ApplicationCredentialID == "" { // a name means something only beside its user
			identity.addUser(e)
		}
		if identity.ApplicationCredentialSecret == "" {
			return missing(*identity, "application_credential_secret")
		}
	case "token", "v3token":
		identity.Token = e.Auth.Token
		if identity.Token == "" {
			return missing(*identity, "token")
		}
	default:
		return Errorf(Config, "cloud %q: auth_type %q is not supported; set it to v3password, v3applicationcredential or v3token", identity.CloudName, e.AuthType)
	}
	return nil
}

func (i *Identity) addUser(e cloudEntry) {
	i.UserID, i.Username = e.Auth.UserID, e.Auth.Username
	i.UserDomainID, i.UserDomainName = e.Auth.UserDomainID, e.Auth.UserDomainName
	if i.UserDomainID == "" && i.UserDomainName == "" {
		i.UserDomainID, i.UserDomainName = e.fallbackDomain()
	}
}

// authType is the one given, or what the credentials there suggest.
func (e cloudEntry) authType() string {
	switch {
	case e.AuthType != "":
		return e.AuthType
	case e.Auth.ApplicationCredentialSecret != "":
		return "v3applicationcredential"
	case e.Auth.Token != "" && e.Auth.Password == "":
		return "v3token"
	}
	return "v3password"
}

func (e cloudEntry) fallbackDomain() (id, name string) {
	switch {
	case e.Auth.DomainID != "":
		return e.Auth.DomainID, ""
	case e.Auth.DomainName != "":
		return "", e.Auth.DomainName
	}
	return e.Auth.DefaultDomain, "" // an id, by the client tools' definition
}

// missing is the error of a field that has to be there.
func missing(identity Identity, field string) error {
	return Errorf(Config, "cloud %q: auth.%s is missing; set it in clouds.yaml", identity.CloudName, field)
}

// validate checks that an identity can work at all, before anything is sent.
func (i Identity) validate() error {
	if err := i.validateLogin(); err != nil {
		return err
	}
	return i.validateTrust()
}

func (i Identity) validateLogin() error {
	if i.AuthURL == "" {
		return missing(i, "auth_url")
	}
	parsed, err := url.Parse(i.AuthURL)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return Errorf(Config, "cloud %q: auth.auth_url %q is not an http(s) URL; set it to the identity endpoint, such as https://cloud.example:5000/v3", i.CloudName, i.AuthURL)
	}
	if parsed.User != nil {
		return Errorf(Config, "cloud %q: auth.auth_url holds a user or password; move them to auth.username and auth.password", i.CloudName)
	}
	switch i.Interface {
	case "", "public", "internal", "admin":
	default:
		return Errorf(Config, "cloud %q: interface %q is unknown; set it to public, internal or admin", i.CloudName, i.Interface)
	}
	switch i.method() {
	case "token":
		return nil
	case "application credential":
		return i.validateApplicationCredential()
	}
	return i.validatePassword()
}

func (i Identity) validateApplicationCredential() error {
	if i.ApplicationCredentialID != "" {
		return nil
	}
	if i.ApplicationCredentialName == "" {
		return missing(i, "application_credential_id")
	}
	return i.validateUser()
}

func (i Identity) validatePassword() error {
	if err := i.validateUser(); err != nil {
		return err
	}
	switch {
	case i.Password == "":
		return missing(i, "password")
	case i.ProjectID == "" && i.ProjectName == "":
		return missing(i, "project_name (or project_id)")
	case i.ProjectID == "" && i.ProjectDomainID == "" && i.ProjectDomainName == "":
		return missing(i, "project_domain_name (or project_domain_id, or project_id instead of project_name)")
	}
	return nil
}

func (i Identity) validateUser() error {
	switch {
	case i.UserID != "":
		return nil
	case i.Username == "":
		return missing(i, "username")
	case i.UserDomainID == "" && i.UserDomainName == "":
		return missing(i, "user_domain_name (or user_domain_id)")
	}
	return nil
}

// validateTrust checks the certificate authority, which may have come after the rest.
func (i Identity) validateTrust() error {
	if len(i.CACert) == 0 && i.caCertPath != "" {
		return Errorf(Config, "cloud %q: cacert %q is a path, which means nothing here; put the PEM text there, or into the key cacert beside clouds.yaml", i.CloudName, i.caCertPath)
	}
	if len(i.CACert) > 0 && !x509.NewCertPool().AppendCertsFromPEM(i.CACert) {
		return Errorf(Config, "cloud %q: cacert holds no certificate; give the certificate authority as PEM text", i.CloudName)
	}
	return nil
}
