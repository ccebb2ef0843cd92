package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
)

// issue makes a key and a certificate that it signs itself, as the content of a Secret. So the certificate is its own
// authority, as with cert-manager's selfSigned issuers.
func issue(spec cmapi.CertificateSpec, now time.Time) (map[string][]byte, error) {
	addresses, err := parseAddresses(spec.IPAddresses)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject(spec), DNSNames: spec.DNSNames, IPAddresses: addresses,
		NotBefore: now, NotAfter: now.Add(duration(spec)),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true, IsCA: spec.IsCA,
	}
	if spec.IsCA {
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	return signWithNewKey(template)
}

func signWithNewKey(template *x509.Certificate) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	encodedKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	return map[string][]byte{
		corev1.TLSCertKey:       text,
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encodedKey}),
		cmmeta.TLSCAKey:         text,
	}, nil
}

func subject(spec cmapi.CertificateSpec) pkix.Name {
	name := pkix.Name{CommonName: spec.CommonName}
	if spec.Subject != nil {
		name.Organization = spec.Subject.Organizations
	}
	return name
}

func duration(spec cmapi.CertificateSpec) time.Duration {
	if spec.Duration != nil {
		return spec.Duration.Duration
	}
	return cmapi.DefaultCertificateDuration
}

func parseAddresses(texts []string) ([]net.IP, error) {
	var all []net.IP
	for _, text := range texts {
		address := net.ParseIP(text)
		if address == nil {
			return nil, fmt.Errorf("spec.ipAddresses: %q is not an IP address", text)
		}
		all = append(all, address)
	}
	return all, nil
}

// issued reads what a Secret holds, and is nil when that does not serve the Certificate, or not for long any more.
func issued(spec cmapi.CertificateSpec, data map[string][]byte, now time.Time) *x509.Certificate {
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil || !bytes.Equal(data[cmmeta.TLSCAKey], data[corev1.TLSCertKey]) {
		return nil
	}
	certificate := pair.Leaf
	wanted, err := parseAddresses(spec.IPAddresses)
	if err != nil || !slices.EqualFunc(certificate.IPAddresses, wanted, net.IP.Equal) {
		return nil
	}
	if !slices.Equal(certificate.DNSNames, spec.DNSNames) || certificate.IsCA != spec.IsCA || !sameSubject(certificate.Subject, subject(spec)) {
		return nil
	}
	if !now.Before(renewal(certificate)) {
		return nil
	}
	return certificate
}

func sameSubject(a, b pkix.Name) bool {
	return a.CommonName == b.CommonName && slices.Equal(a.Organization, b.Organization)
}

// renewal is when two thirds of the lifetime have passed.
func renewal(certificate *x509.Certificate) time.Time {
	return certificate.NotAfter.Add(-certificate.NotAfter.Sub(certificate.NotBefore) / 3)
}
