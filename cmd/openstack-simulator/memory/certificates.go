package memory

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// certificateLifetime is kubeadm's for what it issues.
const certificateLifetime = 365 * 24 * time.Hour

// authority is a certificate authority that a machine got in its user data.
type authority struct {
	certificate *x509.Certificate
	pem         string
	key         crypto.Signer
}

func readAuthority(files map[string]string, path string) (*authority, error) {
	ca := &authority{pem: files[path+".crt"]}
	block, _ := pem.Decode([]byte(ca.pem))
	if block == nil {
		return nil, fmt.Errorf("%s.crt: no PEM certificate", path)
	}
	var err error
	if ca.certificate, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("%s.crt: %w", path, err)
	}
	if ca.key, err = parseKey(files[path+".key"]); err != nil {
		return nil, fmt.Errorf("%s.key: %w", path, err)
	}
	return ca, nil
}

func parseKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM private key")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

// fingerprint identifies the authority as kubeadm's --discovery-token-ca-cert-hash does.
func (a *authority) fingerprint() string {
	sum := sha256.Sum256(a.certificate.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// newServerKey makes the key that all servers of a backend share: issuing a certificate is cheap, making a key for
// each of thousands of machines is not, and nobody relies on its secrecy.
func newServerKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// issue signs a serving certificate for host names and addresses. Validity follows the real clock, as TLS peers do.
func (a *authority) issue(key crypto.Signer, commonName string, hosts []string) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("draw a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    a.certificate.NotBefore,
		NotAfter:     time.Now().Add(certificateLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue a certificate for %s: %w", commonName, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// serverTLS is the configuration of a server that knows its clients by certificates of an authority.
func (a *authority) serverTLS(certificate tls.Certificate, clients tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{certificate},
		ClientCAs:    a.pool(),
		ClientAuth:   clients,
		NextProtos:   []string{"h2", "http/1.1"},
		// A ticket would be written before the client reads, which an unbuffered connection cannot do.
		SessionTicketsDisabled: true,
	}
}
