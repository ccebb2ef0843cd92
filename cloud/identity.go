package cloud

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
)

// Identity is everything needed to log in to one project of one cloud. It holds secrets: printing,
// logging or marshaling it shows only who it is, never how it proves that.
type Identity struct {
	CloudName string // the entry's name in clouds.yaml
	AuthURL   string
	Region    string // may be empty where the catalog has a single region
	Interface string // public, internal or admin; empty means public

	ProjectID         string
	ProjectName       string
	ProjectDomainID   string
	ProjectDomainName string

	UserID         string
	Username       string
	UserDomainID   string
	UserDomainName string
	Password       string

	ApplicationCredentialID     string
	ApplicationCredentialName   string
	ApplicationCredentialSecret string

	Token string

	// CACert is a PEM bundle that replaces the system's certificate authorities.
	CACert []byte
	// Insecure turns certificate checks off. Only `verify: false` in clouds.yaml sets it.
	Insecure bool

	// caCertPath is a path clouds.yaml names instead of a PEM text; an error unless CACert is set.
	caCertPath string
}

// WithRegion is the identity in another region of the same cloud. An empty region changes nothing.
func (i Identity) WithRegion(region string) Identity {
	if region != "" {
		i.Region = region
	}
	return i
}

// CACertPath is where clouds.yaml says that the certificate authority is, for whoever reads the file where it was written.
func (i Identity) CACertPath() string { return i.caCertPath }

// WithCACert is the identity with another PEM bundle, such as the key `cacert` of a Secret beside
// its clouds.yaml. An empty bundle changes nothing.
func (i Identity) WithCACert(pem []byte) Identity {
	if len(pem) > 0 {
		i.CACert = bytes.Clone(pem)
	}
	return i
}

// Key is the SHA-256 of the whole identity, secrets included, so that two tenants never share a
// session and a rotated password is a new one.
func (i Identity) Key() string {
	digest := sha256.New()
	for _, part := range []string{
		i.CloudName, i.AuthURL, i.Region, i.Interface,
		i.ProjectID, i.ProjectName, i.ProjectDomainID, i.ProjectDomainName,
		i.UserID, i.Username, i.UserDomainID, i.UserDomainName, i.Password,
		i.ApplicationCredentialID, i.ApplicationCredentialName, i.ApplicationCredentialSecret,
		i.Token, string(i.CACert), i.caCertPath, strconv.FormatBool(i.Insecure),
	} {
		// The length goes before each part, or "ab","c" and "a","bc" would be one identity.
		fmt.Fprintf(digest, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(digest.Sum(nil))
}

// project is what to call the project in a message.
func (i Identity) project() string {
	if i.ProjectName != "" {
		return i.ProjectName
	}
	return i.ProjectID
}

// method says how the identity logs in.
func (i Identity) method() string {
	switch {
	case i.Token != "":
		return "token"
	case i.ApplicationCredentialSecret != "":
		return "application credential"
	}
	return "password"
}

// user is who logs in, as far as the identity says.
func (i Identity) user() string {
	switch {
	case i.ApplicationCredentialID != "":
		return i.ApplicationCredentialID
	case i.ApplicationCredentialName != "":
		return i.ApplicationCredentialName
	case i.Username != "":
		return i.Username
	}
	return i.UserID
}

// String names the identity without its secrets.
func (i Identity) String() string {
	return fmt.Sprintf("cloud %q at %s region %q project %q by %s %q", i.CloudName, i.AuthURL, i.Region, i.project(), i.method(), i.user())
}

// Format keeps every verb, %#v included, from showing a secret.
func (i Identity) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, i.String())
}

// LogValue keeps secrets out of structured logs.
func (i Identity) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("cloud", i.CloudName),
		slog.String("authURL", i.AuthURL),
		slog.String("region", i.Region),
		slog.String("project", i.project()),
		slog.String("method", i.method()),
		slog.String("user", i.user()),
	)
}

// MarshalJSON keeps secrets out of JSON logs and dumps.
func (i Identity) MarshalJSON() ([]byte, error) {
	return json.Marshal(i.String())
}
