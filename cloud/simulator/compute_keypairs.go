package simulator

import (
	"crypto/ed25519"
	"crypto/md5"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// keyPair is a Nova key pair. It belongs to a user, not to a project.
type keyPair struct {
	name, publicKey, fingerprint, kind string
	created                            time.Time
	seeded                             bool
}

func (n *computeService) keyPairRoutes(rt *router) {
	n.handle(rt, "GET /v2.1/os-keypairs", n.listKeyPairs)
	n.handle(rt, "POST /v2.1/os-keypairs", n.createKeyPair)
	n.handle(rt, "GET /v2.1/os-keypairs/{name}", n.showKeyPair)
	n.handle(rt, "DELETE /v2.1/os-keypairs/{name}", n.deleteKeyPair)
}

// seededKeyPair is a key pair of the scenario; nobody has its private key.
func seededKeyPair(name string, created time.Time) *keyPair {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, shortID("key pair", name))
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	return newKeyPair(name, authorizedKey(public, name), "ssh", created, true)
}

func newKeyPair(name, publicKey, kind string, created time.Time, seeded bool) *keyPair {
	pair := &keyPair{name: name, publicKey: publicKey, kind: kind, created: created, seeded: seeded}
	if parts := strings.Fields(publicKey); len(parts) > 1 {
		blob, _ := base64.StdEncoding.DecodeString(parts[1])
		sum := md5.Sum(blob)
		hex := make([]string, 0, len(sum))
		for _, b := range sum {
			hex = append(hex, fmt.Sprintf("%02x", b))
		}
		pair.fingerprint = strings.Join(hex, ":")
	}
	return pair
}

// authorizedKey writes a key the way authorized_keys files hold it (RFC 4253 6.6, RFC 8709 4).
func authorizedKey(public ed25519.PublicKey, comment string) string {
	const algorithm = "ssh-ed25519"
	blob := binary.BigEndian.AppendUint32(nil, uint32(len(algorithm)))
	blob = append(blob, algorithm...)
	blob = binary.BigEndian.AppendUint32(blob, uint32(len(public)))
	blob = append(blob, public...)
	return algorithm + " " + base64.StdEncoding.EncodeToString(blob) + " " + comment
}

func (n *computeService) keyPair(userID, name string) *keyPair {
	return find(n.keyPairs[userID], func(k *keyPair) bool { return k.name == name })
}

func (k *keyPair) view(version int) fields {
	view := fields{"name": k.name, "public_key": k.publicKey, "fingerprint": k.fingerprint}
	if version >= 2 {
		view["type"] = k.kind
	}
	return view
}

func (k *keyPair) detailedView(version int, userID string) fields {
	view := k.view(version)
	view["user_id"], view["created_at"], view["deleted"] = userID, stampMicros(k.created), false
	view["deleted_at"], view["updated_at"], view["id"] = nil, nil, 1
	return view
}

func (n *computeService) listKeyPairs(c *call, version int) (reply, error) {
	pairs := slices.Clone(n.keyPairs[c.token.user.id])
	slices.SortFunc(pairs, func(a, b *keyPair) int { return strings.Compare(a.name, b.name) })
	pairs, next, err := page(c, pairs, maxPage, func(k *keyPair) string { return k.name })
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, k := range pairs {
		views = append(views, fields{"keypair": k.view(version)})
	}
	return pageReply("keypairs", views, next), nil
}

func (n *computeService) createKeyPair(c *call, version int) (reply, error) {
	var in struct {
		KeyPair struct {
			Name      string  `json:"name"`
			PublicKey *string `json:"public_key"`
			Type      string  `json:"type"`
		} `json:"keypair"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	asked, userID := in.KeyPair, c.token.user.id
	if asked.Name == "" {
		return reply{}, schemaProblem("keypair", string(c.body), "'name' is a required property")
	}
	setDefault(&asked.Type, "ssh")
	if n.keyPair(userID, asked.Name) != nil {
		return reply{}, problemf(http.StatusConflict, "Key pair '%s' already exists.", asked.Name)
	}
	if n.s.overQuota(c.project(), "key_pairs", len(n.keyPairs[userID]), 1) {
		return reply{}, problemf(http.StatusForbidden, "Quota exceeded, too many key pairs.")
	}
	private := ""
	switch {
	case asked.PublicKey != nil:
		if asked.Type == "ssh" && len(strings.Fields(*asked.PublicKey)) < 2 {
			return reply{}, badRequest("Keypair data is invalid: failed to generate fingerprint")
		}
	case version >= 92:
		return reply{}, schemaProblem("keypair", string(c.body), "'public_key' is a required property")
	default:
		public, generated := n.generateKey(asked.Name)
		asked.PublicKey, private = &public, generated
	}
	pair := newKeyPair(asked.Name, *asked.PublicKey, asked.Type, n.s.now(), false)
	n.keyPairs[userID] = append(n.keyPairs[userID], pair)
	view := pair.view(version)
	view["user_id"] = userID
	if private != "" {
		view["private_key"] = private
	}
	status := http.StatusOK
	if version >= 2 {
		status = http.StatusCreated
	}
	return reply{status: status, body: fields{"keypair": view}}, nil
}

// generateKey follows the seed, like everything here: such a key protects nothing.
func (n *computeService) generateKey(name string) (public, private string) {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(n.s.rng.UintN(256))
	}
	key := ed25519.NewKeyFromSeed(seed)
	der, _ := x509.MarshalPKCS8PrivateKey(key) // cannot fail for an ed25519 key
	encoded := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return authorizedKey(key.Public().(ed25519.PublicKey), name), string(encoded)
}

func (n *computeService) findKeyPair(c *call) (*keyPair, error) {
	pair := n.keyPair(c.token.user.id, c.id("name"))
	if pair == nil {
		return nil, problemf(http.StatusNotFound, "Keypair %s not found for user %s", c.id("name"), c.token.user.id)
	}
	return pair, nil
}

func (n *computeService) showKeyPair(c *call, version int) (reply, error) {
	pair, err := n.findKeyPair(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"keypair": pair.detailedView(version, c.token.user.id)})
}

func (n *computeService) deleteKeyPair(c *call, version int) (reply, error) {
	pair, err := n.findKeyPair(c)
	if err != nil {
		return reply{}, err
	}
	userID := c.token.user.id
	n.keyPairs[userID] = keep(n.keyPairs[userID], func(k *keyPair) bool { return k != pair })
	if version < 2 {
		return accepted()
	}
	return noContent()
}
