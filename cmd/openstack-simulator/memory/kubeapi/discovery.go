package kubeapi

import (
	"context"
	"net/http"
	"runtime"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

type versionKey struct{}

// WithVersion says which Kubernetes version the API server claims to be that answers a request.
func WithVersion(ctx context.Context, kubernetesVersion string) context.Context {
	return context.WithValue(ctx, versionKey{}, kubernetesVersion)
}

// serveDiscovery answers what is not about an object; false when the request is.
func (c *Cluster) serveDiscovery(w http.ResponseWriter, r *http.Request) bool {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var document any
	switch {
	case r.URL.Path == "/healthz" || r.URL.Path == "/livez" || r.URL.Path == "/readyz":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok"))
		return true
	case r.URL.Path == "/":
		document = metav1.RootPaths{Paths: []string{"/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"}}
	case r.URL.Path == "/version":
		document = versionInfo(r.Context())
	case len(parts) == 1 && parts[0] == "api":
		document = metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}}
	case len(parts) == 1 && parts[0] == "apis":
		document = c.groups()
	case len(parts) == 2 && parts[0] == "apis":
		document = c.group(parts[1])
	case len(parts) == 2 && parts[0] == "api":
		document = c.resourceList(schema.GroupVersion{Version: parts[1]})
	case len(parts) == 3 && parts[0] == "apis":
		document = c.resourceList(schema.GroupVersion{Group: parts[1], Version: parts[2]})
	}
	if document == nil {
		return false
	}
	if err := writeJSON(w, http.StatusOK, document); err != nil {
		writeError(w, err)
	}
	return true
}

func versionInfo(ctx context.Context) version.Info {
	gitVersion, _ := ctx.Value(versionKey{}).(string)
	info := version.Info{
		GitVersion: gitVersion, GitTreeState: "clean", GoVersion: runtime.Version(),
		Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if parts := strings.SplitN(strings.TrimPrefix(gitVersion, "v"), ".", 3); len(parts) == 3 {
		info.Major, info.Minor = parts[0], parts[1]
	}
	return info
}

func (c *Cluster) groups() *metav1.APIGroupList {
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	known := map[string]int{}
	for _, r := range c.resources() {
		if r.group == "" {
			continue
		}
		served := metav1.GroupVersionForDiscovery{GroupVersion: r.groupVersion().String(), Version: r.version}
		at, ok := known[r.group]
		if !ok {
			known[r.group] = len(list.Groups)
			list.Groups = append(list.Groups, metav1.APIGroup{Name: r.group, Versions: []metav1.GroupVersionForDiscovery{served}, PreferredVersion: served})
			continue
		}
		if group := &list.Groups[at]; !servesVersion(group, served) {
			group.Versions = append(group.Versions, served)
		}
	}
	return list
}

func servesVersion(group *metav1.APIGroup, version metav1.GroupVersionForDiscovery) bool {
	for _, v := range group.Versions {
		if v == version {
			return true
		}
	}
	return false
}

// group is nil as an interface when nobody serves it, so that the caller answers 404.
func (c *Cluster) group(name string) any {
	for _, group := range c.groups().Groups {
		if group.Name == name {
			group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
			return group
		}
	}
	return nil
}

func (c *Cluster) resourceList(gv schema.GroupVersion) any {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, r := range c.resources() {
		if r.groupVersion() == gv {
			list.APIResources = append(list.APIResources, r.apiResources()...)
		}
	}
	if len(list.APIResources) == 0 {
		return nil
	}
	return list
}
