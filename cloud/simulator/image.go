package simulator

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// imageService is Glance v2. Its images are those of the scenario and of [Simulator.AddImage].
type imageService struct {
	s       *Simulator
	images  []*Image
	created time.Time
}

func (g *imageService) setUp(s *Simulator) {
	g.s, g.created = s, s.now()
	for _, image := range s.scenario.Images {
		g.add(image)
	}
}

// add makes an image known, in place of one with the same id.
func (g *imageService) add(image Image) string {
	image.complete()
	g.images = keep(g.images, func(other *Image) bool { return other.ID != image.ID })
	g.images = append(g.images, &image)
	return image.ID
}

func (g *imageService) remove(idOrName string) bool {
	before := len(g.images)
	g.images = keep(g.images, func(image *Image) bool { return image.ID != idOrName && image.Name != idOrName })
	return len(g.images) < before
}

// imageErrors writes problems as Glance does: a small HTML page.
func imageErrors(p *problem, _ string) (string, []byte) {
	title := fmt.Sprintf("%d %s", p.status, http.StatusText(p.status))
	page := fmt.Sprintf("<html>\n <head>\n  <title>%s</title>\n </head>\n <body>\n  <h1>%s</h1>\n  %s<br /><br />\n\n\n\n </body>\n</html>", title, title, html.EscapeString(p.message))
	return "text/html; charset=UTF-8", []byte(page)
}

func (g *imageService) routes(rt *router) {
	rt.open("GET /{$}", g.versions)
	rt.open("GET /versions", g.versions)
	rt.handle("GET /v2/images", g.list)
	rt.handle("GET /v2/images/{id}", g.show)
	rt.handle("GET /v2/schemas/image", g.schema)
}

func (g *imageService) versions(c *call) (reply, error) {
	views := []fields{}
	for minor := 15; minor >= 0; minor-- {
		status := "SUPPORTED"
		if minor == 15 {
			status = "CURRENT"
		}
		views = append(views, fields{
			"id": fmt.Sprintf("v2.%d", minor), "status": status, "links": []fields{{"rel": "self", "href": c.base("image") + "/v2/"}},
		})
	}
	return reply{status: http.StatusMultipleChoices, body: fields{"versions": views}}, nil
}

func (g *imageService) byID(id string) *Image {
	id = id[strings.LastIndex(id, "/")+1:] // imageRef may be a URL
	return find(g.images, func(image *Image) bool { return image.ID == id })
}

func (g *imageService) view(image *Image) fields {
	view := fields{}
	for key, value := range image.Properties {
		view[key] = value
	}
	for key, value := range (fields{
		"id": image.ID, "name": image.Name, "status": image.Status, "visibility": image.Visibility, "tags": append([]string{}, image.Tags...),
		"disk_format": image.DiskFormat, "container_format": "bare", "min_disk": image.MinDiskGiB, "min_ram": image.MinMemoryMiB,
		"size": image.SizeBytes, "virtual_size": image.SizeBytes, "protected": false, "os_hidden": false, "owner": shortID("project", "Default", "admin"),
		"checksum": shortID("checksum", image.ID), "os_hash_algo": "sha512", "os_hash_value": strings.Repeat(shortID("hash", image.ID), 4),
		"created_at": stamp(g.created), "updated_at": stamp(g.created), "self": "/v2/images/" + image.ID, "file": "/v2/images/" + image.ID + "/file",
		"schema": "/v2/schemas/image",
	}) {
		view[key] = value
	}
	return view
}

func (g *imageService) list(c *call) (reply, error) {
	query := c.r.URL.Query()
	images := keep(g.images, func(image *Image) bool { return imageFits(image, g.view(image), query) })
	slices.SortStableFunc(images, imageOrder(query))
	images, next, err := page(c, images, maxPage, func(image *Image) string { return image.ID })
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, image := range images {
		views = append(views, g.view(image))
	}
	body := fields{"images": views, "first": "/v2/images", "schema": "/v2/schemas/images"}
	if next != "" { // Glance's links are paths, not URLs
		following, _ := url.Parse(next)
		body["next"] = strings.TrimPrefix(following.RequestURI(), "/image")
	}
	return ok(body)
}

// imageFits applies a list's filters; "in:a,b" is Glance's way to name several values.
func imageFits(image *Image, view fields, query url.Values) bool {
	for parameter, values := range query {
		switch parameter {
		case "limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "os_hidden":
			continue
		case "tag":
			for _, tag := range values {
				if !slices.Contains(image.Tags, tag) {
					return false
				}
			}
			continue
		case "visibility":
			if values[0] != "all" && values[0] != image.Visibility {
				return false
			}
			continue
		}
		wanted := []string{values[0]}
		if several, found := strings.CutPrefix(values[0], "in:"); found {
			wanted = strings.Split(several, ",")
		}
		for i := range wanted {
			wanted[i] = strings.Trim(wanted[i], `"`)
		}
		if !slices.Contains(wanted, fmt.Sprint(view[parameter])) {
			return false
		}
	}
	return true
}

// imageOrder follows sort=key:direction; the default is Glance's, newest first, where all are as old.
func imageOrder(query url.Values) func(a, b *Image) int {
	key, direction, _ := strings.Cut(query.Get("sort"), ":")
	if key == "" {
		key, direction = query.Get("sort_key"), query.Get("sort_dir")
	}
	return func(a, b *Image) int {
		order := strings.Compare(a.ID, b.ID)
		if key == "name" && a.Name != b.Name {
			order = strings.Compare(a.Name, b.Name)
		}
		if direction == "desc" {
			return -order
		}
		return order
	}
}

func (g *imageService) show(c *call) (reply, error) {
	image := g.byID(c.id("id"))
	if image == nil {
		return reply{}, problemf(http.StatusNotFound, "No image found with ID %s", c.id("id"))
	}
	return ok(g.view(image))
}

func (g *imageService) schema(*call) (reply, error) {
	properties := fields{}
	for _, name := range []string{"id", "name", "status", "visibility", "checksum", "owner", "disk_format", "container_format", "self", "file", "schema", "created_at", "updated_at"} {
		properties[name] = fields{"type": "string"}
	}
	return ok(fields{"name": "image", "properties": properties, "additionalProperties": fields{"type": "string"}})
}
