package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// controlPrefix is where the control API is; it needs no token and is not counted.
const controlPrefix = "/_simulator"

// controlHandler answers a control request without the lock; its body becomes JSON.
type controlHandler func(r *http.Request) (any, error)

// control mounts one control request.
func control(mux *http.ServeMux, method, path string, h controlHandler) {
	mux.HandleFunc(method+" "+controlPrefix+path, func(w http.ResponseWriter, r *http.Request) {
		body, err := h(r)
		status := http.StatusOK
		if err != nil {
			status, body = http.StatusBadRequest, fields{"error": err.Error()}
			if errors.Is(err, ErrNotFound) {
				status = http.StatusNotFound
			}
		}
		if text, plain := body.([]byte); plain {
			w.Header().Set("Content-Type", "application/yaml")
			_, _ = w.Write(text) // the client may be gone
			return
		}
		encoded, err := encodeJSON(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(encoded)
	})
}

// readControl reads a control request's body; unknown fields are errors, an empty body is none.
func readControl(r *http.Request, into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("request body: %w", err)
	}
	return nil
}

// changing is a control request that reads a body, does something and answers {"done": true}.
func changing[T any](do func(r *http.Request, in T) error) controlHandler {
	return func(r *http.Request) (any, error) {
		var in T
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		if err := do(r, in); err != nil {
			return nil, err
		}
		return fields{"done": true}, nil
	}
}

func (s *Simulator) controlRoutes(mux *http.ServeMux) {
	control(mux, "GET", "/health", func(*http.Request) (any, error) { return fields{"status": "ok", "time": s.clock.Now()}, nil })
	control(mux, "GET", "/objects", func(*http.Request) (any, error) { return s.Objects(), nil })
	control(mux, "GET", "/clouds.yaml", s.controlCloudsYAML)
	s.controlCallRoutes(mux)
	s.controlFaultRoutes(mux)
	s.controlMachineRoutes(mux)
	s.controlAccountRoutes(mux)
	s.loadBalancer.controlRoutes(mux)
}

func (s *Simulator) controlCallRoutes(mux *http.ServeMux) {
	control(mux, "GET", "/calls", func(*http.Request) (any, error) {
		return fields{"total": s.TotalCalls(), "calls": s.Calls()}, nil
	})
	control(mux, "GET", "/calls/log", func(*http.Request) (any, error) { return fields{"log": s.CallLog()}, nil })
	control(mux, "POST", "/calls/reset", changing(func(*http.Request, struct{}) error {
		s.ResetCalls()
		return nil
	}))
}

func (s *Simulator) controlFaultRoutes(mux *http.ServeMux) {
	control(mux, "POST", "/faults", changing(func(_ *http.Request, f Fault) error { return s.AddFault(f) }))
	control(mux, "GET", "/faults", func(*http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		active, builds := []activeFault{}, []activeBuildFault{}
		for _, f := range s.faults.active {
			active = append(active, *f)
		}
		for _, f := range s.compute.buildFaults {
			builds = append(builds, *f)
		}
		return fields{"faults": active, "builds": builds}, nil
	})
	control(mux, "DELETE", "/faults", changing(func(r *http.Request, _ struct{}) error {
		s.ClearFaults(r.URL.Query().Get("name"))
		return nil
	}))
	control(mux, "POST", "/faults/builds", changing(func(_ *http.Request, f BuildFault) error { return s.AddBuildFault(f) }))
}

func (s *Simulator) controlMachineRoutes(mux *http.ServeMux) {
	control(mux, "GET", "/hosts", func(*http.Request) (any, error) { return fields{"hosts": s.Hosts()}, nil })
	control(mux, "POST", "/hosts/{name}", changing(func(r *http.Request, change HostChange) error {
		return s.SetHost(r.PathValue("name"), change)
	}))
	control(mux, "GET", "/servers", func(*http.Request) (any, error) { return fields{"servers": s.Servers()}, nil })
	control(mux, "POST", "/servers/{id}", changing(func(r *http.Request, change ServerChange) error {
		return s.SetServer(r.PathValue("id"), change)
	}))
	control(mux, "POST", "/images", func(r *http.Request) (any, error) {
		var image Image
		if err := readControl(r, &image); err != nil {
			return nil, err
		}
		if image.Name == "" {
			return nil, errors.New("image: name is empty")
		}
		return fields{"id": s.AddImage(image)}, nil
	})
	control(mux, "DELETE", "/images/{id}", changing(func(r *http.Request, _ struct{}) error {
		return s.RemoveImage(r.PathValue("id"))
	}))
}

func (s *Simulator) controlAccountRoutes(mux *http.ServeMux) {
	control(mux, "POST", "/tokens/revoke", func(r *http.Request) (any, error) {
		var in struct {
			Project string `json:"project"`
		}
		if err := readControl(r, &in); err != nil {
			return nil, err
		}
		return fields{"revoked": s.RevokeTokens(in.Project)}, nil
	})
	type credential struct {
		Credential string `json:"credential"`
	}
	control(mux, "POST", "/credentials/revoke", changing(func(_ *http.Request, in credential) error {
		return s.RevokeCredential(in.Credential)
	}))
	control(mux, "POST", "/credentials/restore", changing(func(*http.Request, struct{}) error {
		s.RestoreCredentials()
		return nil
	}))
	type password struct {
		Password string `json:"password"`
	}
	control(mux, "POST", "/users/{name}", changing(func(r *http.Request, in password) error {
		return s.SetPassword(r.PathValue("name"), in.Password)
	}))
	type limits struct {
		Project string         `json:"project"`
		Limits  map[string]int `json:"limits"`
	}
	control(mux, "POST", "/quotas", changing(func(_ *http.Request, in limits) error {
		for resource, limit := range in.Limits {
			if err := s.SetQuota(in.Project, resource, limit); err != nil {
				return err
			}
		}
		return nil
	}))
}

// controlCloudsYAML answers with a clouds.yaml that leads to this very address.
func (s *Simulator) controlCloudsYAML(r *http.Request) (any, error) {
	cloud := r.URL.Query().Get("cloud")
	setDefault(&cloud, "simulator")
	account := s.ordinaryAccount()
	if user, project := r.URL.Query().Get("user"), r.URL.Query().Get("project"); user != "" {
		setDefault(&project, user)
		chosen, err := s.Account(user, project)
		if err != nil {
			return nil, err
		}
		account = chosen
	}
	if region := r.URL.Query().Get("region"); region != "" {
		account.Region = region
	}
	return account.CloudsYAML(origin(r), cloud), nil
}
