package cloud

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
)

// newestComputeMinor is the newest Nova microversion this package was written for (2023.1). Older
// clouds get their own newest one.
const newestComputeMinor = 90

// Nova microversions something in this package depends on.
const (
	minorTagsOnCreate    = 52
	minorServerGroupRule = 64
)

// computeVersion is the Nova microversion in use, 2.<minor>; 0 for a cloud without microversions.
type computeVersion struct{ minor int }

// header is what a client sends; empty for none.
func (v computeVersion) header() string {
	if v.minor == 0 {
		return ""
	}
	return "2." + strconv.Itoa(v.minor)
}

// computeVersion asks Nova once in the life of a session.
func (s *Session) computeVersion(ctx context.Context) (computeVersion, error) {
	return s.lookups.computeVersion.get(ctx, struct{}{}, s.askComputeVersion)
}

func (s *Session) askComputeVersion(ctx context.Context) (computeVersion, error) {
	client, err := s.bareClient(ctx, computeService)
	if err != nil {
		return computeVersion{}, err
	}
	root, err := versionRoot(client.Endpoint)
	if err != nil {
		return computeVersion{}, err
	}
	var document struct {
		Version struct {
			Newest string `json:"version"`
		} `json:"version"`
	}
	// Gophercloud's zero value would refuse the 200 and 300 some proxies mix up.
	response, err := client.Get(ctx, root, &document, &gophercloud.RequestOpts{OkCodes: []int{200, 300}})
	if err != nil {
		return computeVersion{}, s.classify("GET compute version", err)
	}
	_ = response.Body.Close()
	newest, err := parseMicroversion(document.Version.Newest)
	if err != nil {
		return computeVersion{}, Errorf(Transient, "the compute service at %s: %v", root, err)
	}
	return computeVersion{minor: min(newest, newestComputeMinor)}, nil
}

// versionRoot cuts what follows the version in an address: …/v2.1/<project id>/ is …/v2.1/.
func versionRoot(address string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("read the address of the compute service: %w", err)
	}
	segments := strings.Split(parsed.Path, "/")
	for i, segment := range segments {
		if versionSegment.MatchString(segment) {
			parsed.Path = strings.Join(segments[:i+1], "/") + "/"
			break
		}
	}
	return parsed.String(), nil
}

// parseMicroversion reads "2.93"; an empty text is a cloud without microversions.
func parseMicroversion(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	minor, ok := strings.CutPrefix(text, "2.")
	number, err := strconv.Atoi(minor)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is not a microversion", text)
	}
	return number, nil
}
