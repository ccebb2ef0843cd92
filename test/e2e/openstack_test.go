package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// openstack is the cloud's own API, as whoever has an application credential of a project uses it. It is not gophercloud, which
// stays in package cloud, nor that package, which reads what is Sendan's.
type openstack struct {
	url   string
	token string
}

// credentialOf is the name, the id and the secret of a project's application credential.
func credentialOf(project string) string { return project + "-credential" }

// login does what `openstack token issue` does.
func (c *cloud) login(ctx context.Context, project string) (*openstack, error) {
	o := &openstack{url: c.URL}
	credential := map[string]string{"id": credentialOf(project), "secret": credentialOf(project)}
	response, err := o.send(ctx, http.MethodPost, "/identity/v3/auth/tokens", map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"application_credential"}, "application_credential": credential},
	}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	o.token = response.Header.Get("X-Subject-Token")
	return o, nil
}

// get reads one object or a list.
func (o *openstack) get(ctx context.Context, path string, into any) error {
	response, err := o.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return json.NewDecoder(response.Body).Decode(into)
}

func (o *openstack) delete(ctx context.Context, path string) error {
	response, err := o.send(ctx, http.MethodDelete, path, nil)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// send returns an error for every answer that is no success.
func (o *openstack) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, o.url+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Auth-Token", o.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		said, _ := io.ReadAll(response.Body) // part of it is better than nothing
		_ = response.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(said)))
	}
	return response, nil
}
