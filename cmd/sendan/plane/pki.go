package plane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	// Certificates are issued anew at every start, so this is how long a plane can stay up.
	certificateLifetime = 365 * 24 * time.Hour
	// Backdating forgives clocks that run a little behind each other.
	certificateBackdate = 10 * time.Minute
)

// authority is a certificate authority that is kept in the state directory, so that a kubeconfig
// somebody copied still works after a restart.
type authority struct {
	dir         string
	certificate *x509.Certificate
	key         crypto.Signer
	now         time.Time
}

// identity is who a certificate speaks for: a client (name and groups), a server on loopback, or both.
type identity struct {
	name   string
	groups []string
	server bool
}

// openAuthority reads the authority called name from dir, or makes it.
func openAuthority(dir, name string, now time.Time) (*authority, error) {
	certFile, keyFile := certificateFiles(dir, name)
	certificate, err := readCertificate(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		return createAuthority(dir, name, now)
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate authority %s: %w", name, err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read key of certificate authority %s: %w", name, err)
	}
	return &authority{dir: dir, certificate: certificate, key: key, now: now}, nil
}

func createAuthority(dir, name string, now time.Time) (*authority, error) {
	template, err := certificateTemplate(pkix.Name{CommonName: "sendan " + name}, now, authorityLifetime)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage |= x509.KeyUsageCertSign

	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if err := writeCertificate(dir, name, template, template, key, key); err != nil {
		return nil, fmt.Errorf("create certificate authority %s: %w", name, err)
	}
	return openAuthority(dir, name, now)
}

// issue writes <name>.crt and <name>.key for id into dir.
func (a *authority) issue(dir, name string, id identity) error {
	template, err := certificateTemplate(pkix.Name{CommonName: id.name, Organization: id.groups}, a.now, certificateLifetime)
	if err != nil {
		return err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if id.server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		template.DNSNames = []string{"localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	if err := writeCertificate(dir, name, template, a.certificate, key, a.key); err != nil {
		return fmt.Errorf("issue certificate %s: %w", name, err)
	}
	return nil
}

// bundle is the authority's certificate as PEM.
func (a *authority) bundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// pool trusts only this authority.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func certificateFiles(dir, name string) (certFile, keyFile string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}

func certificateTemplate(subject pkix.Name, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-certificateBackdate),
		NotAfter:     now.Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// writeCertificate writes the key first: an authority counts as present once its certificate is.
func writeCertificate(dir, name string, template, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	certFile, keyFile := certificateFiles(dir, name)
	if err := writeKey(keyFile, key); err != nil {
		return err
	}
	return os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// ensureKey writes a key to file unless there is one.
func ensureKey(file string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	return writeKey(file, key)
}

func readCertificate(file string) (*x509.Certificate, error) {
	block, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(block.Bytes)
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	block, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

func readPEM(file string) (*pem.Block, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", file)
	}
	return block, nil
}
